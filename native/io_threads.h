// An IoEngine for kernels without io_uring: a few threads that call preadv(2), pwritev(2),
// fdatasync(2) and fallocate(2).
#pragma once

#include <pthread.h>

#include <condition_variable>
#include <deque>
#include <mutex>
#include <vector>

#include "io_engine.h"

namespace node_kvm {

class IoThreads final : public IoEngine {
 public:
  // Null with errno set when there can be no threads.
  static std::unique_ptr<IoThreads> create();
  ~IoThreads() override;

  void watch(int fd, uint64_t token) override;
  void start(const IoOperation& operation) override;
  size_t wait(int64_t timeout_ns, IoCompletion* out, size_t most) override;
  bool is_ring() const override { return false; }

 private:
  explicit IoThreads(int bell) : bell_(bell) {}
  void loop();
  size_t take(IoCompletion* out, size_t most);

  int bell_;  // an eventfd, rung for completions
  std::vector<pthread_t> threads_;
  int watched_ = -1;
  uint64_t watch_token_ = 0;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<IoOperation> started_;
  std::deque<IoCompletion> complete_;
  bool ending_ = false;
};

}  // namespace node_kvm
