#include "exit_meter.h"

#include <time.h>

namespace node_kvm {
namespace {

struct Moment {
  uint64_t ticks;
  double seconds;
};

Moment now() {
  timespec time{};
  ::clock_gettime(CLOCK_MONOTONIC, &time);
  return {__rdtsc(), static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) * 1e-9};
}

const Moment loaded = now();

}  // namespace

double tsc_rate() {
  constexpr double kLongEnough = 0.02;
  Moment moment = now();
  if (moment.seconds - loaded.seconds < kLongEnough) {
    timespec rest{0, static_cast<long>(kLongEnough * 1e9)};
    ::nanosleep(&rest, nullptr);
    moment = now();
  }
  return static_cast<double>(moment.ticks - loaded.ticks) / (moment.seconds - loaded.seconds);
}

Result ExitMeter::set_trace(Ref<Region> region, uint32_t capacity) {
  if (held_trace_) return -EEXIST;
  held_trace_ = std::move(region);
  trace_mask_ = capacity - 1;
  trace_.store(held_trace_.get(), std::memory_order_release);
  return 0;
}

void ExitMeter::stamp_entry() {
  entered_ = __rdtsc();
  if (exited_ != 0) counts().outside_ticks[last_] += entered_ - exited_;
}

TraceEntry* ExitMeter::entry(uint64_t number) const {
  Region* trace = trace_.load(std::memory_order_acquire);
  if (trace == nullptr) return nullptr;
  return reinterpret_cast<TraceEntry*>(trace->data()) + 1 + (number & trace_mask_);
}

void ExitMeter::stamp_exit(const uint8_t* run_page) {
  exited_ = __rdtsc();
  if (entered_ != 0) counts().guest_ticks[last_] += exited_ - entered_;
  Region* trace = trace_.load(std::memory_order_acquire);
  if ((flags() & ExitCounts::kTrace) == 0 || trace == nullptr) return;
  auto& total = *reinterpret_cast<std::atomic<uint64_t>*>(trace->data());
  uint64_t number = total.load(std::memory_order_relaxed);
  TraceEntry exit{entered_, exited_, 0, last_, 0};
  if (last_ == kExitIo) {
    const auto& io = *reinterpret_cast<const IoExit*>(run_page + kExitFields);
    exit.address = io.port;
    exit.flags = uint32_t{io.size} << 8 | (io.direction != 0 ? 2 : 0);
  } else if (last_ == kExitMmio) {
    const auto& mmio = *reinterpret_cast<const MmioExit*>(run_page + kExitFields);
    exit.address = mmio.phys_addr;
    exit.flags = mmio.len << 8 | (mmio.is_write != 0 ? 2 : 0);
  }
  *entry(number) = exit;
  total.store(number + 1, std::memory_order_release);
}

void ExitMeter::mark_answered() {
  Region* trace = trace_.load(std::memory_order_acquire);
  if (trace == nullptr) return;
  auto& total = *reinterpret_cast<std::atomic<uint64_t>*>(trace->data());
  uint64_t number = total.load(std::memory_order_relaxed);
  if (number != 0) entry(number - 1)->flags |= 1;
}

}  // namespace node_kvm
