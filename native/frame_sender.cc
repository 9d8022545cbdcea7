#include "frame_sender.h"

#include <sys/uio.h>

#include <cerrno>

namespace node_kvm {
namespace {

constexpr int64_t kPollNs = 30'000;
constexpr uint32_t kSkippedPolls = 16;

}  // namespace

FrameSender::FrameSender(std::unique_ptr<Virtqueue> queue, int tap, RateLimit* limit,
                         NetCounts* counts)
    : queue_(std::move(queue)), tap_(tap), limit_(limit), counts_(counts) {}

FrameOutcome FrameSender::run(bool link_up) {
  queue_->disable_notifications();
  for (FrameBudget budget; budget.left(); budget.spend(chain_.readable_bytes)) {
    if (wait_ns(*limit_) != 0) return FrameOutcome::kLimited;
    FrameOutcome outcome = take_frame();
    if (outcome != FrameOutcome::kMore) return outcome;
    size_t size = chain_.readable_bytes - kNetHeaderSize;
    if (!link_up || chain_.readable_bytes > kMostFrameBytes) {
      counts_->drop();
    } else {
      outcome = send();
      if (outcome != FrameOutcome::kMore) return outcome;
      limit_->charge(size);
    }
    has_frame_ = false;
    queue_->push(chain_, 0);
  }
  return FrameOutcome::kMore;
}

FrameOutcome FrameSender::take_frame() {
  if (has_frame_) return FrameOutcome::kMore;
  Virtqueue::Pop result = queue_->pop(&chain_);
  if (result == Virtqueue::Pop::kEmpty) result = poll();
  if (result == Virtqueue::Pop::kEmpty) {
    if (!queue_->enable_notifications()) return FrameOutcome::kNoFrames;
    queue_->disable_notifications();
    result = queue_->pop(&chain_);
  }
  if (result == Virtqueue::Pop::kEmpty) return FrameOutcome::kNoFrames;
  if (result == Virtqueue::Pop::kBroken || chain_.readable_bytes <= kNetHeaderSize) {
    return FrameOutcome::kBroken;
  }
  has_frame_ = true;
  return FrameOutcome::kMore;
}

// A guest that sends has its next frame soon, and a notification costs it an exit. Once there was
// none in time, there will be none after the next ones either.
Virtqueue::Pop FrameSender::poll() {
  if (polls_skipped_ != 0) {
    polls_skipped_--;
    return Virtqueue::Pop::kEmpty;
  }
  const int64_t end = monotonic_ns() + kPollNs;
  Virtqueue::Pop result;
  do {
    __builtin_ia32_pause();
    result = queue_->pop(&chain_);
  } while (result == Virtqueue::Pop::kEmpty && monotonic_ns() < end);
  if (result == Virtqueue::Pop::kEmpty) polls_skipped_ = kSkippedPolls;
  return result;
}

// What the TAP refuses is the frame's fault (a header that makes no sense) or the host's (the
// interface is down): it is lost, as on a wire.
FrameOutcome FrameSender::send() {
  ssize_t size;
  do {
    size = ::writev(tap_, chain_.parts.data(), static_cast<int>(chain_.readable));
  } while (size < 0 && errno == EINTR);
  if (size >= 0) {
    counts_->passed(chain_.readable_bytes - kNetHeaderSize);
    return FrameOutcome::kMore;
  }
  if (errno == EAGAIN) return FrameOutcome::kNoRoom;
  if (errno == EBADFD) return FrameOutcome::kGone;
  counts_->drop();
  return FrameOutcome::kMore;
}

}  // namespace node_kvm
