// The few numbers and layouts the native layer itself needs. They are here, and not taken from
// linux/kvm.h, because a host's header may be years older than its kernel. tests compare them with
// the generated tables.
#pragma once

#include <cstddef>
#include <cstdint>

namespace node_kvm {

constexpr unsigned long kCreateVm = 0xae01;
constexpr unsigned long kCheckExtension = 0xae03;
constexpr unsigned long kGetVcpuMmapSize = 0xae04;
constexpr unsigned long kCreateVcpu = 0xae41;
constexpr unsigned long kSetUserMemoryRegion = 0x4020ae46;
constexpr unsigned long kEnableCap = 0x4068aea3;
constexpr unsigned long kRun = 0xae80;
constexpr uint32_t kCapXsave2 = 208;
constexpr uint32_t kExitMemoryFault = 39;
// What KVM_GET_XSAVE has always copied; KVM_CAP_XSAVE2 can only say more.
constexpr size_t kXsaveSize = 4096;

struct UserspaceMemoryRegion {
  uint32_t slot;
  uint32_t flags;
  uint64_t guest_phys_addr;
  uint64_t memory_size;
  uint64_t userspace_addr;
};
static_assert(sizeof(UserspaceMemoryRegion) == 32, "size is part of the request number");

// The head of struct kvm_run.
struct RunPage {
  uint8_t request_interrupt_window;
  uint8_t immediate_exit;
  uint8_t padding[6];
  uint32_t exit_reason;
};
static_assert(offsetof(RunPage, exit_reason) == 8, "layout of struct kvm_run");

}  // namespace node_kvm
