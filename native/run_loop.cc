#include "run_loop.h"

#include <cstdio>

namespace node_kvm {

void ExitQueue::push(Entry entry) {
  std::lock_guard<std::mutex> lock(mutex_);
  if (!notify_) return;
  entries_.push_back(std::move(entry));
  notify_();
}

bool ExitQueue::pop(Entry* out) {
  std::lock_guard<std::mutex> lock(mutex_);
  if (entries_.empty()) return false;
  *out = std::move(entries_.front());
  entries_.pop_front();
  return true;
}

void ExitQueue::shut() {
  std::deque<Entry> dropped;  // outside the lock: an entry may hold the last reference to its thread
  std::lock_guard<std::mutex> lock(mutex_);
  notify_ = nullptr;
  dropped.swap(entries_);
}

Ref<VcpuThread> VcpuThread::start(Ref<Vcpu> vcpu, Ref<ExitQueue> queue, uint32_t index) {
  auto self = Ref<VcpuThread>::adopt(new VcpuThread(std::move(vcpu), std::move(queue), index));
  self->retain();  // the thread's own reference
  // The thread inherits a mask with everything blocked: signals meant for Node stay with Node.
  sigset_t all, previous;
  ::sigfillset(&all);
  ::pthread_sigmask(SIG_SETMASK, &all, &previous);
  int error = ::pthread_create(
      &self->thread_, nullptr,
      [](void* raw) -> void* {
        auto thread = Ref<VcpuThread>::adopt(static_cast<VcpuThread*>(raw));
        thread->loop();
        return nullptr;
      },
      self.get());
  ::pthread_sigmask(SIG_SETMASK, &previous, nullptr);
  if (error != 0) {
    self->release();
    errno = error;
    return {};
  }
  char name[16];
  std::snprintf(name, sizeof(name), "kvm-vcpu-%u", self->vcpu_->vcpu_id());
  ::pthread_setname_np(self->thread_, name);
  return self;
}

void VcpuThread::loop() {
  pid_t tid = current_tid();
  tid_.store(tid);
  // Here and not at the first run: a tid that is used again would pass for one that is prepared.
  Result status = prepare_thread_for_kicks();
  while (status >= 0) {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      if (stop_) break;
    }
    status = vcpu_->run(tid);
    if (status == Vcpu::kSlice) continue;  // slices are for JavaScript threads
    {
      std::lock_guard<std::mutex> lock(mutex_);
      if (stop_) break;
      parked_ = true;
    }
    queue_->push({Ref<VcpuThread>(this), status, false});
    if (!wait_for_answer()) break;
  }
  {
    std::lock_guard<std::mutex> lock(mutex_);
    ended_ = true;
    // What stop() asked of this thread must not end a run of the next one.
    vcpu_->withdraw(Vcpu::kStop);
  }
  queue_->push({Ref<VcpuThread>(this), status, true});
}

bool VcpuThread::wait_for_answer() {
  std::unique_lock<std::mutex> lock(mutex_);
  changed_.wait(lock, [&] { return !parked_ || stop_; });
  return !stop_;
}

void VcpuThread::resume() {
  std::lock_guard<std::mutex> lock(mutex_);
  parked_ = false;
  changed_.notify_one();
}

// ORDER: the request is made under the lock, so that the thread's end withdraws it or prevents it.
void VcpuThread::stop() {
  std::lock_guard<std::mutex> lock(mutex_);
  if (ended_) return;
  stop_ = true;
  changed_.notify_one();
  vcpu_->request(Vcpu::kStop);
}

void VcpuThread::join() {
  if (!joined_.exchange(true)) ::pthread_join(thread_, nullptr);
}

}  // namespace node_kvm
