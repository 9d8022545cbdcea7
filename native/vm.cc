#include "vm.h"

#include <sys/mman.h>

#include "futex.h"
#include "kvm_numbers.h"
#include "userfault.h"
#include "vcpu.h"

namespace node_kvm {
namespace {

constexpr uint32_t kMemGuestMemfd = 4;  // KVM_MEM_GUEST_MEMFD
constexpr size_t kPage = 4096;
constexpr uint64_t kHeldXenSharedInfo = 0;

}  // namespace

bool SlotTable::served_by_javascript(pid_t owner) {
  std::lock_guard<std::mutex> lock(mutex);
  for (auto& [number, slot] : regions) {
    if (slot.region && slot.region->served_by_javascript(owner)) return true;
  }
  return false;
}

void SlotTable::add_vcpu(Vcpu* vcpu) {
  std::lock_guard<std::mutex> lock(vcpus_mutex_);
  vcpus_.insert(vcpu);
}

void SlotTable::remove_vcpu(Vcpu* vcpu) {
  std::lock_guard<std::mutex> lock(vcpus_mutex_);
  vcpus_.erase(vcpu);
}

// ORDER: nobody gets in, then the look at who is in. Vcpu::enter() does the opposite.
Quiet::Quiet(SlotTable& slots, Region* added) {
  if (!Userfault::any_by_javascript()) return;
  bool served = added != nullptr && added->served_by_javascript(0);
  if (!served && !slots.served_by_javascript(0)) return;
  slots_ = &slots;
  slots.quiet.fetch_add(1, std::memory_order_seq_cst);
  std::lock_guard<std::mutex> lock(slots.vcpus_mutex_);
  for (Vcpu* vcpu : slots.vcpus_) {
    if (vcpu->in_use()) error_ = kWouldDeadlock;
  }
}

Quiet::~Quiet() {
  if (slots_ != nullptr && slots_->quiet.fetch_sub(1, std::memory_order_seq_cst) == 1) {
    futex_wake(slots_->quiet);
  }
}

bool RegionPart::has(uint64_t size) const {
  return region != nullptr && region->data() != nullptr && offset <= region->size() &&
         size <= region->size() - offset;
}

Result Vm::create(System& system, uint64_t type, Ref<Vm>* out) {
  Use use(system);
  if (use.error()) return use.error();
  Result size = checked_ioctl(system.fd(), kGetVcpuMmapSize, 0);
  if (size < 0) return size;
  Result fd;
  do {
    fd = checked_ioctl(system.fd(), kCreateVm, type);
  } while (fd == -EINTR);  // KERNEL: set-up of the MMU notifier waits interruptibly
  if (fd < 0) return fd;
  *out = Ref<Vm>::adopt(new Vm(static_cast<int>(fd), static_cast<size_t>(size)));
  return 0;
}

Result Vm::set_slot(unsigned long ioctl_request, const SlotRequest& request) {
  Use use(*this);
  if (use.error()) return use.error();
  UserspaceMemoryRegion2 argument{};
  argument.base = {request.slot, request.flags, request.gpa, request.size, 0};
  bool has_guest_memfd = request.guest_memfd.region != nullptr;
  if (request.size != 0) {
    // Memory that is never shared with the host needs no address.
    if (request.memory.has(request.size)) {
      argument.base.userspace_addr = request.memory.address();
    } else if (request.memory.region != nullptr || !has_guest_memfd) {
      return -EINVAL;
    }
  }
  if (has_guest_memfd) {
    argument.guest_memfd = static_cast<uint32_t>(request.guest_memfd.region->guest_memfd());
    argument.guest_memfd_offset = request.guest_memfd.offset;
  } else if (request.flags & kMemGuestMemfd) {
    return -EINVAL;
  }
  Quiet quiet(*slots_, request.memory.region);
  if (quiet.error()) return quiet.error();
  std::lock_guard<std::mutex> lock(slots_->mutex);
  Result result = checked_ioctl(fd(), ioctl_request, &argument);
  if (result < 0) return result;
  if (request.size == 0) {
    slots_->regions.erase(request.slot);
  } else {
    slots_->regions[request.slot] = {Ref<Region>(request.memory.region),
                                     Ref<Region>(request.guest_memfd.region),
                                     request.size,
                                     request.gpa,
                                     request.memory.offset,
                                     argument.base.flags};
  }
  return result;
}

Result Vm::set_user_memory_region(const SlotRequest& request) {
  return set_slot(kSetUserMemoryRegion, request);
}

Result Vm::set_user_memory_region2(const SlotRequest& request) {
  return set_slot(kSetUserMemoryRegion2, request);
}

Result Vm::list_slots(uint32_t first, SlotInfo* slots, size_t capacity) {
  Use use(*this);
  if (use.error()) return use.error();
  std::lock_guard<std::mutex> lock(slots_->mutex);
  size_t count = 0;
  auto at = slots_->regions.lower_bound(first);
  for (; at != slots_->regions.end() && count < capacity; ++at, ++count) {
    const MemorySlot& slot = at->second;
    double region = slot.region ? static_cast<double>(slot.region->id()) : 0;
    slots[count] = {static_cast<double>(at->first),
                    static_cast<double>(slot.flags),
                    static_cast<double>(slot.gpa),
                    static_cast<double>(slot.size),
                    region,
                    static_cast<double>(slot.offset)};
  }
  return static_cast<Result>(count);
}

Result Vm::change_slot(uint32_t slot, uint32_t flags, uint64_t gpa) {
  Use use(*this);
  if (use.error()) return use.error();
  Quiet quiet(*slots_);
  if (quiet.error()) return quiet.error();
  std::lock_guard<std::mutex> lock(slots_->mutex);
  auto found = slots_->regions.find(slot);
  if (found == slots_->regions.end()) return -ENOENT;
  MemorySlot& known = found->second;
  // Such slots can only be deleted, and may have no address to give.
  if (known.guest_memfd) return -EINVAL;
  UserspaceMemoryRegion2 argument{};
  argument.base = {slot, flags, gpa, known.size,
                   reinterpret_cast<uint64_t>(known.region->data()) + known.offset};
  Result result = checked_ioctl(fd(), kSetUserMemoryRegion, &argument);
  if (result < 0) return result;
  known.flags = flags;
  known.gpa = gpa;
  return result;
}

Result Vm::create_guest_memfd(uint64_t size, uint64_t flags, Ref<Region>* out) {
  Use use(*this);
  if (use.error()) return use.error();
  CreateGuestMemfd argument{size, flags, {}};
  Result fd = checked_ioctl(this->fd(), kCreateGuestMemfd, &argument);
  if (fd < 0) return fd;
  *out = Region::adopt_guest_memfd(static_cast<int>(fd), size, (flags & kGuestMemfdMmap) != 0);
  return *out ? 0 : -errno;
}

Result Vm::xen_hvm_config(uint32_t flags, uint32_t msr, std::pair<uint8_t*, size_t> blob32,
                          std::pair<uint8_t*, size_t> blob64) {
  if (blob32.second % kPage || blob64.second % kPage) return -EINVAL;
  if (blob32.second / kPage > UINT8_MAX || blob64.second / kPage > UINT8_MAX) return -E2BIG;
  Use use(*this);
  if (use.error()) return use.error();
  auto held32 = Ref<HeldBytes>::adopt(new HeldBytes(blob32.first, blob32.second));
  auto held64 = Ref<HeldBytes>::adopt(new HeldBytes(blob64.first, blob64.second));
  XenHvmConfig argument{};
  argument.flags = flags;
  argument.msr = msr;
  argument.blob_addr_32 = reinterpret_cast<uint64_t>(held32->data());
  argument.blob_addr_64 = reinterpret_cast<uint64_t>(held64->data());
  argument.blob_size_32 = static_cast<uint8_t>(blob32.second / kPage);
  argument.blob_size_64 = static_cast<uint8_t>(blob64.second / kPage);
  std::lock_guard<std::mutex> lock(slots_->mutex);
  Result result = checked_ioctl(fd(), kXenHvmConfig, &argument);
  if (result < 0) return result;
  if (held32->data()) slots_->held_bytes.push_back(std::move(held32));
  if (held64->data()) slots_->held_bytes.push_back(std::move(held64));
  return result;
}

Result Vm::set_xen_shared_info(RegionPart page) {
  if (page.region != nullptr && !page.has(kPage)) return -EINVAL;
  Use use(*this);
  if (use.error()) return use.error();
  XenHvmAttr argument{};
  argument.type = kXenSharedInfoHva;
  if (page.region != nullptr) argument.value[0] = page.address();
  std::lock_guard<std::mutex> lock(slots_->mutex);
  Result result = checked_ioctl(fd(), kXenHvmSetAttr, &argument);
  if (result >= 0) slots_->held_regions[kHeldXenSharedInfo] = Ref<Region>(page.region);
  return result;
}

Result Vm::register_encrypted(RegionPart part, uint64_t size) {
  if (!part.has(size)) return -EINVAL;
  Use use(*this);
  if (use.error()) return use.error();
  EncRegion argument{part.address(), size};
  std::lock_guard<std::mutex> lock(slots_->mutex);
  Result result = checked_ioctl(fd(), kMemoryEncryptRegRegion, &argument);
  if (result >= 0) {
    slots_->encrypted.emplace(std::pair(argument.addr, size), Ref<Region>(part.region));
  }
  return result;
}

Result Vm::unregister_encrypted(RegionPart part, uint64_t size) {
  if (!part.has(size)) return -EINVAL;
  Use use(*this);
  if (use.error()) return use.error();
  EncRegion argument{part.address(), size};
  std::lock_guard<std::mutex> lock(slots_->mutex);
  Result result = checked_ioctl(fd(), kMemoryEncryptUnregRegion, &argument);
  if (result < 0) return result;
  auto found = slots_->encrypted.find({argument.addr, size});
  if (found != slots_->encrypted.end()) slots_->encrypted.erase(found);
  return result;
}

}  // namespace node_kvm
