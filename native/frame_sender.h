// From a guest to a TAP: frames go straight from the buffers of a transmit queue (virtio 1.2
// §5.1.6.2).
#pragma once

#include "files.h"
#include "net_counts.h"
#include "virtqueue.h"

namespace node_kvm {

class FrameSender {
 public:
  FrameSender(std::unique_ptr<Virtqueue> queue, Ref<PlainFile> call, int tap, RateLimit* limit,
              NetCounts* counts);

  // Moves what a budget allows. While the link is down, frames are thrown away.
  FrameOutcome run(bool link_up);
  // After kGathers: for how long; not above 0 when that is over.
  int64_t gathers_ns() const { return gathers_until_ - monotonic_ns(); }

 private:
  FrameOutcome move_frames(bool link_up);
  void interrupt();
  void interrupt_in_time();
  // Has a frame in `chain_`, or says why not.
  FrameOutcome take_frame();
  // The queue is empty after a burst of so many: whether to let some come before the next is sent.
  bool gather(uint32_t frames);
  // Looks a little longer for one.
  Virtqueue::Pop poll();
  FrameOutcome send();

  std::unique_ptr<Virtqueue> queue_;
  Ref<PlainFile> call_;
  int tap_;
  RateLimit* limit_;
  NetCounts* counts_;
  Chain chain_;
  bool has_frame_ = false;
  uint32_t polls_skipped_ = 0;
  uint32_t burst_ = 0;  // frames since the queue was empty
  int64_t burst_began_ = 0;
  int64_t looked_ = 0;         // last time at whether to interrupt within a run
  int64_t gathers_until_ = 0;  // 0: not at all
};

}  // namespace node_kvm
