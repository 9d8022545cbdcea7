// Guest RAM: a region is one mapping of a memfd, a file, anonymous or huge pages, or a guest_memfd
// with or without a mapping. It lives while anybody uses it: a handle, a memory slot of a VM, or a
// view that JavaScript can reach.
#pragma once

#include <sys/types.h>

#include <mutex>
#include <string>
#include <vector>

#include "base.h"

namespace node_kvm {

class Userfault;

// src/core/memory/memory-options.ts has the same numbers.
enum class Backing : uint32_t {
  kMemfd,
  kAnonymous,
  kSharedFile,
  kPrivateFile,
  kHuge2M,
  kHuge1G,
  kGuestMemfd
};

struct RegionRequest {
  Backing backing = Backing::kMemfd;
  uint64_t size = 0;
  uint64_t gpa = 0;  // the host address is made congruent to it, so that huge mappings are possible
  std::string path;
  uint64_t file_offset = 0;
};

class Region final : public Object {
 public:
  // Null with errno set when the kernel refuses (ENOMEM, EMFILE, ...), or for a file that is not a
  // regular one (EINVAL) or too short (EOVERFLOW).
  static Ref<Region> create(const RegionRequest& request);
  // Takes over a guest_memfd. Unless `mapped`, it has no address: data() is null.
  static Ref<Region> adopt_guest_memfd(int fd, uint64_t size, bool mapped);

  uint64_t size() const { return size_; }
  uint8_t* data() const { return mapping_ ? mapping_->data() : nullptr; }
  // Its guest_memfd, or -1 when it is ordinary memory.
  int guest_memfd() const { return backing_ == Backing::kGuestMemfd ? fd_ : -1; }
  bool has(uint64_t offset, uint64_t length) const {
    return mapping_ && offset <= size_ && length <= size_ - offset;
  }
  uint64_t page_size() const;
  // Whether what is in memory is there for other mappings too.
  bool is_shared() const {
    return backing_ != Backing::kAnonymous && backing_ != Backing::kPrivateFile;
  }
  // Of shared memory: whether it has every page of the range.
  bool has_pages(uint64_t offset, uint64_t length) const;
  // Of shared memory: changes it without touching the mapping.
  Result write_file(uint64_t offset, const uint8_t* data, size_t size);

  // Who watches faults here, and everything such a watcher knows. THREAD: held for no wait.
  std::mutex& fault_mutex() { return fault_mutex_; }
  void add_userfault(Userfault* userfault) { userfaults_.push_back(userfault); }
  void remove_userfault(Userfault* userfault);
  // Whether touching the range would wait for the JavaScript of the thread.
  bool waits_for_javascript(uint64_t offset, uint64_t length, pid_t owner);
  // Whether pages come from the JavaScript of the thread; 0: of any.
  bool served_by_javascript(pid_t owner);

  // Gives the pages of a range back: they read as zeros afterwards, or as the file has them where
  // the region is a private copy of one.
  Result discard(uint64_t offset, uint64_t length);
  Result punch_hole(uint64_t offset, uint64_t length);
  // madvise(2), for the advice that cannot take memory from under anybody.
  Result advise(uint64_t offset, uint64_t length, uint32_t advice);
  // Begins to bring pages in, on a thread of its own that nobody waits for. -EBUSY where faults are
  // watched.
  Result prefault(uint64_t offset, uint64_t length, bool write);
  Result lock(bool on_fault);
  // mbind(2): a bit for each node.
  Result bind(uint32_t mode, uint64_t nodes);
  // mincore(2): a byte for each page of 4096.
  Result residency(uint64_t offset, uint8_t* pages, size_t count);
  // /proc/self/pagemap: eight bytes for each page.
  Result pagemap(uint64_t offset, uint8_t* entries, size_t size);
  // The lines of /proc/self/smaps for its mappings, without addresses.
  std::string smaps() const;
  // Pages that were gone when they were touched, and were replaced by zeros (see bus_guard.h).
  uint32_t lost_pages() const { return lost_pages_.load(std::memory_order_relaxed); }
  const Ref<Mapping>& mapping() const { return mapping_; }
  // Nothing to do before the last user goes: the destructor gives the pages back.
  void close() override {}

 private:
  Region(int fd, uint64_t size, Ref<Mapping> mapping, Backing backing, uint64_t file_offset = 0)
      : Object(Kind::kRegion),
        fd_(fd),
        size_(size),
        backing_(backing),
        file_offset_(file_offset),
        mapping_(std::move(mapping)) {}
  ~Region() override;
  bool guard(uint64_t page);
  bool watched();
  void run_prefault(uint64_t at, uint64_t end, uint32_t advice);

  int fd_;
  uint64_t size_;
  Backing backing_;
  uint64_t file_offset_;
  bool guarded_ = false;
  // Threads that bring in pages: they own the region, but have no use for it.
  std::atomic<uint32_t> prefaults_{0};
  std::atomic<uint32_t> lost_pages_{0};
  std::mutex fault_mutex_;
  std::vector<Userfault*> userfaults_;
  Ref<Mapping> mapping_;
};

}  // namespace node_kvm
