// Transfers that the page cache can do at once, in the calling thread. That is cheaper than to
// start them and hear of their end, and to a file io_uring(7) makes most writes in another thread.
#pragma once

#include "io_engine.h"

namespace node_kvm {

// THREAD: one at a time.
class ImmediateIo {
 public:
  // Whether an operation on so many bytes was done, and its result.
  bool attempt(const IoOperation& operation, uint64_t bytes, Result* result);

 private:
  bool read(const IoOperation& operation, uint64_t bytes, Result* result);
  bool write(const IoOperation& operation, Result* result);

  // Not to be attempted: so many of the next ones.
  uint32_t reads_skipped_ = 0;
  uint32_t writes_skipped_ = 0;
};

}  // namespace node_kvm
