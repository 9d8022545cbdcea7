// The vCPUs, or VMs, that one environment uses, each under a number, so that one function serves
// them all. V8 calls a native function straight from compiled code only where it is always the same
// one: with a function for each vCPU, a second vCPU in the process would make every run 30 ns
// slower.
#pragma once

#include <vector>

#include "base.h"

namespace node_kvm {

// THREAD: the environment's.
template <typename T>
class HandleTable final : public RefCounted {
 public:
  uint32_t add(Ref<T> object) {
    for (uint32_t slot = 0; slot < objects_.size(); slot++) {
      if (objects_[slot]) continue;
      objects_[slot] = std::move(object);
      return slot;
    }
    objects_.push_back(std::move(object));
    return static_cast<uint32_t>(objects_.size() - 1);
  }
  void remove(uint32_t slot) { objects_[slot].reset(); }
  // Null for a number that names none.
  T* at(uint32_t slot) const { return slot < objects_.size() ? objects_[slot].get() : nullptr; }

 private:
  ~HandleTable() override = default;
  std::vector<Ref<T>> objects_;
};

}  // namespace node_kvm
