// A vCPU's own thread. It runs the guest and parks at each exit until the owner has answered it;
// it knows no JavaScript value, only a queue that wakes the owner.
#pragma once

#include <pthread.h>
#include <sched.h>
#include <signal.h>

#include <deque>
#include <functional>
#include <mutex>

#include "vcpu.h"

namespace node_kvm {

class VcpuThread;

// What a vCPU's thread tells its owner.
enum class ThreadEvent : uint32_t {
  kExit,    // it is parked until the exit is answered
  kPaused,  // it is outside the guest because of pause()
  kEnded,   // it is gone
};

// Events on their way to the thread that owns the machine.
class ExitQueue final : public RefCounted {
 public:
  struct Entry {
    Ref<VcpuThread> thread;
    Result status;  // of Vcpu::run(), or the number of a pause
    ThreadEvent event;
  };
  // `notify` is called from vCPU threads and must be cheap and safe there.
  explicit ExitQueue(std::function<void()> notify) : notify_(std::move(notify)) {}

  void push(Entry entry);
  bool pop(Entry* out);
  // No notification after this returns: what it would touch is about to go.
  void shut();

 private:
  ~ExitQueue() override = default;
  std::mutex mutex_;
  std::deque<Entry> entries_;
  std::function<void()> notify_;
};

class VcpuThread final : public Object {
 public:
  // `index` is the owner's name for this vCPU; a `paused` one waits for resume() first. Null with
  // errno set when there can be no thread.
  static Ref<VcpuThread> start(Ref<Vcpu> vcpu, Ref<ExitQueue> queue, uint32_t index, bool paused);

  uint32_t index() const { return index_; }
  // Waits for the moment that a new thread takes to know it.
  pid_t tid();
  // Answers the exit that the thread is parked at.
  void answer();
  // Takes the thread out of the guest, after the exit it may be parked at was answered. The queue
  // says when it is there; the entry's status is the number of calls that it answers. It stays
  // there until resume() or stop(). THREAD: the owner's.
  void pause();
  void resume();
  // Asks the thread to end, wherever it is. Does not wait.
  void stop();
  void close() override { stop(); }
  // Waits for the end. THREAD: the owner's, once, after stop() or when the queue said `kEnded`.
  void join();

  // Of the kernel's thread; ESRCH once it has ended.
  Result set_affinity(const cpu_set_t* cpus, size_t size);
  Result set_nice(int nice);
  Result set_scheduler(int policy, int priority);
  // What it has used of a CPU, in the guest and out of it; the last value after the end.
  int64_t cpu_time_ns();

 private:
  // Bits of word_, which the thread sleeps on.
  static constexpr uint32_t kAnswered = 1;
  static constexpr uint32_t kPause = 2;
  static constexpr uint32_t kReportPause = 4;
  static constexpr uint32_t kStop = 8;
  static constexpr uint32_t kAsleep = 16;

  VcpuThread(Ref<Vcpu> vcpu, Ref<ExitQueue> queue, uint32_t index, bool paused)
      : Object(Kind::kThread),
        vcpu_(std::move(vcpu)),
        queue_(std::move(queue)),
        index_(index),
        word_(paused ? kPause : 0) {}
  ~VcpuThread() override = default;
  void loop();
  void pass_gate();
  void report_pause();
  void wait_for_answer();
  void end(Result status);
  template <typename Condition>
  void wait_until(Condition condition);
  void set(uint32_t bits);
  bool stopped() const { return (word_.load(std::memory_order_acquire) & kStop) != 0; }
  template <typename Call>
  Result while_alive(Call call);

  Ref<Vcpu> vcpu_;
  Ref<ExitQueue> queue_;
  uint32_t index_;
  pthread_t thread_{};
  std::atomic<uint32_t> word_;
  std::atomic<pid_t> tid_{0};
  std::atomic<bool> joined_{false};
  int64_t spin_ns_ = 0;  // how long it looks for an answer before it sleeps
  // Held while somebody relies on the thread being there.
  std::mutex mutex_;
  bool ended_ = false;
  Result pauses_ = 0;  // calls of pause()
  int64_t cpu_time_ns_ = 0;
};

}  // namespace node_kvm
