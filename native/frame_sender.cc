#include "frame_sender.h"

#include <sys/uio.h>

#include <algorithm>
#include <cerrno>

namespace node_kvm {
namespace {

// Looks at whether the driver wants to be interrupted: each costs a fence.
constexpr uint32_t kFramesPerLook = 16;
// Less is not worth a timer, and more delays frames too much.
constexpr int64_t kLeastGatherNs = 30'000;
constexpr int64_t kMostGatherNs = 500'000;

}  // namespace

FrameSender::FrameSender(std::unique_ptr<Virtqueue> queue, Ref<PlainFile> call, int tap,
                         RateLimit* limit, NetCounts* counts)
    : queue_(std::move(queue)), call_(std::move(call)), tap_(tap), limit_(limit), counts_(counts) {}

FrameOutcome FrameSender::run(bool link_up) {
  if (gathers_ns() > 0) return FrameOutcome::kGathers;
  FrameOutcome outcome = move_frames(link_up);
  interrupt();
  return outcome;
}

void FrameSender::interrupt() {
  if (queue_->needs_interrupt()) call_->ring();
}

FrameOutcome FrameSender::move_frames(bool link_up) {
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
    if (++burst_ % kFramesPerLook == 0) interrupt();
  }
  return FrameOutcome::kMore;
}

FrameOutcome FrameSender::take_frame() {
  if (has_frame_) return FrameOutcome::kMore;
  Virtqueue::Pop result = queue_->pop(&chain_);
  if (result == Virtqueue::Pop::kEmpty) {
    if (gather()) return FrameOutcome::kGathers;
    if (!queue_->enable_notifications()) return FrameOutcome::kNoFrames;
    queue_->disable_notifications();
    result = queue_->pop(&chain_);
  }
  if (result == Virtqueue::Pop::kEmpty) return FrameOutcome::kNoFrames;
  if (result == Virtqueue::Pop::kBroken || chain_.readable_bytes <= kNetHeaderSize) {
    return FrameOutcome::kBroken;
  }
  has_frame_ = true;
  if (burst_ == 0) burst_began_ = monotonic_ns();
  return FrameOutcome::kMore;
}

// A guest that sends would otherwise be met frame by frame, and leave itself for each to notify and
// to be interrupted, which makes it slower than the TAP for good. So frames gather for as long as
// the last burst took to send, in which the guest, as the slower one, cannot fill the queue.
bool FrameSender::gather() {
  const uint32_t frames = burst_;
  burst_ = 0;
  gathers_until_ = 0;
  if (frames < 2) return false;
  const int64_t now = monotonic_ns();
  const int64_t burst_ns = now - burst_began_;
  if (burst_ns < kLeastGatherNs) return false;
  const int64_t half_a_queue_ns = burst_ns * queue_->size() / 2 / frames;
  gathers_until_ = now + std::min({burst_ns, half_a_queue_ns, kMostGatherNs});
  return true;
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
