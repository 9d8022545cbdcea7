// Making a thread leave KVM_RUN: the signal, and the watchdog that sends it when nobody else would.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <chrono>
#include <mutex>
#include <vector>

#include "base.h"

namespace node_kvm {

class Vcpu;

// THREAD: any thread, before its first KVM_RUN. Chooses and installs the process's kick signal on
// first use and lets the calling thread receive it. 0 or -errno.
Result prepare_thread_for_kicks();
// The kick signal's place in a signal mask, bit number - 1; chooses the signal on first use.
Result kick_signal_bit(uint64_t* bit);
pid_t current_tid();
// Makes the thread's KVM_RUN return EINTR. Harmless to a thread that is elsewhere or has ended.
void kick_thread(pid_t tid);

// One thread for the process. It ends runs whose deadline has passed, and ends the slice of any run
// that has kept a JavaScript thread inside the guest for one to two ticks, because only a return to
// JavaScript lets Node end a Worker or the process. It sleeps while no vCPU is in guest mode.
class Watchdog {
 public:
  static constexpr int kTickMs = 50;
  static Watchdog& instance();

  Result watch(Vcpu& vcpu);
  void unwatch(Vcpu& vcpu);
  // ORDER: after the vCPU's state says it is in guest mode. The sleeping flag is set before the
  // watchdog looks at the states a last time, so one of the two always sees the other.
  static void on_enter_guest() {
    if (sleeping_.load(std::memory_order_seq_cst)) instance().wake();
  }
  void wake();
  // For a deadline that has been set. A thread that looks in time by itself is left asleep: a
  // wake-up at each of many short runs would cost more than they.
  void wake_before(int64_t deadline_ns);

 private:
  Result start();
  void loop();
  bool look(std::chrono::steady_clock::time_point now, bool tick,
            std::chrono::steady_clock::time_point* wake_at);
  struct Watched {
    Vcpu* vcpu;
    uint64_t last_state;
  };
  std::mutex mutex_;  // guards watched_
  std::vector<Watched> watched_;
  std::atomic<int64_t> wakes_at_ns_{INT64_MAX};
  std::atomic<int> event_{-1};  // an eventfd: what wakes the thread
  // Of the class and not of the instance: read at every entry, it must not cost a call.
  static inline std::atomic<bool> sleeping_{false};
};

}  // namespace node_kvm
