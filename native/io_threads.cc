#include "io_threads.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "own_thread.h"

namespace node_kvm {
namespace {

constexpr size_t kThreads = 4;
constexpr int64_t kSecond = 1000000000;
constexpr int kDsync = 2;  // RWF_DSYNC

Result perform(const IoOperation& operation) {
  auto count = static_cast<int>(operation.part_count);
  auto offset = static_cast<off_t>(operation.offset);
  switch (operation.kind) {
    case IoOperation::Kind::kRead:
      return or_errno(::preadv(operation.fd, operation.parts, count, offset));
    case IoOperation::Kind::kWrite:
      return or_errno(
          ::pwritev2(operation.fd, operation.parts, count, offset, operation.durable ? kDsync : 0));
    case IoOperation::Kind::kSync:
      return or_errno(::fdatasync(operation.fd));
    case IoOperation::Kind::kAllocate:
      return or_errno(
          ::fallocate(operation.fd, operation.mode, offset, static_cast<off_t>(operation.length)));
  }
  return -EINVAL;
}

}  // namespace

std::unique_ptr<IoThreads> IoThreads::create() {
  int bell = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (bell < 0) return nullptr;
  std::unique_ptr<IoThreads> engine(new IoThreads(bell));
  for (size_t i = 0; i < kThreads; i++) {
    pthread_t thread;
    int error = start_thread(
        &thread, "kvm-io",
        [](void* raw) -> void* {
          static_cast<IoThreads*>(raw)->loop();
          return nullptr;
        },
        engine.get());
    if (error == 0) {
      engine->threads_.push_back(thread);
    } else if (i == 0) {
      engine.reset();
      errno = error;
      return nullptr;
    }
  }
  return engine;
}

IoThreads::~IoThreads() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    ending_ = true;
  }
  wake_.notify_all();
  for (pthread_t thread : threads_) ::pthread_join(thread, nullptr);
  ::close(bell_);
}

void IoThreads::loop() {
  std::unique_lock<std::mutex> lock(mutex_);
  for (;;) {
    wake_.wait(lock, [&] { return ending_ || !started_.empty(); });
    if (started_.empty()) return;
    IoOperation operation = started_.front();
    started_.pop_front();
    lock.unlock();
    Result result = perform(operation);
    lock.lock();
    complete_.push_back({operation.token, result});
    uint64_t one = 1;
    // A full counter rings as well.
    if (complete_.size() == 1 && ::write(bell_, &one, sizeof one) < 0) continue;
  }
}

void IoThreads::watch(int fd, uint64_t token) {
  watched_ = fd;
  watch_token_ = token;
}

void IoThreads::start(const IoOperation& operation) {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    started_.push_back(operation);
  }
  wake_.notify_one();
}

size_t IoThreads::take(IoCompletion* out, size_t most) {
  std::lock_guard<std::mutex> lock(mutex_);
  size_t count = 0;
  for (; count < most && !complete_.empty(); count++) {
    out[count] = complete_.front();
    complete_.pop_front();
  }
  return count;
}

size_t IoThreads::wait(int64_t timeout_ns, IoCompletion* out, size_t most) {
  size_t count = take(out, most);
  pollfd files[] = {{bell_, POLLIN, 0}, {watched_, POLLIN, 0}};
  if (count != 0) timeout_ns = 0;
  timespec timeout{timeout_ns / kSecond, timeout_ns % kSecond};
  int ready = ::ppoll(files, 2, timeout_ns < 0 ? nullptr : &timeout, nullptr);
  if (ready <= 0) return count;
  uint64_t signals = 0;
  // ORDER: emptied before the look, so that what comes after it rings again.
  if (files[0].revents != 0 && ::read(bell_, &signals, sizeof signals) > 0) {
    count += take(out + count, most - count);
  }
  // Nothing to read is no matter: somebody else was faster.
  if (files[1].revents != 0 && count<most&& ::read(watched_, &signals, sizeof signals)> 0) {
    out[count++] = {watch_token_, 1};
  }
  return count;
}

}  // namespace node_kvm
