#include "exit_table.h"

#include <time.h>

#include <algorithm>
#include <cstring>

#include "kvm_numbers.h"

namespace node_kvm {
namespace {

// One load or store where it can be: a register file may be written meanwhile.
void copy_element(uint8_t* to, const uint8_t* from, uint32_t size) {
  switch (size) {
    case 1:
      *to = __atomic_load_n(from, __ATOMIC_RELAXED);
      return;
    case 2:
      std::memcpy(to, from, 2);
      return;
    case 4:
      std::memcpy(to, from, 4);
      return;
    case 8:
      std::memcpy(to, from, 8);
      return;
    default:
      std::memcpy(to, from, size);
  }
}

// False for exits that are no access.
bool access_of(uint8_t* page, Access* access) {
  const auto& run = *reinterpret_cast<const RunPage*>(page);
  if (run.exit_reason == kExitIo) {
    const auto& io = *reinterpret_cast<const IoExit*>(page + kExitFields);
    *access = {io.port, page + io.data_offset, io.size, io.count, true, io.direction != 0};
    return true;
  }
  if (run.exit_reason == kExitMmio) {
    auto& mmio = *reinterpret_cast<MmioExit*>(page + kExitFields);
    *access = {mmio.phys_addr, mmio.data, mmio.len, 1, false, mmio.is_write != 0};
    return true;
  }
  return false;
}

uint64_t now_ns() {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return uint64_t(now.tv_sec) * 1000000000 + uint64_t(now.tv_nsec);
}

// The ticks of a clock that began when the host's monotonic clock did.
uint64_t clock_ticks(uint64_t hz) {
  return static_cast<uint64_t>(static_cast<unsigned __int128>(now_ns()) * hz / 1000000000);
}

constexpr uint64_t kAllOnes = ~uint64_t{0};

bool before(const ExitRange& a, const ExitRange& b) {
  return a.is_port != b.is_port ? a.is_port : a.start < b.start;
}

}  // namespace

bool WriteRing::push(const Access& access, const uint8_t* data, uint32_t vcpu_id, bool urgent) {
  std::atomic<uint32_t>& tail = header().tail;
  auto* entries = reinterpret_cast<Entry*>(region_->data() + kHeader);
  uint32_t position = tail.load(std::memory_order_relaxed);
  for (;;) {
    Entry& entry = entries[position & mask_];
    uint32_t sequence = entry.sequence.load(std::memory_order_acquire);
    auto ahead = static_cast<int32_t>(sequence - position);
    if (ahead < 0) return false;
    if (ahead > 0) {
      position = tail.load(std::memory_order_relaxed);
    } else if (tail.compare_exchange_weak(position, position + 1, std::memory_order_relaxed)) {
      entry.vcpu_id = vcpu_id;
      entry.address = access.address;
      entry.data = 0;
      std::memcpy(&entry.data, data, std::min<size_t>(access.size, sizeof(entry.data)));
      entry.size = access.size;
      entry.flags = (access.is_port ? uint32_t{kPort} : 0) | (urgent ? uint32_t{kUrgent} : 0);
      // ORDER: counted before it can be done with.
      if (urgent) header().urgent.fetch_add(1, std::memory_order_relaxed);
      // ORDER: the entry, then the look at the bell; who arms it looks at the entries afterwards.
      entry.sequence.store(position + 1, std::memory_order_seq_cst);
      ring_bell(urgent);
      return true;
    }
  }
}

void WriteRing::ring_bell(bool urgent) {
  uint32_t armed = header().armed.load(std::memory_order_seq_cst);
  if (armed == kByNone || (armed == kByUrgent && !urgent)) return;
  if (header().armed.exchange(kByNone, std::memory_order_seq_cst) != kByNone) bell_->ring();
}

bool WriteRing::settled() const {
  uint32_t done = header().done.load(std::memory_order_acquire);
  return header().urgent.load(std::memory_order_relaxed) == done;
}

bool ExitRange::takes(const Access& access, uint64_t at) const {
  if (size != 0 && access.size != size) return false;
  // ORDER: before the look at the gate, which an urgent write may have changed.
  if (!access.is_write && !is_current()) return false;
  if (!gate.memory || at == kNowhere) return true;
  const uint8_t* bytes = gate.data() + at;
  uint8_t needed = access.is_write ? kWrites : kReads;
  for (uint32_t i = 0; i < access.size; i++) {
    if ((__atomic_load_n(bytes + i, __ATOMIC_ACQUIRE) & needed) == 0) return false;
  }
  return true;
}

// Whether what is read does not wait for an urgent write, nor for time to be looked at.
bool ExitRange::is_current() const {
  if (ring && !ring->settled()) return false;
  if (!until.memory) return true;
  return now_ns() < __atomic_load_n(reinterpret_cast<uint64_t*>(until.data()), __ATOMIC_ACQUIRE);
}

bool ExitRange::is_urgent(const Access& access, uint64_t at) const {
  if (!gate.memory) return false;
  const uint8_t* bytes = gate.data() + at;
  return std::any_of(bytes, bytes + access.size, [](const uint8_t& byte) {
    return (__atomic_load_n(&byte, __ATOMIC_RELAXED) & kUrgent) != 0;
  });
}

uint64_t ExitRange::place_of(const Access& access) const {
  uint64_t at = access.address - start;
  if (read != Read::kIndexed || access.is_write) return at;
  const uint8_t* word = source.memory->data() + index.offset;
  uint32_t chosen = __atomic_load_n(reinterpret_cast<const uint32_t*>(word), __ATOMIC_RELAXED);
  return (chosen & index.mask) == index.match ? at + (chosen & index.select) : kNowhere;
}

ExitRanges::ExitRanges(std::vector<ExitRange> ranges) : ranges_(std::move(ranges)) {
  std::sort(ranges_.begin(), ranges_.end(), before);
}

const ExitRange* ExitRanges::find(const Access& access) {
  size_t low = 0, high = ranges_.size();
  while (low < high) {
    size_t middle = (low + high) / 2;
    const ExitRange& range = ranges_[middle];
    if (range.is_port == access.is_port ? range.end <= access.address
                                        : range.is_port && !access.is_port) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  if (low == ranges_.size()) return nullptr;
  const ExitRange& range = ranges_[low];
  bool inside = range.is_port == access.is_port && access.address >= range.start &&
                access.size <= range.end - access.address;
  return inside ? &range : nullptr;
}

Result ExitTable::add(ExitRange range) {
  std::lock_guard<std::mutex> lock(mutex_);
  std::vector<ExitRange> ranges;
  if (current_) ranges = current_->all();
  for (const ExitRange& other : ranges) {
    if (other.is_port == range.is_port && other.start < range.end && range.start < other.end) {
      return -EEXIST;
    }
  }
  range.number = ++last_number_;
  ranges.push_back(std::move(range));
  replace(std::move(ranges));
  return last_number_;
}

void ExitTable::remove(uint32_t number) {
  std::lock_guard<std::mutex> lock(mutex_);
  if (!current_) return;
  std::vector<ExitRange> ranges;
  for (const ExitRange& range : current_->all()) {
    if (range.number != number) ranges.push_back(range);
  }
  replace(std::move(ranges));
}

void ExitTable::replace(std::vector<ExitRange> ranges) {
  current_ = Ref<ExitRanges>::adopt(new ExitRanges(std::move(ranges)));
  uint32_t next = version_.load(std::memory_order_relaxed) + 1;
  version_.store(next == 0 ? 1 : next, std::memory_order_release);
}

Ref<ExitRanges> ExitTable::current(uint32_t* version) {
  std::lock_guard<std::mutex> lock(mutex_);
  *version = version_.load(std::memory_order_relaxed);
  return current_;
}

ExitAnswerer::Answer ExitAnswerer::answer(uint8_t* run_page) {
  // Of another exit, when the range is gone that had met a full ring.
  if (!half_done_) done_ = 0;
  half_done_ = false;
  Access access;
  if (!access_of(run_page, &access)) return Answer::kNone;
  if (table_->version() != version_) ranges_ = table_->current(&version_);
  const ExitRange* range = ranges_->find(access);
  if (range == nullptr) return Answer::kNone;
  uint64_t at = range->place_of(access);
  if (!range->takes(access, at)) return Answer::kNone;
  if (access.is_write) return answer_write(*range, access, at);
  return answer_read(*range, access, at) ? Answer::kDone : Answer::kNone;
}

bool ExitAnswerer::answer_read(const ExitRange& range, const Access& access, uint64_t at) {
  const uint8_t* source = nullptr;
  uint64_t ticks = 0;
  switch (range.read) {
    case ExitRange::Read::kExit:
      return false;
    case ExitRange::Read::kConstant:
      source = reinterpret_cast<const uint8_t*>(&range.constant);
      break;
    case ExitRange::Read::kMemory:
    case ExitRange::Read::kIndexed:
      source = at == ExitRange::kNowhere ? reinterpret_cast<const uint8_t*>(&kAllOnes)
                                         : range.source.data() + at;
      break;
    case ExitRange::Read::kClock:
      ticks = clock_ticks(range.constant) >> (8 * (at & 7));
      source = reinterpret_cast<const uint8_t*>(&ticks);
      break;
  }
  for (uint32_t i = 0; i < access.count; i++) {
    copy_element(access.data + size_t{i} * access.size, source, access.size);
  }
  return true;
}

ExitAnswerer::Answer ExitAnswerer::answer_write(const ExitRange& range, const Access& access,
                                                uint64_t at) {
  switch (range.write) {
    case ExitRange::Write::kExit:
      return Answer::kNone;
    case ExitRange::Write::kIgnore:
      return Answer::kDone;
    case ExitRange::Write::kSignal: {
      uint64_t count = access.count;
      range.event->write(reinterpret_cast<const uint8_t*>(&count), sizeof(count));
      return Answer::kDone;
    }
    case ExitRange::Write::kMemory: {
      const uint8_t* last = access.data + size_t{access.count - 1} * access.size;
      if (access.count > 0) copy_element(range.target.data() + at, last, access.size);
      return Answer::kDone;
    }
    case ExitRange::Write::kRing:
      break;
  }
  bool urgent = range.is_urgent(access, at);
  for (; done_ < access.count; done_++) {
    const uint8_t* data = access.data + size_t{done_} * access.size;
    if (range.ring->push(access, data, vcpu_id_, urgent)) continue;
    half_done_ = true;
    return Answer::kRingFull;
  }
  return Answer::kDone;
}

}  // namespace node_kvm
