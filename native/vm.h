// A VM's file and its memory slots.
#pragma once

#include <map>
#include <mutex>

#include "memory.h"
#include "system.h"

namespace node_kvm {

// Which RAM the kernel VM may touch. Kept by everything that keeps the kernel VM alive (the VM's fd
// and each vCPU's): no region is unmapped while a guest could still run on it.
class SlotTable final : public RefCounted {
 public:
  std::mutex mutex;  // held across the ioctl, so that the table and the kernel never disagree
  std::map<uint32_t, Ref<Region>> regions;

 private:
  ~SlotTable() override = default;
};

class Vm final : public File {
 public:
  // A VM, or an error. The type is KVM_CREATE_VM's argument.
  static Result create(System& system, uint64_t type, Ref<Vm>* out);

  // KVM_SET_USER_MEMORY_REGION; a size of zero deletes the slot and needs no region.
  Result set_user_memory_region(uint32_t slot, uint32_t flags, uint64_t gpa, uint64_t size,
                                Region* region, uint64_t offset);
  const Ref<SlotTable>& slots() const { return slots_; }
  size_t vcpu_mmap_size() const { return vcpu_mmap_size_; }

 private:
  Vm(int fd, size_t vcpu_mmap_size)
      : File(Kind::kVm, fd),
        vcpu_mmap_size_(vcpu_mmap_size),
        slots_(Ref<SlotTable>::adopt(new SlotTable)) {}
  ~Vm() override = default;
  void on_closed() override { slots_.reset(); }

  size_t vcpu_mmap_size_;
  Ref<SlotTable> slots_;
};

}  // namespace node_kvm
