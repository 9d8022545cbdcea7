#include "bus_guard.h"

#include <signal.h>
#include <sys/mman.h>

#include <mutex>

namespace node_kvm {
namespace {

// Read by the signal handler, so never freed, and used again when its range is gone.
struct Range {
  std::atomic<uintptr_t> begin{0};
  std::atomic<uintptr_t> end{0};
  std::atomic<uintptr_t> page{0};
  std::atomic<std::atomic<uint32_t>*> lost{nullptr};
  Range* next = nullptr;
};

std::atomic<Range*> ranges{nullptr};
struct sigaction previous;

// SAFETY: mmap is one system call and takes no lock of libc's; everything else here is atomics.
bool replace_page(uintptr_t address) {
  for (Range* range = ranges.load(std::memory_order_acquire); range; range = range->next) {
    uintptr_t begin = range->begin.load(std::memory_order_acquire);
    if (begin == 0 || address < begin || address >= range->end.load()) continue;
    uintptr_t page = range->page.load();
    void* at = reinterpret_cast<void*>(address - address % page);
    void* zeros = ::mmap(at, page, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
    if (zeros == MAP_FAILED) return false;
    range->lost.load()->fetch_add(1, std::memory_order_relaxed);
    return true;
  }
  return false;
}

void on_bus_error(int signal, siginfo_t* info, void* context) {
  int saved = errno;
  bool replaced =
      info->si_code == BUS_ADRERR && replace_page(reinterpret_cast<uintptr_t>(info->si_addr));
  errno = saved;
  if (replaced) return;
  if (previous.sa_flags & SA_SIGINFO) {
    previous.sa_sigaction(signal, info, context);
  } else if (previous.sa_handler == SIG_DFL || previous.sa_handler == SIG_IGN) {
    // Not ours: with the default in place the access is tried again and ends as it always would.
    struct sigaction standard {};
    standard.sa_handler = SIG_DFL;
    ::sigaction(SIGBUS, &standard, nullptr);
    if (info->si_code <= 0) ::raise(signal);
  } else {
    previous.sa_handler(signal);
  }
}

Result install() {
  struct sigaction action {};
  action.sa_sigaction = on_bus_error;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART;
  sigemptyset(&action.sa_mask);
  struct sigaction current;
  if (::sigaction(SIGBUS, nullptr, &current) != 0) return -errno;
  bool ours = (current.sa_flags & SA_SIGINFO) && current.sa_sigaction == on_bus_error;
  if (ours) return 0;
  previous = current;
  return or_errno(::sigaction(SIGBUS, &action, nullptr));
}

// Leaked on purpose: regions may go while the process exits.
std::mutex& mutex() {
  static std::mutex* instance = new std::mutex;
  return *instance;
}

}  // namespace

Result BusGuard::add(uint8_t* data, uint64_t size, uint64_t page, std::atomic<uint32_t>* lost) {
  std::lock_guard<std::mutex> lock(mutex());
  if (Result error = install()) return error;
  Range* range = ranges.load();
  while (range != nullptr && range->begin.load() != 0) range = range->next;
  bool is_new = range == nullptr;
  if (is_new) {
    range = new Range;
    range->next = ranges.load();
  }
  auto begin = reinterpret_cast<uintptr_t>(data);
  range->end.store(begin + size);
  range->page.store(page);
  range->lost.store(lost);
  // ORDER: last, as the handler looks at it first.
  range->begin.store(begin, std::memory_order_release);
  if (is_new) ranges.store(range, std::memory_order_release);
  return 0;
}

void BusGuard::remove(const uint8_t* data) {
  std::lock_guard<std::mutex> lock(mutex());
  for (Range* range = ranges.load(); range; range = range->next) {
    if (range->begin.load() == reinterpret_cast<uintptr_t>(data)) range->begin.store(0);
  }
}

}  // namespace node_kvm
