#include "immediate_io.h"

#include <sys/uio.h>
#include <time.h>

namespace node_kvm {
namespace {

constexpr int kNowait = 8;  // RWF_NOWAIT
// What is read is not in the cache, and so probably neither is what comes next.
constexpr uint32_t kSkippedReads = 16;
// A write that took longer than any copy has waited: for dirty pages to be written back, for a
// journal. The next ones leave the waiting to other threads, so that this one can serve others.
constexpr int64_t kSlowNs = 10'000'000;
constexpr uint32_t kSkippedWrites = 256;

// To some milliseconds, and nearly for nothing.
int64_t coarse_ns() {
  timespec now;
  ::clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
  return int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
}

bool skip(uint32_t* count) {
  if (*count == 0) return false;
  --*count;
  return true;
}

}  // namespace

bool ImmediateIo::attempt(const IoOperation& operation, uint64_t bytes, Result* result) {
  if (!operation.cached || operation.durable) return false;
  switch (operation.kind) {
    case IoOperation::Kind::kRead:
      return !skip(&reads_skipped_) && read(operation, bytes, result);
    case IoOperation::Kind::kWrite:
      return !skip(&writes_skipped_) && write(operation, result);
    default:
      return false;
  }
}

// Less than all, and errors, among them that of a file system that always waits, are not believed:
// the operation is then made in the usual way.
bool ImmediateIo::read(const IoOperation& operation, uint64_t bytes, Result* result) {
  ssize_t done = ::preadv2(operation.fd, operation.parts, static_cast<int>(operation.part_count),
                           static_cast<off_t>(operation.offset), kNowait);
  *result = done;
  if (done >= 0 && static_cast<uint64_t>(done) == bytes) return true;
  reads_skipped_ = kSkippedReads;
  return false;
}

bool ImmediateIo::write(const IoOperation& operation, Result* result) {
  int64_t begin = coarse_ns();
  *result =
      or_errno(::pwritev(operation.fd, operation.parts, static_cast<int>(operation.part_count),
                         static_cast<off_t>(operation.offset)));
  if (coarse_ns() - begin > kSlowNs) writes_skipped_ = kSkippedWrites;
  return true;
}

}  // namespace node_kvm
