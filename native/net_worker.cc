#include "net_worker.h"

#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "own_thread.h"

namespace node_kvm {
namespace {

// What an event is about.
enum Source : uint64_t { kWake, kTap, kReceiveKick, kTransmitKick };

// Frames in one direction before the other has its turn, and before the driver hears of them.
constexpr int kBudget = 64;

void ring(int fd) {
  uint64_t one = 1;
  [[maybe_unused]] ssize_t written = ::write(fd, &one, sizeof(one));
}

}  // namespace

NetWorker::NetWorker(const Request& request)
    : Object(Kind::kNetWorker), request_(request), link_up_(request.link_up) {
  int64_t now = monotonic_ns();
  receive_limit_.set(request.receive.bytes, request.receive.frames, now);
  transmit_limit_.set(request.transmit.bytes, request.transmit.frames, now);
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
  pthread_t thread;
  int error = start_thread(
      &thread, "kvm-net",
      [](void* raw) -> void* {
        auto self = Ref<NetWorker>::adopt(static_cast<NetWorker*>(raw));
        self->loop();
        return nullptr;
      },
      worker.get());
  if (error != 0) {
    worker->release();
    return -error;
  }
  // Its last deed is to say that it has ended: nobody joins it.
  ::pthread_detach(thread);
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
  receiver_ = std::make_unique<FrameReceiver>(std::move(receive), tap_, request_.mergeable,
                                              &receive_limit_, &received_);
  sender_ =
      std::make_unique<FrameSender>(std::move(transmit), tap_, &transmit_limit_, &transmitted_);
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
  // Rounded up: a limit that is looked at too early costs another round.
  int timeout_ms = timeout_ns < 0 ? -1 : static_cast<int>((timeout_ns + 999999) / 1000000);
  int count = ::epoll_wait(epoll_, events, 4, timeout_ms);
  for (int i = 0; i < count; i++) {
    switch (events[i].data.u64) {
      case kTap:
        readable_ = true;
        writable_ = true;
        break;
      case kReceiveKick:
        buffers_ = true;
        break;
      case kTransmitKick:
        frames_ = true;
        break;
      default: {
        uint64_t drained;
        [[maybe_unused]] ssize_t read = ::read(wake_, &drained, sizeof(drained));
        // The link may have changed, and with it what is to be done.
        readable_ = buffers_ = true;
      }
    }
  }
}

int64_t NetWorker::receive() {
  using Outcome = FrameReceiver::Outcome;
  if (!readable_ || !buffers_ || (state() & (kBroken | kGone)) != 0) return -1;
  Outcome outcome = receiver_->run(kBudget, link_up_.load(std::memory_order_relaxed));
  if (receiver_->needs_interrupt()) interrupt(*request_.receive.call);
  switch (outcome) {
    case Outcome::kMore:
      return 0;
    case Outcome::kLimited:
      return std::max<int64_t>(1, wait_ns(receive_limit_));
    case Outcome::kEmpty:
      readable_ = false;
      return -1;
    case Outcome::kNoBuffers:
      buffers_ = false;
      return -1;
    case Outcome::kBroken:
      report(kBroken);
      return -1;
    case Outcome::kGone:
      report(kGone);
      return -1;
  }
  return -1;
}

int64_t NetWorker::transmit() {
  using Outcome = FrameSender::Outcome;
  if (!writable_ || !frames_ || (state() & kBroken) != 0) return -1;
  bool link_up = link_up_.load(std::memory_order_relaxed) && (state() & kGone) == 0;
  Outcome outcome = sender_->run(kBudget, link_up);
  if (sender_->needs_interrupt()) interrupt(*request_.transmit.call);
  switch (outcome) {
    case Outcome::kMore:
      return 0;
    case Outcome::kLimited:
      return std::max<int64_t>(1, wait_ns(transmit_limit_));
    case Outcome::kEmpty:
      frames_ = false;
      return -1;
    case Outcome::kBlocked:
      writable_ = false;
      return -1;
    case Outcome::kBroken:
      report(kBroken);
      return -1;
    case Outcome::kGone:
      // What the guest sends is thrown away from now on.
      report(kGone);
      return 0;
  }
  return -1;
}

void NetWorker::report(uint32_t bits) {
  state_.fetch_or(bits, std::memory_order_acq_rel);
  interrupt(*request_.bell);
}

void NetWorker::interrupt(PlainFile& call) {
  Use use(call);
  if (use.error() == 0) ring(call.fd());
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
