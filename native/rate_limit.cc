#include "rate_limit.h"

#include <algorithm>
#include <cmath>

namespace node_kvm {
namespace {
constexpr double kSecond = 1e9;
}  // namespace

void RateLimit::Bucket::fill(double seconds) {
  level = std::min(rate.burst, level + rate.per_second * seconds);
}

double RateLimit::Bucket::wait() const {
  return rate.per_second == 0 || level > 0 ? 0 : -level / rate.per_second;
}

void RateLimit::set(Rate bytes, Rate operations, int64_t now_ns) {
  std::lock_guard<std::mutex> lock(mutex_);
  bytes_ = {bytes, bytes.burst};
  operations_ = {operations, operations.burst};
  filled_ns_ = now_ns;
  limited_.store(bytes.per_second != 0 || operations.per_second != 0, std::memory_order_release);
}

int64_t RateLimit::wait_ns(int64_t now_ns) {
  if (!limited_.load(std::memory_order_acquire)) return 0;
  std::lock_guard<std::mutex> lock(mutex_);
  double seconds = static_cast<double>(now_ns - filled_ns_) / kSecond;
  filled_ns_ = now_ns;
  bytes_.fill(seconds);
  operations_.fill(seconds);
  // At least one, so that an empty bucket does not look like one that may be used.
  double wait = std::max(bytes_.wait(), operations_.wait());
  bool empty = (bytes_.rate.per_second != 0 && bytes_.level <= 0) ||
               (operations_.rate.per_second != 0 && operations_.level <= 0);
  return empty ? 1 + static_cast<int64_t>(std::ceil(wait * kSecond)) : 0;
}

void RateLimit::charge(uint64_t bytes) {
  if (!limited_.load(std::memory_order_acquire)) return;
  std::lock_guard<std::mutex> lock(mutex_);
  bytes_.level -= static_cast<double>(bytes);
  operations_.level -= 1;
}

}  // namespace node_kvm
