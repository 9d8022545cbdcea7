#include "vcpu.h"

#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "futex.h"

namespace node_kvm {
namespace {

int64_t now_ns() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

// What the kernel fills: the head of kvm_run and the data of the last port exit behind it.
constexpr size_t kKeptOfRunPage = 8192;

}  // namespace

Result Vcpu::create(Vm& vm, uint32_t vcpu_id, Ref<Vcpu>* out) {
  Use use(vm);
  if (use.error()) return use.error();
  Result fd = checked_ioctl(vm.fd(), kCreateVcpu, vcpu_id);
  if (fd < 0) return fd;
  Ref<Mapping> page =
      Mapping::map(static_cast<int>(fd), vm.vcpu_mmap_size(), PROT_READ | PROT_WRITE, MAP_SHARED);
  Ref<Mapping> counts =
      Mapping::map(-1, sizeof(ExitCounts), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS);
  if (!page || !counts) {
    Result error = -errno;
    ::close(static_cast<int>(fd));
    return error;
  }
  *out = Ref<Vcpu>::adopt(
      new Vcpu(static_cast<int>(fd), vcpu_id, vm, std::move(page), std::move(counts)));
  vm.slots()->add_vcpu(out->get());
  Result xsave = checked_ioctl(vm.fd(), kCheckExtension, kCapXsave2);
  if (xsave > 0) (*out)->xsave_size_ = std::max(kXsaveSize, static_cast<size_t>(xsave));
  return 0;
}

Vcpu::~Vcpu() {
  if (!closed()) close();
}

void Vcpu::close() {
  uint64_t before = state_.fetch_or(kClosedBit, std::memory_order_acq_rel);
  if ((before & kModeMask) == 0) {
    finish_close();
  } else if (is_guest_state(before)) {
    request(kStop);  // the run that is under way closes the file as it leaves
  }
}

void Vcpu::on_closed() {
  if (watched_.exchange(false)) Watchdog::instance().unwatch(*this);
  // The mapping holds the kernel's vCPU, and that the VM: let go of both now, not at a GC.
  run_page_->detach(kKeptOfRunPage);
  xen_vcpu_info_.reset();
  slots_->remove_vcpu(this);
  slots_.reset();
}

// ORDER: in use, then the look at `quiet`; Quiet does the opposite.
Result Vcpu::enter_served(uint64_t mode) {
  uint32_t quiet = slots_->quiet.load(std::memory_order_seq_cst);
  if (quiet == 0) {
    // Only a thread of JavaScript's runs in this mode, and a page may need that one.
    if (mode != kGuest || !slots_->served_by_javascript(current_tid())) return 0;
    leave(mode);
    return kWouldDeadlock;
  }
  Ref<SlotTable> slots = slots_;
  leave(mode);
  futex_wait(slots->quiet, quiet);
  return enter(mode);
}

// The part of a run's set-up that only a new thread or a first run needs.
Result Vcpu::prepare_run(pid_t tid) {
  if (!watched_.exchange(true)) {
    if (Result error = Watchdog::instance().watch(*this)) {
      watched_.store(false);
      return error;
    }
  }
  if (Result error = prepare_thread_for_kicks()) return error;
  // ORDER: seq_cst against request(), which sets immediate_exit and then reads the tid: if it still
  // reads an old one, KVM_RUN below sees immediate_exit.
  tid_.store(tid, std::memory_order_seq_cst);
  return 0;
}

// What to make of a KVM_RUN that failed; runs again when nobody wants to know.
Result Vcpu::run_on(Result failed) {
  Result result = failed;
  // EAGAIN: an application processor that waits for SIPI was woken. Both mean: look, and go on.
  while (result == -EINTR || result == -EAGAIN) {
    if (uint32_t requests = take_requests()) return requests;
    if (signal_waits()) return kKick;
    // A thread of ours looks for itself: of several that use the vCPU, one that ends may have taken
    // back what another was asked.
    if ((state() & kModeMask) == kOwnThread) return kSlice;
    result = direct_ioctl(fd(), kRun, 0);
  }
  if ((result == -EFAULT || result == -EHWPOISON) && page()->exit_reason == kExitMemoryFault) {
    return 0;
  }
  return result < 0 ? result : 0;
}

// Goes on running the guest as long as the VM's table answers its exits.
Result Vcpu::run_answered() {
  for (;;) {
    switch (answerer_.answer(run_page_->data())) {
      case ExitAnswerer::Answer::kNone:
        return 0;
      case ExitAnswerer::Answer::kRingFull: {
        uint32_t requests = take_requests();
        // The watchdog looks only at vCPUs in the guest, and this one may never get there again.
        if (overdue()) requests |= kDeadline;
        return requests != 0 ? requests : kRingFull;
      }
      case ExitAnswerer::Answer::kDone:
        break;
    }
    meter_.answered();
    if (Result result = enter_guest()) return result;
  }
}

// A signal that the thread blocks and KVM_RUN does not stays pending and ends every entry at once:
// somebody who asked for that wants to know, and going on would spin.
bool Vcpu::signal_waits() const {
  uint64_t let_through = signals_let_through_.load(std::memory_order_relaxed);
  if (let_through == 0) return false;
  sigset_t pending;
  ::sigpending(&pending);
  uint64_t signals = 0;
  std::memcpy(&signals, &pending, sizeof(signals));
  return (signals & let_through) != 0;
}

Result Vcpu::complete_io() {
  if (Result error = enter(kGuest)) return error;
  Result result = answerer_.half_done() ? answer_rest() : kCompleted;
  while (result == kCompleted) {
    result = enter_without_running();
    if (result != 0) break;
    // The same instruction asks for more. Perhaps the table knows that as well.
    if (answerer_.in_use()) result = answer_rest();
  }
  leave(kGuest);
  return result == -EINTR || result == -EAGAIN ? kCompleted : result;
}

// kCompleted when the table has answered the exit, 0 when it is not the table's, or kRingFull.
Result Vcpu::answer_rest() {
  switch (answerer_.answer(run_page_->data())) {
    case ExitAnswerer::Answer::kNone:
      return 0;
    case ExitAnswerer::Answer::kRingFull:
      return kRingFull;
    case ExitAnswerer::Answer::kDone:
      break;
  }
  meter_.answered();
  return kCompleted;
}

Result Vcpu::enter_without_running() {
  __atomic_store_n(&page()->immediate_exit, uint8_t{1}, __ATOMIC_SEQ_CST);
  Result result = direct_ioctl(fd(), kRun, 0);
  // ORDER: cleared before the requests are looked at, as in take_requests(), which is to find them.
  __atomic_store_n(&page()->immediate_exit, uint8_t{0}, __ATOMIC_SEQ_CST);
  if (requests_.load(std::memory_order_seq_cst) != 0) {
    __atomic_store_n(&page()->immediate_exit, uint8_t{1}, __ATOMIC_SEQ_CST);
  }
  return result;
}

// ORDER: immediate_exit is cleared before the requests are taken. One set later sets it again and
// costs an extra round; the other order could lose it.
uint32_t Vcpu::take_requests() {
  __atomic_store_n(&page()->immediate_exit, uint8_t{0}, __ATOMIC_SEQ_CST);
  uint32_t requests = requests_.exchange(0, std::memory_order_seq_cst);
  // A deadline that was met before the watchdog's request arrived must not end a later run.
  if ((requests & kDeadline) && !overdue()) requests &= ~uint32_t{kDeadline};
  return requests;
}

bool Vcpu::overdue() const {
  int64_t deadline = deadline_ns_.load();
  return deadline != 0 && now_ns() >= deadline;
}

// ORDER: why, then the flag that the kernel reads on entry, then the signal for a guest that is
// already running.
void Vcpu::request(uint32_t bits) {
  requests_.fetch_or(bits, std::memory_order_seq_cst);
  __atomic_store_n(&page()->immediate_exit, uint8_t{1}, __ATOMIC_SEQ_CST);
  if (is_guest_state(state())) kick_thread(tid_.load(std::memory_order_seq_cst));
}

void Vcpu::set_deadline(int64_t nanoseconds_from_now) {
  int64_t deadline = nanoseconds_from_now == 0 ? 0 : now_ns() + nanoseconds_from_now;
  deadline_ns_.store(deadline);
  if (deadline != 0) Watchdog::instance().wake_before(deadline);
}

bool Vcpu::end_if_overdue(std::chrono::steady_clock::time_point now,
                          std::chrono::steady_clock::time_point* wake_at) {
  int64_t deadline = deadline_ns_.load();
  if (deadline == 0) return false;
  auto at = std::chrono::steady_clock::time_point(std::chrono::nanoseconds(deadline));
  if (now < at) {
    *wake_at = std::min(*wake_at, at);
    return false;
  }
  request(kDeadline);
  return true;
}

}  // namespace node_kvm
