#include "virtqueue.h"

#include <algorithm>

#include "packed_queue.h"
#include "split_queue.h"

namespace node_kvm {

std::unique_ptr<Virtqueue> Virtqueue::create(const Ref<GuestRam>& ram, const QueueSetup& setup) {
  if (setup.packed) return PackedQueue::create(ram, setup);
  return SplitQueue::create(ram, setup);
}

Virtqueue::Pop Virtqueue::pop(Chain* chain) {
  if (broken_) return Pop::kBroken;
  chain->parts.clear();
  chain->readable = 0;
  chain->readable_bytes = 0;
  chain->writable_bytes = 0;
  chain->entries = 0;
  Pop result = take(chain);
  if (result == Pop::kEmpty) return result;
  slots_out_ += chain->slots;
  // More than the ring can hold is out when the driver made something available twice.
  broken_ = result == Pop::kBroken || slots_out_ > setup_.size;
  if (broken_) return Pop::kBroken;
  if (setup_.in_order) order_.push_back({{chain->id, chain->slots, 0}, false});
  return Pop::kChain;
}

void Virtqueue::push(const Chain& chain, uint32_t written) {
  Used used{chain.id, chain.slots, written};
  slots_out_ -= used.slots;
  if (!setup_.in_order) {
    put(used);
    return;
  }
  for (Out& out : order_) {
    if (out.back || out.used.id != used.id) continue;
    out = {used, true};
    break;
  }
  while (!order_.empty() && order_.front().back) {
    put(order_.front().used);
    order_.pop_front();
  }
}

bool Virtqueue::add(const Descriptor& descriptor, Chain* chain) const {
  if (chain->entries++ == kMostParts) return false;
  bool writable = (descriptor.flags & kWrite) != 0;
  if (!writable && chain->writable_bytes != 0) return false;
  uint32_t& bytes = writable ? chain->writable_bytes : chain->readable_bytes;
  // §2.7.4: a chain has at most 2^32 bytes; here one less, which a number of 32 bits can say.
  uint64_t total = uint64_t{chain->readable_bytes} + chain->writable_bytes + descriptor.length;
  if (total > UINT32_MAX) return false;
  if (!ram_->append(descriptor.gpa, descriptor.length, kMostParts, &chain->parts)) return false;
  bytes += descriptor.length;
  if (!writable) chain->readable = chain->parts.size();
  return true;
}

const uint8_t* Virtqueue::indirect_table(const Descriptor& descriptor, uint32_t* entries) const {
  bool allowed = setup_.indirect && !(descriptor.flags & kNext);
  if (!allowed || descriptor.length == 0 || descriptor.length % kDescriptorSize) return nullptr;
  *entries = descriptor.length / kDescriptorSize;
  if (*entries > kMostParts) return nullptr;
  return ram_->find(descriptor.gpa, descriptor.length);
}

bool Virtqueue::find_rings(size_t driver_size, size_t driver_alignment, size_t device_size,
                           size_t device_alignment) {
  if (setup_.descriptors % kDescriptorSize || setup_.driver % driver_alignment ||
      setup_.device % device_alignment) {
    return false;
  }
  descriptors_ = ram_->find(setup_.descriptors, setup_.size * kDescriptorSize);
  driver_ = ram_->find(setup_.driver, driver_size);
  device_ = ram_->find(setup_.device, device_size);
  return descriptors_ != nullptr && driver_ != nullptr && device_ != nullptr;
}

}  // namespace node_kvm
