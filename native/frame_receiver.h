// From a TAP to a guest: frames go straight into the buffers of a receive queue (virtio 1.2
// §5.1.6.3).
#pragma once

#include "files.h"
#include "net_counts.h"
#include "virtqueue.h"

namespace node_kvm {

class FrameReceiver {
 public:
  FrameReceiver(std::unique_ptr<Virtqueue> queue, Ref<PlainFile> call, int tap, bool mergeable,
                RateLimit* limit, NetCounts* counts);

  // Moves what a budget allows. While the link is down, frames are thrown away.
  FrameOutcome run(bool link_up);

 private:
  // One more buffer of the driver's; kEmpty after the driver was asked to notify.
  Virtqueue::Pop take_buffer();
  Virtqueue::Pop gather();
  FrameOutcome read_frame();
  FrameOutcome finish_frame();
  void deliver();
  FrameOutcome discard();
  size_t frame_buffers() const { return mergeable_ ? buffers_ : 1; }
  Chain& buffer(size_t index) { return chains_[(first_ + index) % chains_.size()]; }

  std::unique_ptr<Virtqueue> queue_;
  Ref<PlainFile> call_;
  int tap_;
  bool mergeable_;
  RateLimit* limit_;
  NetCounts* counts_;
  // Buffers that were taken from the queue and hold no frame yet: a ring of as many as it has.
  std::vector<Chain> chains_;
  size_t first_ = 0;
  size_t buffers_ = 0;
  uint64_t room_ = 0;  // in them
  std::vector<iovec> parts_;
  // Where the end of a frame goes for which the buffers had no room.
  std::unique_ptr<uint8_t[]> spill_;
  // A frame that waits for more buffers: its length, and how much of it they have.
  size_t length_ = 0;
  size_t placed_ = 0;
};

}  // namespace node_kvm
