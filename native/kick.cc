#include "kick.h"

#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>

#include "own_thread.h"
#include "vcpu.h"

namespace node_kvm {
namespace {

std::atomic<int> kick_signal{0};

void on_kick(int) {}  // the delivery itself is the effect: KVM_RUN returns EINTR

// Takes a real-time signal that nobody in the process uses, from the top, where libraries that
// count up from SIGRTMIN do not reach.
Result choose_signal() {
  static std::mutex mutex;
  std::lock_guard<std::mutex> lock(mutex);
  if (kick_signal.load() != 0) return 0;
  for (int candidate = SIGRTMAX - 1; candidate > SIGRTMIN; candidate--) {
    struct sigaction current {};
    if (::sigaction(candidate, nullptr, &current) != 0) continue;
    if (current.sa_handler != SIG_DFL || (current.sa_flags & SA_SIGINFO)) continue;
    struct sigaction action {};
    action.sa_handler = on_kick;
    action.sa_flags = SA_RESTART;
    ::sigemptyset(&action.sa_mask);
    if (::sigaction(candidate, &action, nullptr) != 0) return -errno;
    kick_signal.store(candidate);
    return 0;
  }
  return -EAGAIN;
}

}  // namespace

Result kick_signal_bit(uint64_t* bit) {
  if (Result error = choose_signal()) return error;
  *bit = uint64_t{1} << (kick_signal.load() - 1);
  return 0;
}

// In the part of a thread's memory that is there from its start: the other part is allocated when a
// thread comes to it, which for the first time in each of a thousand threads is much of its start.
#ifdef __GLIBC__
#define THREAD_LOCAL thread_local __attribute__((tls_model("initial-exec")))
#else
#define THREAD_LOCAL thread_local
#endif

pid_t current_tid() {
  static THREAD_LOCAL pid_t tid = static_cast<pid_t>(::syscall(SYS_gettid));
  return tid;
}

Result prepare_thread_for_kicks() {
  static THREAD_LOCAL bool prepared = false;
  if (prepared) return 0;
  if (Result error = choose_signal()) return error;
  sigset_t set;
  ::sigemptyset(&set);
  ::sigaddset(&set, kick_signal.load());
  ::pthread_sigmask(SIG_UNBLOCK, &set, nullptr);
  prepared = true;
  return 0;
}

void kick_thread(pid_t tid) {
  int signal = kick_signal.load(std::memory_order_relaxed);
  if (signal != 0 && tid != 0) ::syscall(SYS_tgkill, ::getpid(), tid, signal);
}

Watchdog& Watchdog::instance() {
  // Leaked on purpose: its thread outlives every destructor that exit() runs.
  static Watchdog* watchdog = new Watchdog;
  return *watchdog;
}

Result Watchdog::start() {
  int event = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (event < 0) return -errno;
  event_.store(event);
  Result error = start_detached_thread(
      "kvm-watchdog",
      [](void* self) -> void* {
        static_cast<Watchdog*>(self)->loop();
        return nullptr;
      },
      this);
  if (error == 0) return 0;
  event_.store(-1);
  ::close(event);
  return error;
}

Result Watchdog::watch(Vcpu& vcpu) {
  std::lock_guard<std::mutex> lock(mutex_);
  if (event_.load() < 0) {
    if (Result error = start()) return error;
  }
  watched_.push_back({&vcpu, 0});
  return 0;
}

void Watchdog::unwatch(Vcpu& vcpu) {
  std::lock_guard<std::mutex> lock(mutex_);
  watched_.erase(std::remove_if(watched_.begin(), watched_.end(),
                                [&](const Watched& entry) { return entry.vcpu == &vcpu; }),
                 watched_.end());
}

void Watchdog::wake() {
  uint64_t one = 1;
  [[maybe_unused]] ssize_t written = ::write(event_.load(), &one, sizeof(one));
}

void Watchdog::wake_before(int64_t deadline_ns) {
  if (deadline_ns < wakes_at_ns_.load(std::memory_order_seq_cst)) wake();
}

// Ends what is overdue and, at a tick, slices that have lasted since the one before. Whether any
// vCPU is in guest mode.
bool Watchdog::look(std::chrono::steady_clock::time_point now, bool tick,
                    std::chrono::steady_clock::time_point* wake_at) {
  std::lock_guard<std::mutex> lock(mutex_);
  bool active = false;
  for (Watched& entry : watched_) {
    uint64_t state = entry.vcpu->state();
    if (!Vcpu::is_sliced_state(state)) continue;
    active = true;
    if (entry.vcpu->end_if_overdue(now, wake_at) || !tick) continue;
    if (state == entry.last_state) entry.vcpu->request(Vcpu::kSlice);
    entry.last_state = state;
  }
  return active;
}

void Watchdog::loop() {
  using Clock = std::chrono::steady_clock;
  constexpr auto kTick = std::chrono::milliseconds(kTickMs);
  const int fd = event_.load();
  pollfd event{fd, POLLIN, 0};
  auto next_tick = Clock::now() + kTick;
  for (;;) {
    sleeping_.store(true, std::memory_order_seq_cst);
    auto now = Clock::now();
    bool tick = now >= next_tick;
    if (tick) next_tick = now + kTick;
    auto wake_at = next_tick;
    // ORDER: before the deadlines are looked at. One that is set later finds this and wakes the
    // thread.
    wakes_at_ns_.store(INT64_MAX, std::memory_order_seq_cst);
    bool active = look(now, tick, &wake_at);
    timespec timeout{};
    if (active) {
      sleeping_.store(false, std::memory_order_relaxed);
      std::chrono::nanoseconds until = wake_at.time_since_epoch();
      wakes_at_ns_.store(until.count(), std::memory_order_seq_cst);
      auto left = std::chrono::nanoseconds(wake_at - now).count();
      timeout = {static_cast<time_t>(left / 1000000000), static_cast<long>(left % 1000000000)};
    }
    ::ppoll(&event, 1, active ? &timeout : nullptr, nullptr);
    sleeping_.store(false, std::memory_order_relaxed);
    uint64_t drained;
    [[maybe_unused]] ssize_t read = ::read(fd, &drained, sizeof(drained));
    if (!active) next_tick = Clock::now() + kTick;
  }
}

}  // namespace node_kvm
