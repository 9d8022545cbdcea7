// What a vCPU's exits amount to, in a page that JavaScript reads without a call: how many of each
// reason, and when asked for, how long. The layouts are also in src/core/exits: exit-statistics.ts
// and exit-trace.ts.
#pragma once

#include <x86intrin.h>

#include "kvm_numbers.h"
#include "memory.h"

namespace node_kvm {

constexpr uint32_t kExitReasons = 64;  // those above count as the last

struct ExitCounts {
  enum Flag : uint32_t { kTimes = 1, kTrace = 2, kOff = 4 };
  uint32_t flags;  // JavaScript writes it, at any time
  uint32_t padding[15];
  uint64_t exits[kExitReasons];
  uint64_t answered[kExitReasons];       // of them, by the exit table
  uint64_t guest_ticks[kExitReasons];    // in the guest, until an exit of that reason
  uint64_t outside_ticks[kExitReasons];  // from there to the next entry
};
static_assert(sizeof(ExitCounts) <= 4096, "one page");

struct TraceEntry {
  uint64_t entered;  // ticks of the TSC
  uint64_t exited;
  uint64_t address;  // port or guest-physical address, when there is one
  uint32_t reason;
  uint32_t flags;  // 1: answered by the exit table, 2: a write; from bit 8: bytes
};

// THREAD: whichever is in Vcpu::run(), unless said otherwise.
class ExitMeter {
 public:
  explicit ExitMeter(Ref<Mapping> page) : page_(std::move(page)) {}
  const Ref<Mapping>& page() const { return page_; }
  void enter() {
    if (flags() & kStamped) {
      stamp_entry();
    } else {
      entered_ = 0;
    }
  }
  void exit(uint32_t reason, const uint8_t* run_page) {
    ExitCounts& counts = this->counts();
    last_ = reason < kExitReasons ? reason : kExitReasons - 1;
    uint32_t flags = this->flags();
    if (!(flags & ExitCounts::kOff)) counts.exits[last_]++;
    if (flags & kStamped) {
      stamp_exit(run_page);
    } else {
      exited_ = 0;
    }
  }
  // The last exit was answered by the table.
  void answered() {
    uint32_t flags = this->flags();
    if (!(flags & ExitCounts::kOff)) counts().answered[last_]++;
    if (flags & ExitCounts::kTrace) mark_answered();
  }
  // Where to trace to: a count of all entries, then a power of two of them. Once in a vCPU's life.
  // THREAD: any.
  Result set_trace(Ref<Region> region, uint32_t capacity);

 private:
  static constexpr uint32_t kStamped = ExitCounts::kTimes | ExitCounts::kTrace;
  ExitCounts& counts() const { return *reinterpret_cast<ExitCounts*>(page_->data()); }
  uint32_t flags() const { return __atomic_load_n(&counts().flags, __ATOMIC_RELAXED); }
  void stamp_entry();
  void stamp_exit(const uint8_t* run_page);
  void mark_answered();
  TraceEntry* entry(uint64_t number) const;

  Ref<Mapping> page_;
  uint32_t last_ = 0;
  uint64_t entered_ = 0;  // 0: the time was not taken
  uint64_t exited_ = 0;
  std::atomic<Region*> trace_{nullptr};
  Ref<Region> held_trace_;
  uint32_t trace_mask_ = 0;
};

// The TSC's ticks in a second, measured since the addon was loaded.
double tsc_rate();

}  // namespace node_kvm
