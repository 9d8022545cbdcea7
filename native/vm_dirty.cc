// Which pages of a VM's slots the guest wrote.
#include <sys/mman.h>

#include <algorithm>
#include <vector>

#include "kvm_numbers.h"
#include "vm.h"

namespace node_kvm {
namespace {

constexpr size_t kPage = 4096;

// Adds what KVM logged since the last time. `keep` says whether any bits are set before.
Result read_log(File& vm, uint32_t slot, PageBits bits, bool keep) {
  std::vector<uint64_t> before;
  if (keep) before.assign(bits.words, bits.words + bits.count);
  DirtyLog argument{slot, 0, reinterpret_cast<uint64_t>(bits.words)};
  Result result = checked_ioctl(vm.fd(), kGetDirtyLog, &argument);
  for (size_t i = 0; i < before.size(); i++) bits.words[i] |= before[i];
  return result;
}

// Has writes to the pages whose bits are set noticed again, at most `at_once` pages in an ioctl: it
// holds the lock that faults of the guest wait for.
Result clear_log(File& vm, uint32_t slot, PageBits bits, uint64_t pages, uint64_t at_once) {
  for (uint64_t first = 0; first < pages; first += at_once) {
    uint64_t count = std::min(at_once, pages - first);
    uint64_t* words = bits.words + first / 64;
    if (std::all_of(words, words + (count + 63) / 64, [](uint64_t word) { return word == 0; })) {
      continue;
    }
    ClearDirtyLog argument{slot, static_cast<uint32_t>(count), first,
                           reinterpret_cast<uint64_t>(words)};
    Result result = checked_ioctl(vm.fd(), kClearDirtyLog, &argument);
    if (result < 0) return result;
  }
  return 0;
}

}  // namespace

Result Vm::get_dirty_log(uint32_t slot, uint8_t* bitmap, size_t size) {
  Use use(*this);
  if (use.error()) return use.error();
  // ORDER: the slot cannot grow between the look at its size and the ioctl.
  std::lock_guard<std::mutex> lock(slots_->mutex);
  auto found = slots_->regions.find(slot);
  if (found == slots_->regions.end()) return -ENOENT;
  if (size < (found->second.size / kPage + 63) / 64 * 8) return kBufferTooSmall;
  DirtyLog argument{slot, 0, reinterpret_cast<uint64_t>(bitmap)};
  return checked_ioctl(fd(), kGetDirtyLog, &argument);
}

Result Vm::renew_dirty(uint32_t slot, PageBits bits, const DirtyWays& ways, DirtySlot* out) {
  Use use(*this);
  if (use.error()) return use.error();
  // ORDER: as above.
  std::lock_guard<std::mutex> lock(slots_->mutex);
  auto found = slots_->regions.find(slot);
  if (found == slots_->regions.end()) return -ENOENT;
  const uint64_t pages = found->second.size / kPage;
  out->gpa = found->second.gpa;
  out->pages = pages;
  if (bits.count != (pages + 63) / 64) return kBufferTooSmall;
  Result result = ways.read ? read_log(*this, slot, bits, ways.keep) : 0;
  if (result < 0 || ways.clear_at_once == 0) return result;
  out->clearing = true;
  return clear_log(*this, slot, bits, pages, ways.clear_at_once);
}

Result Vm::map_dirty_ring(File& vcpu, size_t size, Ref<Mapping>* out) {
  constexpr uint64_t kOffset = 64 * kPage;  // KVM_DIRTY_LOG_PAGE_OFFSET
  Use use(*this);
  if (use.error()) return use.error();
  Use use_vcpu(vcpu);
  if (use_vcpu.error()) return use_vcpu.error();
  *out = Mapping::map(vcpu.fd(), size, PROT_READ | PROT_WRITE, MAP_SHARED, kOffset);
  if (!*out) return -errno;
  std::lock_guard<std::mutex> lock(slots_->mutex);
  slots_->dirty_rings.push_back(*out);
  return 0;
}

}  // namespace node_kvm
