#include "packed_queue.h"

#include "guest_access.h"

namespace node_kvm {
namespace {

constexpr size_t kFlags = 14;  // in a descriptor
constexpr uint16_t kAvailable = 1 << 7;
constexpr uint16_t kUsed = 1 << 15;
constexpr uint16_t kMostSize = 32768;

// Event suppression: a place (the wrap counter in its top bit), then flags.
constexpr size_t kEventSize = 4;
constexpr size_t kEventFlags = 2;
constexpr uint16_t kEventEnable = 0;
constexpr uint16_t kEventDisable = 1;
constexpr uint16_t kEventPlace = 2;
constexpr uint16_t kEventWrap = 1 << 15;

}  // namespace

std::unique_ptr<Virtqueue> PackedQueue::create(const Ref<GuestRam>& ram, const QueueSetup& setup) {
  if (setup.size == 0 || setup.size > kMostSize) return nullptr;
  std::unique_ptr<PackedQueue> queue(new PackedQueue(ram, setup));
  if (!queue->find_rings(kEventSize, 4, kEventSize, 4)) return nullptr;
  return queue;
}

bool PackedQueue::is_available() const {
  auto flags = load_acquire<uint16_t>(descriptors_ + next_.index * kDescriptorSize + kFlags);
  bool available = (flags & kAvailable) != 0;
  bool used = (flags & kUsed) != 0;
  return available == next_.wrap && used != next_.wrap;
}

Virtqueue::Descriptor PackedQueue::read(const uint8_t* at) const {
  return {read_once<uint64_t>(at), read_once<uint32_t>(at + 8), read_once<uint16_t>(at + kFlags),
          read_once<uint16_t>(at + 12)};
}

Virtqueue::Pop PackedQueue::take(Chain* chain) {
  if (!is_available()) return Pop::kEmpty;
  if (!collect(chain)) return Pop::kBroken;
  next_.advance(chain->slots, setup_.size);
  return Pop::kChain;
}

// The driver makes the first descriptor available last: with it, all of the chain are.
bool PackedQueue::collect(Chain* chain) const {
  Place place = next_;
  for (uint16_t count = 1; count <= setup_.size; count++) {
    Descriptor descriptor = read(descriptors_ + place.index * kDescriptorSize);
    chain->slots = count;
    chain->id = descriptor.number;  // of the last one
    if (descriptor.flags & kIndirect) return collect_indirect(descriptor, chain);
    if (!add(descriptor, chain)) return false;
    if (!(descriptor.flags & kNext)) return true;
    place.advance(1, setup_.size);
  }
  return false;
}

bool PackedQueue::collect_indirect(const Descriptor& descriptor, Chain* chain) const {
  uint32_t entries = 0;
  const uint8_t* table = indirect_table(descriptor, &entries);
  if (table == nullptr) return false;
  for (uint32_t index = 0; index < entries; index++) {
    Descriptor entry = read(table + index * kDescriptorSize);
    // All entries belong to it, whatever their other flags say (§2.8.7).
    if ((entry.flags & kIndirect) || !add(entry, chain)) return false;
  }
  return true;
}

void PackedQueue::put(const Used& used) {
  uint8_t* at = descriptors_ + used_.index * kDescriptorSize;
  write_once<uint32_t>(at + 8, used.written);
  write_once<uint16_t>(at + 12, used.id);
  uint16_t flags = used_.wrap ? kAvailable | kUsed : 0;
  if (used.written != 0) flags |= kWrite;
  // The driver goes through the ring in order: without the first it sees none.
  if (held_ && first_held_ == nullptr) {
    first_held_ = at + kFlags;
    first_flags_ = flags;
  } else {
    store_release<uint16_t>(at + kFlags, flags);
  }
  used_.advance(used.slots, setup_.size);
  moved_ += used.slots;
}

void PackedQueue::show() {
  held_ = false;
  if (first_held_ != nullptr) store_release<uint16_t>(first_held_, first_flags_);
  first_held_ = nullptr;
}

bool PackedQueue::needs_interrupt() {
  uint32_t moved = moved_;
  moved_ = 0;
  if (moved == 0) return false;
  full_fence();
  uint32_t event = read_once<uint32_t>(driver_);
  auto flags = static_cast<uint16_t>((event >> 16) & 3);
  if (flags != kEventPlace || !setup_.event_index) return flags != kEventDisable;
  // The place, on the scale where ours is `used_.index`: an earlier round's is a ring's size less.
  auto place = static_cast<uint16_t>(event & (kEventWrap - 1));
  if (((event & kEventWrap) != 0) != used_.wrap) place = static_cast<uint16_t>(place - setup_.size);
  return moved >= setup_.size || static_cast<uint16_t>(used_.index - place - 1) < moved;
}

bool PackedQueue::enable_notifications() {
  if (setup_.event_index) {
    write_once<uint16_t>(device_,
                         static_cast<uint16_t>(next_.index | (next_.wrap ? kEventWrap : 0)));
    // ORDER: the place counts from when the flags say so.
    store_release<uint16_t>(device_ + kEventFlags, kEventPlace);
  } else {
    store_release<uint16_t>(device_ + kEventFlags, kEventEnable);
  }
  full_fence();
  return is_available();
}

void PackedQueue::disable_notifications() {
  store_release<uint16_t>(device_ + kEventFlags, kEventDisable);
}

}  // namespace node_kvm
