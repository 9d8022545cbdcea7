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
constexpr unsigned long kGetDirtyLog = 0x4010ae42;
constexpr unsigned long kSetUserMemoryRegion2 = 0x40a0ae49;
constexpr unsigned long kIrqfd = 0x4020ae76;
constexpr unsigned long kIoeventfd = 0x4040ae79;
constexpr unsigned long kRegisterCoalescedMmio = 0x4010ae67;
constexpr unsigned long kUnregisterCoalescedMmio = 0x4010ae68;
constexpr unsigned long kSetGsiRouting = 0x4008ae6a;
constexpr unsigned long kCreatePit2 = 0x4040ae77;
constexpr unsigned long kSetPmuEventFilter = 0x4020aeb2;
constexpr unsigned long kTranslate = 0xc018ae85;
constexpr unsigned long kPreFaultMemory = 0xc040aed5;
constexpr unsigned long kXenHvmConfig = 0x4038ae7a;
constexpr unsigned long kMemoryEncryptOp = 0xc008aeba;
constexpr unsigned long kMemoryEncryptRegRegion = 0x8010aebb;
constexpr unsigned long kMemoryEncryptUnregRegion = 0x8010aebc;
constexpr unsigned long kHypervEventfd = 0x4018aebd;
constexpr unsigned long kClearDirtyLog = 0xc018aec0;
constexpr unsigned long kX86SetMsrFilter = 0x4188aec6;
constexpr unsigned long kXenHvmSetAttr = 0x4048aec9;
constexpr unsigned long kGetStatsFd = 0xaece;
constexpr unsigned long kCreateGuestMemfd = 0xc040aed4;
constexpr unsigned long kCreateDevice = 0xc00caee0;
constexpr unsigned long kSetDeviceAttr = 0x4018aee1;
constexpr unsigned long kGetDeviceAttr = 0x4018aee2;
constexpr uint16_t kXenSharedInfoHva = 6;
constexpr uint32_t kGuestMemfdMmap = 1;
// No number of KVM's: tells TDX commands from SEV's, which share a request, in pointers.cc.
constexpr uint32_t kTdxCommands = 0x1000;
constexpr unsigned long kRun = 0xae80;
constexpr uint32_t kCapXsave2 = 208;
constexpr uint32_t kExitIo = 2;
constexpr uint32_t kExitHlt = 5;
constexpr uint32_t kExitMmio = 6;
constexpr uint32_t kExitIntr = 10;
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

struct UserspaceMemoryRegion2 {
  UserspaceMemoryRegion base;
  uint64_t guest_memfd_offset;
  uint32_t guest_memfd;
  uint32_t pad1;
  uint64_t pad2[14];
};
static_assert(sizeof(UserspaceMemoryRegion2) == 160, "size is part of the request number");

struct DirtyLog {
  uint32_t slot;
  uint32_t padding;
  uint64_t bitmap;
};
static_assert(sizeof(DirtyLog) == 16, "size is part of the request number");

struct ClearDirtyLog {
  uint32_t slot;
  uint32_t page_count;
  uint64_t first_page;
  uint64_t bitmap;
};
static_assert(sizeof(ClearDirtyLog) == 24, "size is part of the request number");

struct XenHvmConfig {
  uint32_t flags;
  uint32_t msr;
  uint64_t blob_addr_32;
  uint64_t blob_addr_64;
  uint8_t blob_size_32;
  uint8_t blob_size_64;
  uint8_t pad2[30];
};
static_assert(sizeof(XenHvmConfig) == 56, "size is part of the request number");

struct XenHvmAttr {
  uint16_t type;
  uint16_t pad[3];
  uint64_t value[8];
};
static_assert(sizeof(XenHvmAttr) == 72, "size is part of the request number");

struct EncRegion {
  uint64_t addr;
  uint64_t size;
};

// struct kvm_sev_cmd and struct kvm_tdx_cmd: id and data are in the same place.
struct EncryptCommand {
  uint32_t id;
  uint32_t flags;
  uint64_t data;
  union {
    uint64_t hw_error;
    struct {
      uint32_t error;
      uint32_t sev_fd;
    } sev;
  };
};
static_assert(sizeof(EncryptCommand) == 24, "layout of both commands");

struct CreateGuestMemfd {
  uint64_t size;
  uint64_t flags;
  uint64_t reserved[6];
};
static_assert(sizeof(CreateGuestMemfd) == 64, "size is part of the request number");

struct CreateDevice {
  uint32_t type;
  uint32_t fd;
  uint32_t flags;
};
static_assert(sizeof(CreateDevice) == 12, "size is part of the request number");

struct DeviceAttr {
  uint32_t flags;
  uint32_t group;
  uint64_t attr;
  uint64_t addr;
};
static_assert(sizeof(DeviceAttr) == 24, "size is part of the request number");

// The head of struct kvm_run.
struct RunPage {
  uint8_t request_interrupt_window;
  uint8_t immediate_exit;
  uint8_t padding[6];
  uint32_t exit_reason;
};
static_assert(offsetof(RunPage, exit_reason) == 8, "layout of struct kvm_run");

// bench/: how many runs are left and whether other requests are replaced too, in a part of the page
// that the kernel does not use; and the request in their place.
constexpr size_t kBareRunsLeft = 3840;
constexpr size_t kBareCalls = 3844;
constexpr unsigned long kBareRequest = 0xff80;

// What follows at kExitFields, by the reason.
constexpr size_t kExitFields = 32;
struct IoExit {
  uint8_t direction;
  uint8_t size;
  uint16_t port;
  uint32_t count;
  uint64_t data_offset;
};
struct MmioExit {
  uint64_t phys_addr;
  uint8_t data[8];
  uint32_t len;
  uint8_t is_write;
};
static_assert(offsetof(IoExit, data_offset) == 8 && offsetof(MmioExit, is_write) == 20,
              "layout of struct kvm_run");

}  // namespace node_kvm
