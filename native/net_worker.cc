#include "net_worker.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "own_thread.h"

namespace node_kvm {
namespace {

// What an event is about.
enum Source : uint64_t { kWake, kTap, kReceiveKick, kTransmitKick };

void ring(int fd) {
  uint64_t one = 1;
  [[maybe_unused]] ssize_t written = ::write(fd, &one, sizeof(one));
}

}  // namespace

NetWorker::NetWorker(const Request& request)
    : Object(Kind::kNetWorker), request_(request), link_up_(request.link_up) {
  int64_t now = monotonic_ns();
  receive_.limit.set(request.receive.bytes, request.receive.frames, now);
  transmit_.limit.set(request.transmit.bytes, request.transmit.frames, now);
}

NetWorker::~NetWorker() {
  for (int fd : {epoll_, tap_, wake_}) {
    if (fd >= 0) ::close(fd);
  }
}

Result NetWorker::start(const Request& request, Ref<NetWorker>* out) {
  auto worker = Ref<NetWorker>::adopt(new NetWorker(request));
  if (Result error = worker->set_up()) return error;
  worker->retain();  // the thread's own reference
  // Its last deed is to say that it has ended: nobody joins it.
  Result error = start_detached_thread(
      "kvm-net",
      [](void* raw) -> void* {
        auto self = Ref<NetWorker>::adopt(static_cast<NetWorker*>(raw));
        self->loop();
        return nullptr;
      },
      worker.get());
  if (error != 0) {
    worker->release();
    return error;
  }
  *out = std::move(worker);
  return 0;
}

// The descriptor is the worker's own, so that the TAP may be closed at any time.
Result NetWorker::set_up() {
  auto receive = Virtqueue::create(request_.ram, request_.receive.setup);
  auto transmit = Virtqueue::create(request_.ram, request_.transmit.setup);
  if (!receive || !transmit) return -EINVAL;
  {
    Use use(*request_.tap);
    if (use.error()) return use.error();
    tap_ = ::fcntl(request_.tap->fd(), F_DUPFD_CLOEXEC, 0);
  }
  if (tap_ < 0) return -errno;
  // A property of the file and not of the descriptor: nobody else waits in it.
  int flags = ::fcntl(tap_, F_GETFL);
  if (flags < 0 || ::fcntl(tap_, F_SETFL, flags | O_NONBLOCK) < 0) return -errno;
  epoll_ = ::epoll_create1(EPOLL_CLOEXEC);
  wake_ = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (epoll_ < 0 || wake_ < 0) return -errno;
  epoll_event wake{EPOLLIN, {}};
  wake.data.u64 = kWake;
  epoll_event tap{EPOLLIN | EPOLLOUT | EPOLLET, {}};
  tap.data.u64 = kTap;
  if (::epoll_ctl(epoll_, EPOLL_CTL_ADD, wake_, &wake) != 0 ||
      ::epoll_ctl(epoll_, EPOLL_CTL_ADD, tap_, &tap) != 0) {
    return -errno;
  }
  if (Result error = watch(*request_.receive.kick, EPOLLIN | EPOLLET, kReceiveKick)) return error;
  if (Result error = watch(*request_.transmit.kick, EPOLLIN | EPOLLET, kTransmitKick)) return error;
  receiver_ =
      std::make_unique<FrameReceiver>(std::move(receive), request_.receive.call, tap_,
                                      request_.mergeable, &receive_.limit, &receive_.counts);
  sender_ = std::make_unique<FrameSender>(std::move(transmit), request_.transmit.call, tap_,
                                          &transmit_.limit, &transmit_.counts);
  return 0;
}

Result NetWorker::watch(PlainFile& file, uint32_t events, uint64_t what) {
  Use use(file);
  if (use.error()) return use.error();
  epoll_event event{events, {}};
  event.data.u64 = what;
  return or_errno(::epoll_ctl(epoll_, EPOLL_CTL_ADD, file.fd(), &event));
}

void NetWorker::loop() {
  while (!stopping_.load(std::memory_order_acquire)) {
    if (pausing_.load(std::memory_order_acquire)) {
      if (!(state() & kPaused)) report(kPaused);
      wait(-1);
      continue;
    }
    int64_t receive_delay = receive();
    int64_t transmit_delay = transmit();
    bool later = receive_delay < 0 || (transmit_delay >= 0 && transmit_delay < receive_delay);
    wait(later ? transmit_delay : receive_delay);
  }
  // What they know of the guest's RAM is not to be touched once the end is told.
  receiver_.reset();
  sender_.reset();
  request_.ram.reset();
  report(kEnded);
}

// Eventfds are watched at their edges, and so need not be read.
void NetWorker::wait(int64_t timeout_ns) {
  epoll_event events[4];
  // epoll_wait counts milliseconds.
  if (timeout_ns > 0) {
    timespec timeout{timeout_ns / 1000000000, timeout_ns % 1000000000};
    pollfd any{epoll_, POLLIN, 0};
    ::ppoll(&any, 1, &timeout, nullptr);
  }
  int count = ::epoll_wait(epoll_, events, 4, timeout_ns < 0 ? -1 : 0);
  for (int i = 0; i < count; i++) {
    switch (events[i].data.u64) {
      case kTap:
        receive_.has_frames = true;
        transmit_.has_room = true;
        break;
      case kReceiveKick:
        receive_.has_room = true;
        break;
      case kTransmitKick:
        transmit_.has_frames = true;
        break;
      default: {
        uint64_t drained;
        [[maybe_unused]] ssize_t read = ::read(wake_, &drained, sizeof(drained));
        // The link may have changed, and with it what is to be done.
        receive_.has_frames = receive_.has_room = true;
      }
    }
  }
}

int64_t NetWorker::receive() {
  if (!receive_.can_move() || (state() & (kBroken | kGone)) != 0) return -1;
  FrameOutcome outcome = receiver_->run(link_up_.load(std::memory_order_relaxed));
  return after(outcome, &receive_);
}

// What the guest sends when the TAP is gone is thrown away.
int64_t NetWorker::transmit() {
  if (!transmit_.can_move() || (state() & kBroken) != 0) return -1;
  bool link_up = link_up_.load(std::memory_order_relaxed) && (state() & kGone) == 0;
  FrameOutcome outcome = sender_->run(link_up);
  return after(outcome, &transmit_);
}

int64_t NetWorker::after(FrameOutcome outcome, Direction* direction) {
  switch (outcome) {
    case FrameOutcome::kMore:
      return 0;
    case FrameOutcome::kLimited:
      return std::max<int64_t>(1, wait_ns(direction->limit));
    case FrameOutcome::kGathers:
      return std::max<int64_t>(1, sender_->gathers_ns());
    case FrameOutcome::kNoFrames:
      direction->has_frames = false;
      return -1;
    case FrameOutcome::kNoRoom:
      direction->has_room = false;
      return -1;
    case FrameOutcome::kBroken:
      report(kBroken);
      return -1;
    case FrameOutcome::kGone:
      report(kGone);
      return 0;
  }
  return -1;
}

void NetWorker::report(uint32_t bits) {
  state_.fetch_or(bits, std::memory_order_acq_rel);
  request_.bell->ring();
}

void NetWorker::set_link(bool up) {
  link_up_.store(up, std::memory_order_relaxed);
  ring(wake_);
}

void NetWorker::pause() {
  pausing_.store(true, std::memory_order_release);
  ring(wake_);
}

void NetWorker::resume() {
  state_.fetch_and(~uint32_t{kPaused}, std::memory_order_acq_rel);
  pausing_.store(false, std::memory_order_release);
  ring(wake_);
}

void NetWorker::stop() {
  stopping_.store(true, std::memory_order_release);
  ring(wake_);
}

}  // namespace node_kvm
