#include "kick.h"

#include <pthread.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <thread>

#include "vcpu.h"

namespace node_kvm {
namespace {

std::atomic<int> kick_signal{0};

void on_kick(int) {}  // the delivery itself is the effect: KVM_RUN returns EINTR

// Takes a real-time signal that nobody in the process uses, from the top, where libraries that count
// up from SIGRTMIN do not reach.
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

pid_t current_tid() {
  static thread_local pid_t tid = static_cast<pid_t>(::syscall(SYS_gettid));
  return tid;
}

Result prepare_thread_for_kicks() {
  static thread_local bool prepared = false;
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
  sigset_t all, previous;
  ::sigfillset(&all);
  ::pthread_sigmask(SIG_SETMASK, &all, &previous);
  pthread_t thread;
  int error = ::pthread_create(
      &thread, nullptr,
      [](void* self) -> void* {
        static_cast<Watchdog*>(self)->loop();
        return nullptr;
      },
      this);
  ::pthread_sigmask(SIG_SETMASK, &previous, nullptr);
  if (error != 0) return -error;
  ::pthread_setname_np(thread, "kvm-watchdog");
  ::pthread_detach(thread);
  started_ = true;
  return 0;
}

Result Watchdog::watch(Vcpu& vcpu) {
  std::lock_guard<std::mutex> lock(mutex_);
  if (!started_) {
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
  std::lock_guard<std::mutex> lock(mutex_);
  woken_ = true;
  changed_.notify_one();
}

void Watchdog::loop() {
  using Clock = std::chrono::steady_clock;
  constexpr auto kTick = std::chrono::milliseconds(kTickMs);
  std::unique_lock<std::mutex> lock(mutex_);
  auto next_tick = Clock::now() + kTick;
  for (;;) {
    woken_ = false;
    sleeping_.store(true, std::memory_order_seq_cst);
    bool active = false;
    auto wake_at = next_tick;
    auto now = Clock::now();
    bool tick = now >= next_tick;
    if (tick) next_tick = now + kTick;
    for (Watched& entry : watched_) {
      uint64_t state = entry.vcpu->state();
      if (!Vcpu::is_guest_state(state)) continue;
      active = true;
      if (entry.vcpu->end_if_overdue(now, &wake_at)) continue;
      if (!tick) continue;
      if (state == entry.last_state) entry.vcpu->request(Vcpu::kSlice);
      entry.last_state = state;
    }
    if (active) {
      sleeping_.store(false, std::memory_order_relaxed);
      changed_.wait_until(lock, std::min(wake_at, next_tick), [&] { return woken_; });
    } else {
      changed_.wait(lock, [&] { return woken_; });
      sleeping_.store(false, std::memory_order_relaxed);
      next_tick = Clock::now() + kTick;
    }
  }
}

}  // namespace node_kvm
