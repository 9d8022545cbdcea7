// What answers port and memory accesses of a VM's vCPUs without JavaScript: ranges of addresses,
// each with a source for reads and a destination for writes. Knows nothing of Node.
#pragma once

#include <memory>
#include <mutex>
#include <vector>

#include "files.h"
#include "memory.h"

namespace node_kvm {

// One access of an exit.
struct Access {
  uint64_t address;
  uint8_t* data;
  uint32_t size;   // bytes of one element
  uint32_t count;  // elements, more than one for string instructions only
  bool is_port;
  bool is_write;
};

// A ring of writes in a region's memory: vCPUs put them in, JavaScript takes them out. Bounded,
// many writers, one reader; an entry's sequence number says whose turn it is (D. Vyukov's queue).
// A reader that wants to be told of the next write, or of the next urgent one, arms the bell: that
// write rings it, once. src/core/exits/write-sink.ts knows the same layout.
class WriteRing {
 public:
  struct Entry {
    std::atomic<uint32_t> sequence;
    uint32_t vcpu_id;
    uint64_t address;
    uint64_t data;
    uint32_t size;
    uint32_t flags;
  };
  enum Flag : uint32_t { kPort = 1, kUrgent = 2 };
  static constexpr size_t kHeader = 64;

  // The capacity is a power of two and header and entries fit in the region.
  WriteRing(Ref<Region> region, uint32_t capacity, Ref<PlainFile> bell)
      : region_(std::move(region)), bell_(std::move(bell)), mask_(capacity - 1) {}
  // Whether there was room.
  bool push(const Access& access, const uint8_t* data, uint32_t vcpu_id, bool urgent);
  // Whether the reader has done with every urgent write.
  bool settled() const;

 private:
  enum Armed : uint32_t { kByNone, kByAny, kByUrgent };
  struct Header {
    std::atomic<uint32_t> tail;
    std::atomic<uint32_t> armed;
    std::atomic<uint32_t> urgent;  // urgent writes so far
    std::atomic<uint32_t> done;    // and how many of them the reader has done with
  };
  void ring_bell(bool urgent);
  Header& header() const { return *reinterpret_cast<Header*>(region_->data()); }
  Ref<Region> region_;
  Ref<PlainFile> bell_;
  uint32_t mask_;
};

// A place in a region.
struct Place {
  Ref<Region> memory;
  uint64_t offset = 0;
  uint8_t* data() const { return memory->data() + offset; }
};

// Registers behind an index register, a word of the same memory: those bits of it that select add
// to the offset, provided that the bits of `mask` are `match`; otherwise all ones are read.
struct Index {
  uint64_t offset = 0;
  uint32_t select = 0;
  uint32_t mask = 0;
  uint32_t match = 0;
};

struct ExitRange {
  enum class Read : uint8_t { kExit, kConstant, kMemory, kIndexed, kClock };
  enum class Write : uint8_t { kExit, kIgnore, kSignal, kRing, kMemory };
  enum Gate : uint8_t { kReads = 1, kWrites = 2, kUrgent = 4 };
  uint32_t number = 0;  // what removes it
  bool is_port = false;
  uint64_t start = 0;
  uint64_t end = 0;
  uint32_t size = 0;  // of the accesses that it takes; 0: any
  Read read = Read::kExit;
  Write write = Write::kExit;
  uint64_t constant = 0;  // what is read, or a clock's ticks in a second
  Place source;           // or from where, for the range's first byte
  Index index;
  Place target;  // where writes go
  Place gate;   // a byte for each address, or register behind an index: which accesses are answered
  Place until;  // nanoseconds of the host's monotonic clock, up to which reads are
  Ref<PlainFile> event;
  std::shared_ptr<WriteRing> ring;

  // Whether the access may be answered now. `at`: see place_of.
  bool takes(const Access& access, uint64_t at) const;
  // Whether a write is to be seen at once.
  bool is_urgent(const Access& access, uint64_t at) const;
  // How far behind the range's first byte an access is, the index included; kNowhere when that
  // selects nothing.
  uint64_t place_of(const Access& access) const;
  static constexpr uint64_t kNowhere = ~uint64_t{0};

 private:
  bool is_current() const;
};

// Never changed once it is in use: a change makes another one.
class ExitRanges final : public RefCounted {
 public:
  explicit ExitRanges(std::vector<ExitRange> ranges);
  const ExitRange* find(const Access& access);
  const std::vector<ExitRange>& all() const { return ranges_; }

 private:
  ~ExitRanges() override = default;
  std::vector<ExitRange> ranges_;  // ports first, by address
};

// The ranges of a VM. A vCPU keeps a reference to those it saw last and looks at the version on
// each exit: nothing is freed under it, and it takes no lock while nothing changes.
class ExitTable final : public RefCounted {
 public:
  // The number of the new range, or EEXIST when it overlaps another.
  Result add(ExitRange range);
  void remove(uint32_t number);
  uint32_t version() const { return version_.load(std::memory_order_acquire); }
  Ref<ExitRanges> current(uint32_t* version);

 private:
  ~ExitTable() override = default;
  void replace(std::vector<ExitRange> ranges);
  std::mutex mutex_;
  Ref<ExitRanges> current_;
  uint32_t last_number_ = 0;
  std::atomic<uint32_t> version_{0};  // 0: there never was a range
};

// One vCPU's view of its VM's table. THREAD: whichever is in Vcpu::run().
class ExitAnswerer {
 public:
  enum class Answer { kNone, kDone, kRingFull };
  ExitAnswerer(Ref<ExitTable> table, uint32_t vcpu_id)
      : table_(std::move(table)), vcpu_id_(vcpu_id) {}
  // Whether there is anything to ask.
  bool in_use() const { return table_->version() != 0; }
  // kRingFull: to be asked again about the same exit, which is half done.
  Answer answer(uint8_t* run_page);
  // The last exit met a full ring.
  bool half_done() const { return half_done_; }

 private:
  Answer answer_write(const ExitRange& range, const Access& access, uint64_t at);
  bool answer_read(const ExitRange& range, const Access& access, uint64_t at);
  Ref<ExitTable> table_;
  Ref<ExitRanges> ranges_;
  uint32_t version_ = 0;
  uint32_t vcpu_id_;
  uint32_t done_ = 0;  // elements of a string instruction that are in the ring
  bool half_done_ = false;
};

}  // namespace node_kvm
