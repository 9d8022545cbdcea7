// How native devices do input and output without waiting for it: operations are started, and come
// back as completions, together with files that became readable. Two ways of the kernel's: io_uring
// (io_ring), and threads that call preadv and pwritev where that is missing (io_threads).
#pragma once

#include <sys/uio.h>

#include <memory>

#include "base.h"

namespace node_kvm {

struct IoOperation {
  enum class Kind : uint8_t { kRead, kWrite, kSync, kAllocate };
  Kind kind = Kind::kRead;
  int fd = -1;
  // SAFETY: the parts, and what they point to, stay until the completion.
  const iovec* parts = nullptr;
  uint32_t part_count = 0;
  uint64_t offset = 0;
  uint64_t length = 0;   // of fallocate(2)
  int mode = 0;          // of fallocate(2)
  bool durable = false;  // a write: complete when it is on the medium (RWF_DSYNC)
  bool cached = false;   // a transfer: by the page cache
  uint64_t token = 0;    // comes back with the completion
};

struct IoCompletion {
  uint64_t token = 0;
  Result result = 0;  // bytes, or -errno
};

// THREAD: the one that made it.
class IoEngine {
 public:
  static constexpr int64_t kForever = -1;

  // With room for `depth` operations at once. `ring`: by io_uring, if this kernel has it.
  // Null with errno set when the kernel refuses.
  static std::unique_ptr<IoEngine> create(uint32_t depth, bool ring);
  virtual ~IoEngine() = default;
  IoEngine(const IoEngine&) = delete;
  IoEngine& operator=(const IoEngine&) = delete;

  // From now on gives a completion whenever an eventfd (EFD_NONBLOCK) was signaled. One, and not
  // counted in `depth`.
  virtual void watch(int fd, uint64_t token) = 0;
  virtual void start(const IoOperation& operation) = 0;
  // Waits until something is complete or the time is over, and gives what is complete: nothing also
  // for no reason. A time of 0 only looks.
  virtual size_t wait(int64_t timeout_ns, IoCompletion* out, size_t most) = 0;
  virtual bool is_ring() const = 0;

 protected:
  IoEngine() = default;
};

}  // namespace node_kvm
