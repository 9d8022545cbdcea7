#include "frame_sender.h"

#include <sys/uio.h>

#include <cerrno>

namespace node_kvm {

FrameSender::FrameSender(std::unique_ptr<Virtqueue> queue, int tap, RateLimit* limit,
                         NetCounts* counts)
    : queue_(std::move(queue)), tap_(tap), limit_(limit), counts_(counts) {}

FrameSender::Outcome FrameSender::run(int budget, bool link_up) {
  queue_->disable_notifications();
  for (int i = 0; i < budget; i++) {
    if (wait_ns(*limit_) != 0) return Outcome::kLimited;
    Outcome outcome = take_frame();
    if (outcome != Outcome::kMore) return outcome;
    size_t size = chain_.readable_bytes - kNetHeaderSize;
    if (!link_up || chain_.readable_bytes > kMostFrameBytes) {
      counts_->drop();
    } else {
      outcome = send();
      if (outcome != Outcome::kMore) return outcome;
      limit_->charge(size);
    }
    has_frame_ = false;
    queue_->push(chain_, 0);
  }
  return Outcome::kMore;
}

FrameSender::Outcome FrameSender::take_frame() {
  if (has_frame_) return Outcome::kMore;
  Virtqueue::Pop result = queue_->pop(&chain_);
  if (result == Virtqueue::Pop::kEmpty) {
    if (!queue_->enable_notifications()) return Outcome::kEmpty;
    queue_->disable_notifications();
    result = queue_->pop(&chain_);
  }
  if (result == Virtqueue::Pop::kEmpty) return Outcome::kEmpty;
  if (result == Virtqueue::Pop::kBroken || chain_.readable_bytes <= kNetHeaderSize) {
    return Outcome::kBroken;
  }
  has_frame_ = true;
  return Outcome::kMore;
}

// What the TAP refuses is the frame's fault (a header that makes no sense) or the host's (the
// interface is down): it is lost, as on a wire.
FrameSender::Outcome FrameSender::send() {
  ssize_t size;
  do {
    size = ::writev(tap_, chain_.parts.data(), static_cast<int>(chain_.readable));
  } while (size < 0 && errno == EINTR);
  if (size >= 0) {
    counts_->passed(chain_.readable_bytes - kNetHeaderSize);
    return Outcome::kMore;
  }
  if (errno == EAGAIN) return Outcome::kBlocked;
  if (errno == EBADFD) return Outcome::kGone;
  counts_->drop();
  return Outcome::kMore;
}

}  // namespace node_kvm
