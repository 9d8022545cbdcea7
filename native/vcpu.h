// A vCPU's file, its shared kvm_run page and the one way into the guest.
#pragma once

#include <chrono>

#include "exit_meter.h"
#include "kick.h"
#include "kvm_numbers.h"
#include "requests.h"
#include "userfault.h"
#include "vm.h"

namespace node_kvm {

class Vcpu final : public File {
 public:
  // Why a run ended without an exit of the guest. A bit each: several may be asked for at once.
  enum RequestBit : uint32_t {
    kKick = 1,       // somebody wants the thread back
    kSlice = 2,      // nothing: JavaScript shall run for a moment, or the vCPU's thread look around
    kDeadline = 4,   // the run's time is over
    kStop = 8,       // the vCPU's thread shall end
    kPause = 16,     // the vCPU's thread shall wait outside the guest
    kRingFull = 32,  // alone: a ring of the exit table must be emptied, then run() goes on
  };

  static Result create(Vm& vm, uint32_t vcpu_id, Ref<Vcpu>* out);

  // KVM_RUN until the guest exits (0), somebody asks for the thread (RequestBits, > 0) or KVM fails
  // (< 0). THREAD: any, one at a time; a second one gets kBusy. `tid` is the calling thread's.
  Result run(pid_t tid) { return run_as<kGuest>(tid); }
  // The same on a thread that never runs JavaScript, and so needs no slices.
  Result run_on_own_thread(pid_t tid) { return run_as<kOwnThread>(tid); }
  // Any other request. THREAD: as run().
  Result call(unsigned long request, unsigned long arg);
  // Ends the run that is under way; without one, the next run ends at once. THREAD: any.
  void request(uint32_t bits);
  // Takes back what nobody has acted on. THREAD: any.
  void withdraw(uint32_t bits) { requests_.fetch_and(~bits, std::memory_order_seq_cst); }
  // An entry that runs no guest instruction: it finishes the port, memory, MSR or hypercall access
  // of the last exit. kCompleted, or 0 with a new exit: the same instruction asks for more; or
  // kRingFull, and nothing is finished. What request() was told meanwhile still ends the next run.
  Result complete_io();
  static constexpr Result kCompleted = 1;
  // Limits the next run; zero lifts the limit.
  void set_deadline(int64_t nanoseconds_from_now);
  // For the watchdog: ends a run whose time is over, else moves `wake_at` to its deadline.
  bool end_if_overdue(std::chrono::steady_clock::time_point now,
                      std::chrono::steady_clock::time_point* wake_at);

  // Signals that KVM_RUN lets through although the thread blocks them; 0 without
  // KVM_SET_SIGNAL_MASK.
  void set_signals_let_through(uint64_t signals) { signals_let_through_.store(signals); }
  // RAM that KVM reaches by its host address as long as the vCPU is open.
  void keep_xen_vcpu_info(Ref<Region> region) { xen_vcpu_info_ = std::move(region); }

  uint64_t state() const { return state_.load(std::memory_order_seq_cst); }
  static bool is_guest_state(uint64_t state) { return (state & kModeMask) >= kGuest; }
  bool in_use() const { return (state() & kModeMask) != 0; }
  // Whether the request could wait for a page that only the calling thread's JavaScript brings.
  // THREAD: the vCPU's user.
  bool would_deadlock(unsigned long request) const {
    return Userfault::any_by_javascript() && touches_guest_memory(request) &&
           slots_->served_by_javascript(current_tid());
  }
  // In guest mode on a thread that must return to JavaScript now and then.
  static bool is_sliced_state(uint64_t state) { return (state & kModeMask) == kGuest; }
  const Ref<Mapping>& run_page() const { return run_page_; }
  ExitMeter& meter() { return meter_; }
  size_t xsave_size() const { return xsave_size_; }
  uint32_t vcpu_id() const { return vcpu_id_; }

  // An ioctl of a vCPU would block in the kernel while another thread is in KVM_RUN: refused here.
  Result acquire() override { return enter(kCall); }
  void release_use() override { leave(kCall); }
  void close() override;

 private:
  // state_: bit 63 closed, bits 0-1 what the one user does, the rest counts the times it left.
  static constexpr uint64_t kModeMask = 3;
  static constexpr uint64_t kCall = 1;
  static constexpr uint64_t kGuest = 2;
  static constexpr uint64_t kOwnThread = 3;  // in the guest as well
  static constexpr uint64_t kEpoch = 4;

  Vcpu(int fd, uint32_t vcpu_id, Vm& vm, Ref<Mapping> run_page, Ref<Mapping> counts)
      : File(Kind::kVcpu, fd),
        vcpu_id_(vcpu_id),
        answerer_(vm.exit_table(), vcpu_id),
        meter_(std::move(counts)),
        slots_(vm.slots()),
        run_page_(std::move(run_page)) {}
  ~Vcpu() override;
  template <uint64_t kMode>
  Result run_as(pid_t tid);
  Result enter(uint64_t mode);
  Result enter_served(uint64_t mode);
  void leave(uint64_t mode);
  Result enter_guest();
  Result run_on(Result failed);
  Result run_answered();
  Result answer_rest();
  Result enter_without_running();
  bool overdue() const;
  uint32_t take_requests();
  bool signal_waits() const;
  Result prepare_run(pid_t tid);
  void on_closed() override;
  volatile RunPage* page() { return reinterpret_cast<volatile RunPage*>(run_page_->data()); }

  uint32_t vcpu_id_;
  ExitAnswerer answerer_;
  ExitMeter meter_;
  std::atomic<bool> watched_{false};
  std::atomic<pid_t> tid_{0};
  std::atomic<uint32_t> requests_{0};
  std::atomic<int64_t> deadline_ns_{0};
  size_t xsave_size_ = kXsaveSize;
  std::atomic<uint64_t> signals_let_through_{0};
  Ref<Region> xen_vcpu_info_;
  Ref<SlotTable> slots_;
  Ref<Mapping> run_page_;
};

inline Result Vcpu::enter(uint64_t mode) {
  uint64_t state = state_.load(std::memory_order_relaxed);
  do {
    if (state & kClosedBit) return kClosed;
    if (state & kModeMask) return kBusy;
  } while (!state_.compare_exchange_weak(state, state | mode, std::memory_order_seq_cst));
  return Userfault::any_by_javascript() ? enter_served(mode) : 0;
}

inline void Vcpu::leave(uint64_t mode) {
  uint64_t before = state_.fetch_add(kEpoch - mode, std::memory_order_acq_rel);
  if (before & kClosedBit) finish_close();
}

// KVM_RUN, and what is counted of it.
inline Result Vcpu::enter_guest() {
  meter_.enter();
#ifdef NODE_KVM_BARE_RUN
  // bench/: a request that fails at once in KVM_RUN's place, to measure our own cost alone. It is
  // not of KVM's type (0xae): the kernel would load the vCPU's state before it refused. The page
  // stays as it is, but for an end of the exits where the benchmark asks for one.
  direct_ioctl(fd(), kBareRequest, 0);
  auto& left = *reinterpret_cast<uint32_t*>(run_page_->data() + kBareRunsLeft);
  if (left != 0 && --left == 0) page()->exit_reason = kExitHlt;
  Result result = 0;
#else
  Result result = direct_ioctl(fd(), kRun, 0);
  if (result != 0) result = run_on(result);
#endif
  meter_.exit(result == 0 ? page()->exit_reason : kExitIntr, run_page_->data());
  return result;
}

// Inline down to the system call, as run_as(), for the reason that direct_ioctl gives.
inline Result Vcpu::call(unsigned long request, unsigned long arg) {
  if (Result error = enter(kCall)) return error;
#ifdef NODE_KVM_BARE_RUN
  // bench/: likewise, where the benchmark asks for it.
  bool bare = *reinterpret_cast<uint32_t*>(run_page_->data() + kBareCalls) != 0;
  Result result = direct_ioctl(fd(), bare ? kBareRequest : request, arg);
  if (bare) result = 0;
#else
  Result result = would_deadlock(request) ? kWouldDeadlock : direct_ioctl(fd(), request, arg);
#endif
  leave(kCall);
  return result;
}

// Inline down to the system call, for the reason that direct_ioctl gives.
template <uint64_t kMode>
inline Result Vcpu::run_as(pid_t tid) {
  if (Result error = enter(kMode)) return error;
  Result result = tid_.load(std::memory_order_relaxed) == tid ? 0 : prepare_run(tid);
  if (result == 0 && answerer_.half_done()) {
    result = run_answered();
  } else if (result == 0) {
    if constexpr (kMode == kGuest) Watchdog::on_enter_guest();
    result = enter_guest();
    if (result == 0 && answerer_.in_use()) result = run_answered();
  }
  leave(kMode);
  return result;
}

}  // namespace node_kvm
