// A VM's file, its memory slots and whatever else of this process the kernel reads on its behalf.
#pragma once

#include <map>
#include <mutex>
#include <set>
#include <vector>

#include "dirty_pages.h"
#include "exit_table.h"
#include "memory.h"
#include "system.h"

namespace node_kvm {

// Bytes that the kernel may read at any later time.
class HeldBytes final : public RefCounted {
 public:
  HeldBytes(const uint8_t* data, size_t size) : bytes_(data, data + size) {}
  uint8_t* data() { return bytes_.empty() ? nullptr : bytes_.data(); }

 private:
  ~HeldBytes() override = default;
  std::vector<uint8_t> bytes_;
};

class Vcpu;

struct MemorySlot {
  Ref<Region> region;
  Ref<Region> guest_memfd;
  uint64_t size = 0;
  uint64_t gpa = 0;
  uint64_t offset = 0;  // in the region
  uint32_t flags = 0;
};

// What JavaScript is told of a slot (src/core/memory/memory-slots.ts has the same fields).
struct SlotInfo {
  double slot, flags, gpa, size;
  double region;  // the object's number; 0 without
  double offset;
};

// Which memory the kernel VM may touch. Kept by everything that keeps the kernel VM alive (the fds
// of the VM, its vCPUs and devices): nothing is unmapped while a guest could still run on it.
class SlotTable final : public RefCounted {
 public:
  std::mutex mutex;  // held across the ioctl, so that the table and the kernel never disagree
  std::map<uint32_t, MemorySlot> regions;
  // Guest RAM that the kernel was told of by address, by what it is for.
  std::map<uint64_t, Ref<Region>> held_regions;
  // Never taken out again: a vCPU may be reading the old ones while new ones are set.
  std::vector<Ref<HeldBytes>> held_bytes;
  // Memory registered for encryption; several entries may be equal.
  std::multimap<std::pair<uint64_t, uint64_t>, Ref<Region>> encrypted;
  // The vCPUs' dirty rings that were mapped.
  std::vector<Ref<Mapping>> dirty_rings;

  // Whether any of the memory comes from the JavaScript of that thread (0: of any).
  bool served_by_javascript(pid_t owner);
  void add_vcpu(Vcpu* vcpu);
  void remove_vcpu(Vcpu* vcpu);
  // Not zero while nobody may enter a vCPU, see Quiet.
  std::atomic<uint32_t> quiet{0};

 private:
  friend class Quiet;
  std::mutex vcpus_mutex_;
  std::set<Vcpu*> vcpus_;
  // A mapped ring holds the kernel's vCPU, and that the VM: let go of both now, not at a GC.
  ~SlotTable() override {
    for (const Ref<Mapping>& ring : dirty_rings) ring->detach(0);
  }
};

// For requests that make the kernel wait until no vCPU is in the middle of an access to memory.
// Where memory comes from JavaScript, such an access may last until JavaScript is back from this
// very request: then they are refused unless all vCPUs are out, and as long as this lives none gets
// in.
class Quiet {
 public:
  // `added`: memory that the request makes known to the guest.
  explicit Quiet(SlotTable& slots, Region* added = nullptr);
  ~Quiet();
  Quiet(const Quiet&) = delete;
  Quiet& operator=(const Quiet&) = delete;
  Result error() const { return error_; }

 private:
  SlotTable* slots_ = nullptr;
  Result error_ = 0;
};

// A part of a region, or nothing.
struct RegionPart {
  Region* region = nullptr;
  uint64_t offset = 0;

  // Whether it has an address and `size` bytes.
  bool has(uint64_t size) const;
  uint64_t address() const { return reinterpret_cast<uint64_t>(region->data()) + offset; }
};

// What KVM_SET_USER_MEMORY_REGION and KVM_SET_USER_MEMORY_REGION2 have in common.
struct SlotRequest {
  uint32_t slot;
  uint32_t flags;
  uint64_t gpa;
  uint64_t size;
  RegionPart memory;
  RegionPart guest_memfd;
};

// How a slot's dirty pages are found: whether KVM's log is read, whether bits are set already, and
// how many pages are cleared by hand at a time (none: 0).
struct DirtyWays {
  bool read;
  bool keep;
  uint64_t clear_at_once;
};

// The slot that was looked at; no pages when there is none. `clearing` when it came so far.
struct DirtySlot {
  uint64_t gpa = 0;
  uint64_t pages = 0;
  bool clearing = false;
};

class Vm final : public File {
 public:
  // A VM, or an error. The type is KVM_CREATE_VM's argument.
  static Result create(System& system, uint64_t type, Ref<Vm>* out);

  // KVM_SET_USER_MEMORY_REGION; a size of zero deletes the slot and needs no region.
  Result set_user_memory_region(const SlotRequest& request);
  Result set_user_memory_region2(const SlotRequest& request);
  // The first slots from number `first` on, as many as `slots` holds. Returns how many.
  Result list_slots(uint32_t first, SlotInfo* slots, size_t capacity);
  // KVM_SET_USER_MEMORY_REGION for a slot that is there: other flags, another place, the same
  // memory.
  Result change_slot(uint32_t slot, uint32_t flags, uint64_t gpa);
  // KVM_GET_DIRTY_LOG; refuses a buffer that is too short for the slot.
  Result get_dirty_log(uint32_t slot, uint8_t* bitmap, size_t size);
  // What a tracker does with a slot before it hands out the pages: in one call, since what a
  // collection runs of JavaScript has left the caches since the one before. Refuses bits that are
  // not as many as the slot's pages.
  Result renew_dirty(uint32_t slot, PageBits bits, const DirtyWays& ways, DirtySlot* out);
  Result create_guest_memfd(uint64_t size, uint64_t flags, Ref<Region>* out);
  // KVM_XEN_HVM_CONFIG. The blobs are copied; whole pages.
  Result xen_hvm_config(uint32_t flags, uint32_t msr, std::pair<uint8_t*, size_t> blob32,
                        std::pair<uint8_t*, size_t> blob64);
  // KVM_XEN_HVM_SET_ATTR with KVM_XEN_ATTR_TYPE_SHARED_INFO_HVA.
  Result set_xen_shared_info(RegionPart page);
  // KVM_MEMORY_ENCRYPT_REG_REGION and KVM_MEMORY_ENCRYPT_UNREG_REGION.
  Result register_encrypted(RegionPart part, uint64_t size);
  Result unregister_encrypted(RegionPart part, uint64_t size);

  // Maps the dirty ring of one of its vCPUs. SAFETY: `size` is what KVM_CAP_DIRTY_LOG_RING was
  // enabled with; the kernel maps more without a word, and an access there is a SIGBUS.
  Result map_dirty_ring(File& vcpu, size_t size, Ref<Mapping>* out);

  const Ref<SlotTable>& slots() const { return slots_; }
  const Ref<ExitTable>& exit_table() const { return exit_table_; }
  size_t vcpu_mmap_size() const { return vcpu_mmap_size_; }

 private:
  Vm(int fd, size_t vcpu_mmap_size)
      : File(Kind::kVm, fd),
        vcpu_mmap_size_(vcpu_mmap_size),
        slots_(Ref<SlotTable>::adopt(new SlotTable)),
        exit_table_(Ref<ExitTable>::adopt(new ExitTable)) {}
  ~Vm() override = default;
  void on_closed() override { slots_.reset(); }
  Result set_slot(unsigned long ioctl_request, const SlotRequest& request);

  size_t vcpu_mmap_size_;
  Ref<SlotTable> slots_;
  Ref<ExitTable> exit_table_;
};

}  // namespace node_kvm
