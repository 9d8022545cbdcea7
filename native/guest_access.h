// Reads and writes of memory that the guest changes at any time. Each is one access of the machine:
// what was checked is what is used, as the compiler cannot read it a second time.
#pragma once

#include <cstdint>

namespace node_kvm {

// Fields of descriptors, at any alignment.
template <typename T>
T read_once(const uint8_t* at) {
  struct __attribute__((packed)) Unaligned {
    volatile T value;
  };
  return reinterpret_cast<const Unaligned*>(at)->value;
}

template <typename T>
void write_once(uint8_t* at, T value) {
  struct __attribute__((packed)) Unaligned {
    volatile T value;
  };
  reinterpret_cast<Unaligned*>(at)->value = value;
}

// Indices and flags, aligned. ORDER: what the driver wrote before is seen after.
template <typename T>
T load_acquire(const uint8_t* at) {
  return __atomic_load_n(reinterpret_cast<const T*>(at), __ATOMIC_ACQUIRE);
}

// ORDER: what was written before is there when the driver sees this.
template <typename T>
void store_release(uint8_t* at, T value) {
  __atomic_store_n(reinterpret_cast<T*>(at), value, __ATOMIC_RELEASE);
}

// ORDER: between the write of a thing and the read of whether the driver wants to hear of it, which
// the driver does the other way round.
inline void full_fence() { __atomic_thread_fence(__ATOMIC_SEQ_CST); }

}  // namespace node_kvm
