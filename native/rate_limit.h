// A token bucket for bytes and operations in a second. What has begun may go beyond what is there;
// the next one then waits until the debt is paid, so a large operation needs no large bucket.
#pragma once

#include <atomic>
#include <cstdint>
#include <mutex>

namespace node_kvm {

class RateLimit {
 public:
  struct Rate {
    double per_second = 0;  // 0: no limit
    double burst = 0;       // the bucket's size
  };

  // With full buckets.
  void set(Rate bytes, Rate operations, int64_t now_ns);
  bool limits() const { return limited_.load(std::memory_order_acquire); }
  // How long until the next operation may begin: 0 when now.
  int64_t wait_ns(int64_t now_ns);
  void charge(uint64_t bytes);

 private:
  struct Bucket {
    Rate rate;
    double level = 0;
    void fill(double seconds);
    double wait() const;  // seconds
  };
  std::atomic<bool> limited_{false};
  std::mutex mutex_;
  Bucket bytes_;
  Bucket operations_;
  int64_t filled_ns_ = 0;
};

}  // namespace node_kvm
