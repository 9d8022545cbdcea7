// What the two directions of a network device's queue pair share.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>

#include "base.h"
#include "rate_limit.h"

namespace node_kvm {

// struct virtio_net_hdr_mrg_rxbuf, before each frame.
constexpr size_t kNetHeaderSize = 12;
constexpr size_t kNetHeaderBuffers = 10;  // where it says how many buffers a frame has
// An IP packet of 64 KiB with its Ethernet header, a VLAN tag and the above.
constexpr size_t kMostFrameBytes = 65535 + 18 + kNetHeaderSize;

// How much to move in one direction before the other has its turn, and before the driver hears of
// it. Large frames take their time, and the driver has something to do meanwhile.
struct FrameBudget {
  int frames = 64;
  size_t bytes = 32768;

  bool left() const { return frames != 0 && bytes != 0; }
  void spend(size_t size) {
    frames--;
    bytes -= std::min(bytes, size);
  }
};

// How moving frames in one direction came to a halt.
enum class FrameOutcome {
  kMore,      // the budget is used up
  kLimited,   // the rate limit says to wait
  kGathers,   // more are awaited before any is moved
  kNoFrames,  // there are none where they come from, which will tell of the next
  kNoRoom,    // where they go takes no more for now, and will tell when it does
  kBroken,    // the driver did what it must not
  kGone,      // the TAP is
};

// Read by other threads at any time.
struct NetCounts {
  std::atomic<uint64_t> frames{0};
  std::atomic<uint64_t> bytes{0};
  std::atomic<uint64_t> dropped{0};

  void passed(size_t size) {
    frames.store(frames.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
    bytes.store(bytes.load(std::memory_order_relaxed) + size, std::memory_order_relaxed);
  }
  void drop() {
    dropped.store(dropped.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
  }
};

// Nanoseconds until a frame may pass; 0: now.
inline int64_t wait_ns(RateLimit& limit) {
  return limit.limits() ? limit.wait_ns(monotonic_ns()) : 0;
}

}  // namespace node_kvm
