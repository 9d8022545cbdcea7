#include "run_loop.h"

#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include <cstdio>

#include "futex.h"
#include "own_thread.h"

namespace node_kvm {
namespace {

int64_t to_ns(const timespec& time) { return int64_t{time.tv_sec} * 1000000000 + time.tv_nsec; }

// How long a parked thread looks for its answer before it sleeps: a busy event loop answers in
// less, and to be woken takes longer. Never with one CPU, where nobody else could answer.
constexpr int64_t kMostSpinNs = 20'000;
// An answer that was there after so long, a wake-up included, would have been found by looking.
constexpr int64_t kWorthSpinningNs = 60'000;
// A PAUSE takes from 5 to 50 ns by the CPU's model, so the clock says how long it was.
constexpr int kPausesPerLook = 8;

int64_t most_spin_ns() {
  static const int64_t ns = ::sysconf(_SC_NPROCESSORS_ONLN) > 1 ? kMostSpinNs : 0;
  return ns;
}

int64_t now_ns() {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return to_ns(now);
}

}  // namespace

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
  // Outside the lock: an entry may hold the last reference to its thread.
  std::deque<Entry> dropped;
  std::lock_guard<std::mutex> lock(mutex_);
  notify_ = nullptr;
  dropped.swap(entries_);
}

Ref<VcpuThread> VcpuThread::start(Ref<Vcpu> vcpu, Ref<ExitQueue> queue, uint32_t index,
                                  bool paused) {
  auto self =
      Ref<VcpuThread>::adopt(new VcpuThread(std::move(vcpu), std::move(queue), index, paused));
  self->retain();  // the thread's own reference
  // Signals meant for Node stay with Node.
  sigset_t all;
  ::sigfillset(&all);
  int error = create_thread(
      &self->thread_, all,
      [](void* raw) -> void* {
        auto thread = Ref<VcpuThread>::adopt(static_cast<VcpuThread*>(raw));
        thread->loop();
        return nullptr;
      },
      self.get());
  if (error != 0) {
    self->release();
    errno = error;
    return {};
  }
  return self;
}

void VcpuThread::loop() {
  char name[16];
  std::snprintf(name, sizeof(name), "kvm-vcpu-%u", vcpu_->vcpu_id());
  // By the thread itself: of another thread it would be a file of /proc to open, write and close.
  ::pthread_setname_np(::pthread_self(), name);
  reset_protection_keys();
  pid_t tid = current_tid();
  tid_.store(tid);
  futex_wake(tid_);
  // Here and not at the first run: a tid that is used again would pass for one that is prepared.
  Result status = prepare_thread_for_kicks();
  while (status >= 0) {
    pass_gate();
    if (stopped()) break;
    status = vcpu_->run_on_own_thread(tid);
    if (stopped() || status < 0) break;
    if (status == Vcpu::kPause || status == Vcpu::kSlice) continue;
    // ORDER: before the owner can know of the exit and answer it.
    word_.fetch_and(~kAnswered);
    queue_->push({Ref<VcpuThread>(this), status & ~Result{Vcpu::kPause}, ThreadEvent::kExit});
    wait_for_answer();
  }
  end(status);
}

// Sleeps while the thread is to be outside the guest, and says once that it is.
void VcpuThread::pass_gate() {
  for (;;) {
    uint32_t word = word_.load(std::memory_order_acquire);
    if (word & kStop) return;
    if (word & kReportPause) {
      report_pause();
    } else if (word & kPause) {
      wait_until([](uint32_t now) { return !(now & kPause) || (now & (kReportPause | kStop)); });
    } else {
      return;
    }
  }
}

// ORDER: the number is taken under the lock that pause() holds, so that whoever asked has kPause
// set.
void VcpuThread::report_pause() {
  Result number;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    word_.fetch_and(~kReportPause);
    number = pauses_;
  }
  queue_->push({Ref<VcpuThread>(this), number, ThreadEvent::kPaused});
}

// Spins only while spinning helps, as KVM's own halt polling does.
void VcpuThread::wait_for_answer() {
  static constexpr auto answered = [](uint32_t word) { return (word & (kAnswered | kStop)) != 0; };
  int64_t began = now_ns();
  while (now_ns() - began < spin_ns_) {
    for (int i = 0; i < kPausesPerLook; i++) {
      if (answered(word_.load(std::memory_order_acquire))) return;
      __builtin_ia32_pause();
    }
  }
  wait_until(answered);
  spin_ns_ = now_ns() - began < kWorthSpinningNs ? most_spin_ns() : spin_ns_ / 2;
}

template <typename Condition>
void VcpuThread::wait_until(Condition condition) {
  uint32_t word = word_.load(std::memory_order_acquire);
  while (!condition(word)) {
    if (!(word & kAsleep) && !word_.compare_exchange_weak(word, word | kAsleep)) continue;
    futex_wait(word_, word | kAsleep);
    word = word_.load(std::memory_order_acquire);
  }
  if (word & kAsleep) word_.fetch_and(~kAsleep);
}

void VcpuThread::set(uint32_t bits) {
  if (word_.fetch_or(bits) & kAsleep) futex_wake(word_);
}

void VcpuThread::end(Result status) {
  timespec used{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &used);
  {
    std::lock_guard<std::mutex> lock(mutex_);
    ended_ = true;
    cpu_time_ns_ = to_ns(used);
    // What was asked of this thread must not end a run of the next one. Kicks are for whoever has
    // the vCPU, and this thread may never have had it.
    vcpu_->withdraw(Vcpu::kStop | Vcpu::kPause | (status == kBusy ? 0U : uint32_t{Vcpu::kKick}));
  }
  queue_->push({Ref<VcpuThread>(this), status, ThreadEvent::kEnded});
}

pid_t VcpuThread::tid() {
  pid_t tid = tid_.load();
  for (; tid == 0; tid = tid_.load()) futex_wait(tid_, tid);
  return tid;
}

void VcpuThread::answer() { set(kAnswered); }

// ORDER: requests are made under the lock, so that the thread's end withdraws them or prevents
// them.
void VcpuThread::pause() {
  std::lock_guard<std::mutex> lock(mutex_);
  if (ended_) return;
  pauses_++;
  set(kPause | kReportPause);
  vcpu_->request(Vcpu::kPause);
}

void VcpuThread::resume() {
  if (word_.fetch_and(~kPause) & kAsleep) futex_wake(word_);
}

void VcpuThread::stop() {
  std::lock_guard<std::mutex> lock(mutex_);
  if (ended_) return;
  set(kStop);
  vcpu_->request(Vcpu::kStop);
}

void VcpuThread::join() {
  if (!joined_.exchange(true)) ::pthread_join(thread_, nullptr);
}

// The thread cannot end meanwhile, and so nobody else can have its tid.
template <typename Call>
Result VcpuThread::while_alive(Call call) {
  std::lock_guard<std::mutex> lock(mutex_);
  if (ended_) return -ESRCH;
  return call(tid());
}

Result VcpuThread::set_affinity(const cpu_set_t* cpus, size_t size) {
  return while_alive([&](pid_t tid) { return or_errno(::sched_setaffinity(tid, size, cpus)); });
}

Result VcpuThread::set_nice(int nice) {
  return while_alive([&](pid_t tid) {
    return or_errno(::setpriority(PRIO_PROCESS, static_cast<id_t>(tid), nice));
  });
}

Result VcpuThread::set_scheduler(int policy, int priority) {
  sched_param parameters{};
  parameters.sched_priority = priority;
  return while_alive(
      [&](pid_t tid) { return or_errno(::sched_setscheduler(tid, policy, &parameters)); });
}

int64_t VcpuThread::cpu_time_ns() {
  std::lock_guard<std::mutex> lock(mutex_);
  clockid_t clock;
  timespec used{};
  if (ended_ || ::pthread_getcpuclockid(thread_, &clock) != 0) return cpu_time_ns_;
  ::clock_gettime(clock, &used);
  return to_ns(used);
}

}  // namespace node_kvm
