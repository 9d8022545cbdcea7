// The table of KVM requests: which fd each belongs to and how many bytes its argument has. It is
// what lets one generic ioctl path be safe: the kernel never sees a buffer shorter than it reads.
#pragma once

#include "base.h"

namespace node_kvm {

enum class ArgKind : uint8_t { kNone, kValue, kPointer };

enum RequestFlags : uint8_t {
  kHasPointers = 1,  // the struct holds addresses or fds: only a native function may build it
  kSizeXsave2 = 2,   // as many bytes as KVM_CAP_XSAVE2 says
  kSizeField = 4,    // the struct's own field holds its whole size
  kReturnsFd = 8,    // a native function takes ownership of the result
};

enum ScopeMask : uint8_t { kScopeSystem = 1, kScopeVm = 2, kScopeVcpu = 4, kScopeDevice = 8 };

struct Request {
  const char* name;
  uint32_t number;
  uint32_t fixed_size;
  uint8_t scopes;
  ArgKind arg;
  uint8_t count_offset;
  uint8_t count_size;  // 0: not of variable length
  uint32_t element_size;
  uint8_t flags;
};

// Null when no request of this number exists for the scope.
const Request* find_request(uint32_t number, ScopeMask scope);

// Whether `length` bytes at `data` are enough for what the kernel will read or write.
bool fits(const Request& request, const uint8_t* data, size_t length, size_t xsave2_size);

// Whether the kernel waits in it until no vCPU of the VM is in the middle of an access to memory.
bool waits_for_vcpus(uint32_t number);

// Whether this request of a vCPU reads or writes guest RAM there and then.
bool touches_guest_memory(unsigned long number);

// Whether these bytes are KVM_ENABLE_CAP for a capability whose argument is an address or an fd.
bool carries_pointer(const Request& request, const uint8_t* data);

}  // namespace node_kvm
