// From a guest to a TAP: frames go straight from the buffers of a transmit queue (virtio 1.2
// §5.1.6.2).
#pragma once

#include "net_counts.h"
#include "virtqueue.h"

namespace node_kvm {

class FrameSender {
 public:
  FrameSender(std::unique_ptr<Virtqueue> queue, int tap, RateLimit* limit, NetCounts* counts);

  // Moves what a budget allows. While the link is down, frames are thrown away.
  FrameOutcome run(bool link_up);
  bool needs_interrupt() { return queue_->needs_interrupt(); }

 private:
  // Has a frame in `chain_`, or says why not.
  FrameOutcome take_frame();
  // Looks a little longer for one.
  Virtqueue::Pop poll();
  FrameOutcome send();

  std::unique_ptr<Virtqueue> queue_;
  int tap_;
  RateLimit* limit_;
  NetCounts* counts_;
  Chain chain_;
  bool has_frame_ = false;
  uint32_t polls_skipped_ = 0;
};

}  // namespace node_kvm
