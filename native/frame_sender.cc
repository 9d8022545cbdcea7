#include "frame_sender.h"

#include <sys/uio.h>

#include <algorithm>
#include <cerrno>

namespace node_kvm {
namespace {

// The driver hears of frames that are sent once so many more are, if they took so long, and after
// each run: it may be waiting for them.
constexpr uint32_t kFramesPerLook = 16;
constexpr int64_t kLookNs = 100'000;
// Where a frame takes less, an exit does too, and a timer would take longer than what is won.
constexpr int64_t kSlowFrameNs = 2'000;
constexpr int64_t kLeastGatherNs = 30'000;
constexpr int64_t kMostGatherNs = 500'000;
constexpr int64_t kPollNs = 30'000;
constexpr uint32_t kSkippedPolls = 16;

}  // namespace

FrameSender::FrameSender(std::unique_ptr<Virtqueue> queue, Ref<PlainFile> call, int tap,
                         RateLimit* limit, NetCounts* counts)
    : queue_(std::move(queue)), call_(std::move(call)), tap_(tap), limit_(limit), counts_(counts) {}

FrameOutcome FrameSender::run(bool link_up) {
  if (gathers_until_ != 0 && gathers_ns() > 0) return FrameOutcome::kGathers;
  gathers_until_ = 0;
  FrameOutcome outcome = move_frames(link_up);
  interrupt();
  return outcome;
}

void FrameSender::interrupt() {
  if (queue_->needs_interrupt()) call_->ring();
}

void FrameSender::interrupt_in_time() {
  const int64_t now = monotonic_ns();
  if (now - looked_ < kLookNs) return;
  looked_ = now;
  interrupt();
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
    if (++burst_ % kFramesPerLook == 0) interrupt_in_time();
  }
  return FrameOutcome::kMore;
}

FrameOutcome FrameSender::take_frame() {
  if (has_frame_) return FrameOutcome::kMore;
  Virtqueue::Pop result = queue_->pop(&chain_);
  if (result == Virtqueue::Pop::kEmpty) {
    const uint32_t frames = burst_;
    burst_ = 0;
    if (frames > 1) {
      if (gather(frames)) return FrameOutcome::kGathers;
      result = poll();
    }
  }
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
  if (burst_ == 0) burst_began_ = monotonic_ns();
  return FrameOutcome::kMore;
}

// A guest that is as fast as the TAP would be met frame by frame, and have to notify and be
// interrupted for each, which makes it slower for good. So frames gather, but no longer than the
// last burst took to send, nor than half a queue would take.
bool FrameSender::gather(uint32_t frames) {
  const int64_t now = monotonic_ns();
  const int64_t burst_ns = now - burst_began_;
  if (burst_ns < std::max(kLeastGatherNs, frames * kSlowFrameNs)) return false;
  const int64_t half_a_queue_ns = burst_ns * queue_->size() / 2 / frames;
  gathers_until_ = now + std::min({burst_ns, half_a_queue_ns, kMostGatherNs});
  return true;
}

// Where frames are fast. Once none came in time, none will after the next bursts either.
Virtqueue::Pop FrameSender::poll() {
  if (polls_skipped_ != 0) {
    polls_skipped_--;
    return Virtqueue::Pop::kEmpty;
  }
  // The driver may be waiting for these.
  interrupt();
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
