// From a guest to a TAP: frames go straight from the buffers of a transmit queue (virtio 1.2
// §5.1.6.2).
#pragma once

#include "net_counts.h"
#include "virtqueue.h"

namespace node_kvm {

class FrameSender {
 public:
  enum class Outcome {
    kMore,     // the budget is used up
    kLimited,  // the rate limit says to wait
    kEmpty,    // the queue is; the driver will notify
    kBlocked,  // the TAP takes no more for now
    kBroken,   // the driver did what it must not
    kGone,     // the TAP is
  };

  FrameSender(std::unique_ptr<Virtqueue> queue, int tap, RateLimit* limit, NetCounts* counts);

  // Moves at most so many frames. While the link is down, they are thrown away.
  Outcome run(int budget, bool link_up);
  bool needs_interrupt() { return queue_->needs_interrupt(); }

 private:
  // Has a frame in `chain_`, or says why not.
  Outcome take_frame();
  Outcome send();

  std::unique_ptr<Virtqueue> queue_;
  int tap_;
  RateLimit* limit_;
  NetCounts* counts_;
  Chain chain_;
  bool has_frame_ = false;
};

}  // namespace node_kvm
