#include "requests.h"

#include <array>
#include <cstring>

#include "kvm_numbers.h"

namespace node_kvm {
namespace {

#define KVM_REQUEST(name, number, fixed_size, scopes, arg, count_offset, count_size, element_size, \
                    max_count, flags)                                                              \
  {#name, number, fixed_size, scopes, arg, count_offset, count_size, element_size, flags},
constexpr Request kRequests[] = {
#include "requests.inc"
};
#undef KVM_REQUEST

#define KVM_POINTER_CAPABILITY(name, number) number,
constexpr uint32_t kPointerCapabilities[] = {
#include "requests.inc"
};
#undef KVM_POINTER_CAPABILITY

constexpr size_t kCount = sizeof(kRequests) / sizeof(kRequests[0]);

// Several requests share the low byte of their number; `next` chains them.
struct Index {
  std::array<uint8_t, 256> first{};
  std::array<uint8_t, kCount> next{};
  constexpr Index() {
    static_assert(kCount < 255, "indices are bytes and 255 ends a chain");
    for (auto& entry : first) entry = 255;
    for (size_t i = 0; i < kCount; i++) {
      uint8_t slot = kRequests[i].number & 0xff;
      next[i] = first[slot];
      first[slot] = static_cast<uint8_t>(i);
    }
  }
};

}  // namespace

const Request* find_request(uint32_t number, ScopeMask scope) {
  static const Index index;
  for (uint8_t i = index.first[number & 0xff]; i != 255; i = index.next[i]) {
    if (kRequests[i].number == number && (kRequests[i].scopes & scope)) return &kRequests[i];
  }
  return nullptr;
}

bool fits(const Request& request, const uint8_t* data, size_t length, size_t xsave2_size) {
  if (length < request.fixed_size) return false;
  if (request.flags & kSizeXsave2) return length >= xsave2_size;
  if (request.count_size == 0) return true;
  uint64_t count = 0;
  std::memcpy(&count, data + request.count_offset, request.count_size);
  if (request.flags & kSizeField) return count <= length;
  // At least one byte an element: a division cannot overflow as the product could.
  return count <= (length - request.fixed_size) / request.element_size;
}

bool waits_for_vcpus(uint32_t number) {
  switch (number) {
    case kSetUserMemoryRegion:
    case kSetUserMemoryRegion2:
    case kIoeventfd:
    case kRegisterCoalescedMmio:
    case kUnregisterCoalescedMmio:
    case kCreatePit2:
    case kSetGsiRouting:
    case kSetPmuEventFilter:
    case kX86SetMsrFilter:
      return true;
    default:
      return false;
  }
}

bool touches_guest_memory(unsigned long number) {
  return number == kTranslate || number == kPreFaultMemory;
}

bool carries_pointer(const Request& request, const uint8_t* data) {
  if (request.number != kEnableCap) return false;
  uint32_t capability;
  std::memcpy(&capability, data, sizeof(capability));
  for (uint32_t with_pointer : kPointerCapabilities) {
    if (capability == with_pointer) return true;
  }
  return false;
}

}  // namespace node_kvm
