#include "frame_receiver.h"

#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace node_kvm {
namespace {

// One place in a readv is for the spill.
constexpr size_t kMostParts = Virtqueue::kMostParts - 1;

// Copies to a place in a buffer, as far as it goes. How much that was.
size_t copy_into(const Chain& chain, size_t offset, const uint8_t* from, size_t size) {
  size_t done = 0;
  for (size_t i = 0; i < chain.writable_count() && done < size; i++) {
    const iovec& part = chain.writable()[i];
    if (offset >= part.iov_len) {
      offset -= part.iov_len;
      continue;
    }
    size_t count = std::min(size - done, part.iov_len - offset);
    std::memcpy(static_cast<uint8_t*>(part.iov_base) + offset, from + done, count);
    done += count;
    offset = 0;
  }
  return done;
}

FrameOutcome after_error() {
  if (errno == EINTR) return FrameOutcome::kMore;
  // RAM that is a file, and was truncated.
  if (errno == EFAULT) return FrameOutcome::kBroken;
  return errno == EAGAIN ? FrameOutcome::kNoFrames : FrameOutcome::kGone;
}

}  // namespace

FrameReceiver::FrameReceiver(std::unique_ptr<Virtqueue> queue, Ref<PlainFile> call, int tap,
                             bool mergeable, RateLimit* limit, NetCounts* counts)
    : queue_(std::move(queue)),
      call_(std::move(call)),
      tap_(tap),
      mergeable_(mergeable),
      limit_(limit),
      counts_(counts),
      chains_(queue_->size()),
      spill_(new uint8_t[kMostFrameBytes]) {
  queue_->disable_notifications();
}

FrameOutcome FrameReceiver::run(bool link_up) {
  for (FrameBudget budget; budget.left();) {
    if (wait_ns(*limit_) != 0) return FrameOutcome::kLimited;
    uint64_t before = counts_->bytes.load(std::memory_order_relaxed);
    FrameOutcome outcome = !link_up ? discard() : length_ == 0 ? read_frame() : finish_frame();
    if (outcome != FrameOutcome::kMore) return outcome;
    budget.spend(counts_->bytes.load(std::memory_order_relaxed) - before);
  }
  return FrameOutcome::kMore;
}

Virtqueue::Pop FrameReceiver::take_buffer() {
  if (buffers_ == chains_.size()) return Virtqueue::Pop::kEmpty;
  Chain& chain = buffer(buffers_);
  Virtqueue::Pop result = queue_->pop(&chain);
  if (result == Virtqueue::Pop::kEmpty) {
    if (!queue_->enable_notifications()) return result;
    queue_->disable_notifications();
    result = queue_->pop(&chain);
  }
  if (result != Virtqueue::Pop::kChain) return result;
  // A buffer without room would be one that no frame ever uses.
  if (chain.writable_bytes == 0) return Virtqueue::Pop::kBroken;
  buffers_++;
  room_ += chain.writable_bytes;
  return result;
}

// Buffers enough for any frame, as far as there are, and never more parts than one readv takes.
Virtqueue::Pop FrameReceiver::gather() {
  while (mergeable_ ? room_ < kMostFrameBytes : buffers_ == 0) {
    Virtqueue::Pop result = take_buffer();
    if (result == Virtqueue::Pop::kBroken) return result;
    if (result == Virtqueue::Pop::kEmpty) break;
  }
  return buffers_ == 0 ? Virtqueue::Pop::kEmpty : Virtqueue::Pop::kChain;
}

FrameOutcome FrameReceiver::read_frame() {
  Virtqueue::Pop gathered = gather();
  if (gathered == Virtqueue::Pop::kBroken) return FrameOutcome::kBroken;
  if (gathered == Virtqueue::Pop::kEmpty) return FrameOutcome::kNoRoom;
  parts_.clear();
  placed_ = 0;
  for (size_t i = 0; i < frame_buffers(); i++) {
    const Chain& chain = buffer(i);
    if (parts_.size() + chain.writable_count() > kMostParts) break;
    parts_.insert(parts_.end(), chain.writable(), chain.writable() + chain.writable_count());
    placed_ += chain.writable_bytes;
  }
  parts_.push_back({spill_.get(), kMostFrameBytes});
  ssize_t size = ::readv(tap_, parts_.data(), static_cast<int>(parts_.size()));
  if (size < 0) return after_error();
  length_ = static_cast<size_t>(size);
  if (length_ <= kNetHeaderSize) {
    length_ = 0;
    counts_->drop();
    return FrameOutcome::kMore;
  }
  placed_ = std::min(placed_, length_);
  return finish_frame();
}

// What did not fit goes into the buffers behind, when there are.
FrameOutcome FrameReceiver::finish_frame() {
  while (mergeable_ && room_ < length_) {
    Virtqueue::Pop result = take_buffer();
    if (result == Virtqueue::Pop::kBroken) return FrameOutcome::kBroken;
    if (result == Virtqueue::Pop::kChain) continue;
    // When the driver cannot give another like the last, the frame is too large for it.
    if (queue_->free_slots() < buffer(buffers_ - 1).slots) break;
    return FrameOutcome::kNoRoom;
  }
  if (length_ <= (mergeable_ ? room_ : buffer(0).writable_bytes)) {
    deliver();
  } else {
    counts_->drop();
  }
  length_ = 0;
  return FrameOutcome::kMore;
}

void FrameReceiver::deliver() {
  size_t spilled = placed_;
  size_t end = 0;
  uint16_t used = 0;
  for (; end < length_; used++) {
    Chain& chain = buffer(used);
    size_t begin = end;
    end = std::min(length_, begin + chain.writable_bytes);
    if (spilled < end) {
      copy_into(chain, spilled - begin, spill_.get() + (spilled - placed_), end - spilled);
      spilled = end;
    }
  }
  // The header lies in the first buffers, in as many as the driver likes.
  const uint8_t count[] = {static_cast<uint8_t>(used), static_cast<uint8_t>(used >> 8)};
  size_t offset = kNetHeaderBuffers;
  for (size_t i = 0, done = 0; done < sizeof(count); i++) {
    size_t size = buffer(i).writable_bytes;
    if (offset >= size) {
      offset -= size;
      continue;
    }
    done += copy_into(buffer(i), offset, count + done, sizeof(count) - done);
    offset = 0;
  }
  // The driver counts on finding all buffers of a frame at once.
  queue_->hold();
  size_t left = length_;
  for (uint16_t i = 0; i < used; i++) {
    Chain& chain = buffer(i);
    size_t written = std::min(left, size_t{chain.writable_bytes});
    queue_->push(chain, static_cast<uint32_t>(written));
    left -= written;
    room_ -= chain.writable_bytes;
  }
  queue_->show();
  // At once: a driver that waits can begin, and one that is at work wants none.
  if (queue_->needs_interrupt()) call_->ring();
  first_ = (first_ + used) % chains_.size();
  buffers_ -= used;
  counts_->passed(length_ - kNetHeaderSize);
  limit_->charge(length_ - kNetHeaderSize);
}

FrameOutcome FrameReceiver::discard() {
  length_ = 0;
  if (::read(tap_, spill_.get(), kMostFrameBytes) < 0) return after_error();
  counts_->drop();
  return FrameOutcome::kMore;
}

}  // namespace node_kvm
