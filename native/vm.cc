#include "vm.h"

#include "kvm_numbers.h"

namespace node_kvm {

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

Result Vm::set_user_memory_region(uint32_t slot, uint32_t flags, uint64_t gpa, uint64_t size,
                                  Region* region, uint64_t offset) {
  Use use(*this);
  if (use.error()) return use.error();
  UserspaceMemoryRegion argument{slot, flags, gpa, size, 0};
  if (size != 0) {
    if (region == nullptr || offset > region->size() || size > region->size() - offset) {
      return -EINVAL;
    }
    argument.userspace_addr = reinterpret_cast<uint64_t>(region->data()) + offset;
  }
  std::lock_guard<std::mutex> lock(slots_->mutex);
  Result result =
      checked_ioctl(fd(), kSetUserMemoryRegion, reinterpret_cast<unsigned long>(&argument));
  if (result < 0) return result;
  if (size == 0) {
    slots_->regions.erase(slot);
  } else {
    slots_->regions[slot] = Ref<Region>(region);
  }
  return result;
}

}  // namespace node_kvm
