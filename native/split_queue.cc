#include "split_queue.h"

#include "guest_access.h"

namespace node_kvm {
namespace {

// Both rings begin with flags and an index, then come the entries, then the other side's event.
constexpr size_t kIndex = 2;
constexpr size_t kRing = 4;
constexpr size_t kAvailableSize = 2;
constexpr size_t kUsedSize = 8;
constexpr uint16_t kNoInterrupt = 1;     // VIRTQ_AVAIL_F_NO_INTERRUPT
constexpr uint16_t kNoNotification = 1;  // VIRTQ_USED_F_NO_NOTIFY
constexpr uint16_t kMostSize = 32768;

}  // namespace

std::unique_ptr<Virtqueue> SplitQueue::create(const Ref<GuestRam>& ram, const QueueSetup& setup) {
  size_t size = setup.size;
  if (size == 0 || size > kMostSize || (size & (size - 1)) != 0) return nullptr;
  std::unique_ptr<SplitQueue> queue(new SplitQueue(ram, setup));
  size_t driver_size = kRing + size * kAvailableSize + sizeof(uint16_t);
  size_t device_size = kRing + size * kUsedSize + sizeof(uint16_t);
  if (!queue->find_rings(driver_size, 2, device_size, 4)) return nullptr;
  return queue;
}

uint16_t SplitQueue::available() const { return load_acquire<uint16_t>(driver_ + kIndex); }

Virtqueue::Pop SplitQueue::take(Chain* chain) {
  auto waiting = static_cast<uint16_t>(available() - next_);
  if (waiting == 0) return Pop::kEmpty;
  if (waiting > setup_.size) return Pop::kBroken;
  size_t place = next_ & (setup_.size - 1);
  auto head = read_once<uint16_t>(driver_ + kRing + place * kAvailableSize);
  if (!collect(head, chain)) return Pop::kBroken;
  next_++;
  chain->id = head;
  return Pop::kChain;
}

// A list of descriptors, the last of which may refer to a table with the rest. A list that goes in
// a circle ends where it has more entries than its table.
bool SplitQueue::collect(uint16_t head, Chain* chain) const {
  Descriptor last{};
  if (!collect_list(descriptors_, setup_.size, head, chain, &last)) return false;
  bool has_table = (last.flags & kIndirect) != 0;
  chain->slots = static_cast<uint16_t>(chain->entries + has_table);
  if (!has_table) return true;
  uint32_t entries = 0;
  const uint8_t* table = indirect_table(last, &entries);
  return table != nullptr && collect_list(table, entries, 0, chain, &last) &&
         !(last.flags & kIndirect);
}

bool SplitQueue::collect_list(const uint8_t* table, uint32_t entries, uint16_t index, Chain* chain,
                              Descriptor* last) const {
  for (uint32_t count = 0; count < entries; count++) {
    if (index >= entries) return false;
    const uint8_t* at = table + index * kDescriptorSize;
    *last = {read_once<uint64_t>(at), read_once<uint32_t>(at + 8), read_once<uint16_t>(at + 12),
             read_once<uint16_t>(at + 14)};
    if (last->flags & kIndirect) return true;
    if (!add(*last, chain)) return false;
    if (!(last->flags & kNext)) return true;
    index = last->number;
  }
  return false;
}

void SplitQueue::put(const Used& used) {
  size_t place = used_ & (setup_.size - 1);
  uint8_t* at = device_ + kRing + place * kUsedSize;
  write_once<uint32_t>(at, used.id);
  write_once<uint32_t>(at + 4, used.written);
  used_++;
  if (!held_) show();
}

void SplitQueue::show() {
  held_ = false;
  store_release<uint16_t>(device_ + kIndex, used_);
}

bool SplitQueue::needs_interrupt() {
  uint16_t before = interrupted_;
  interrupted_ = used_;
  if (before == used_) return false;
  full_fence();
  if (!setup_.event_index) return !(read_once<uint16_t>(driver_) & kNoInterrupt);
  auto event = read_once<uint16_t>(driver_ + kRing + setup_.size * kAvailableSize);
  return static_cast<uint16_t>(used_ - event - 1) < static_cast<uint16_t>(used_ - before);
}

bool SplitQueue::enable_notifications() {
  if (setup_.event_index) {
    write_once<uint16_t>(device_ + kRing + setup_.size * kUsedSize, next_);
  } else {
    write_once<uint16_t>(device_, 0);
  }
  full_fence();
  return available() != next_;
}

// With event indices the driver notifies once for each enable_notifications() anyway.
void SplitQueue::disable_notifications() {
  if (!setup_.event_index) write_once<uint16_t>(device_, kNoNotification);
}

}  // namespace node_kvm
