// A vCPU's own thread. It runs the guest and parks at each exit until the owner has answered it;
// it knows no JavaScript value, only a queue that wakes the owner.
#pragma once

#include <pthread.h>
#include <signal.h>

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <unordered_set>

#include "vcpu.h"

namespace node_kvm {

class VcpuThread;

// Exits on their way to the thread that owns the machine.
class ExitQueue final : public RefCounted {
 public:
  struct Entry {
    Ref<VcpuThread> thread;
    Result status;  // of Vcpu::run()
    bool ended;     // the thread is gone; nothing waits for an answer
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
  // `index` is the owner's name for this vCPU. Null with errno set when there can be no thread.
  static Ref<VcpuThread> start(Ref<Vcpu> vcpu, Ref<ExitQueue> queue, uint32_t index);

  uint32_t index() const { return index_; }
  pid_t tid() const { return tid_.load(); }
  // Answers the exit that the thread is parked at.
  void resume();
  // Asks the thread to end, wherever it is. Does not wait.
  void stop();
  void close() override { stop(); }
  // Waits for the end. THREAD: the owner's, once, after stop() or when the queue said `ended`.
  void join();

 private:
  VcpuThread(Ref<Vcpu> vcpu, Ref<ExitQueue> queue, uint32_t index)
      : Object(Kind::kThread),
        vcpu_(std::move(vcpu)),
        queue_(std::move(queue)),
        index_(index) {}
  ~VcpuThread() override = default;
  void loop();
  bool wait_for_answer();

  Ref<Vcpu> vcpu_;
  Ref<ExitQueue> queue_;
  uint32_t index_;
  pthread_t thread_{};
  std::atomic<pid_t> tid_{0};
  std::atomic<bool> joined_{false};
  std::mutex mutex_;
  std::condition_variable changed_;
  bool parked_ = false;
  bool stop_ = false;
  bool ended_ = false;
};

}  // namespace node_kvm
