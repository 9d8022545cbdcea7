// userfaultfd(2) on a part of a region: whoever touches a page that is not there waits until it is
// brought, by the thread here from a file, or by JavaScript; or the pages are write-protected, and
// what they were before their first write is kept for JavaScript.
#pragma once

#include <pthread.h>

#include <deque>
#include <memory>
#include <string>
#include <unordered_set>
#include <vector>

#include "files.h"
#include "memory.h"

namespace node_kvm {

class Userfault final : public Object {
 public:
  // Of UFFDIO_REGISTER.
  enum Mode : uint32_t { kMissing = 1, kWriteProtect = 2, kMinor = 4 };

  struct Request {
    Ref<Region> region;
    uint64_t offset = 0;
    uint64_t length = 0;
    uint32_t modes = 0;
    // Missing pages come from there, or from JavaScript when it is empty.
    std::string path;
    uint64_t path_offset = 0;
    // Rung when take() has something.
    Ref<PlainFile> bell;
    // The thread whose JavaScript brings pages: it can never wait for one.
    pid_t owner = 0;
  };

  // What JavaScript is told of a page.
  enum class Event : uint32_t {
    kMissing,   // bring it: somebody waits
    kMinor,     // it is in memory but not mapped: say that it may be, somebody waits
    kWritten,   // it was write-protected and is about to be written; comes with what it was
    kNoSource,  // the file did not give it, so it is zeros
    kOwn,       // the owner touched it and could not wait: it is zeros, or as it was in memory
  };

  // The features of this kernel (UFFD_FEATURE_*), or an error.
  static Result features();
  static Result create(const Request& request, Ref<Userfault>* out);
  // Whether any page in this process comes from JavaScript.
  static bool any_by_javascript() { return by_javascript_.load(std::memory_order_seq_cst) != 0; }

  // The next event and the offset of its page, or -EAGAIN. `page` receives what it was.
  Result take(uint8_t* page, size_t size, Event* event);
  // Brings a page that was asked for; null is zeros, or for a minor fault the page as it is.
  // -ENOENT when nobody asks for it any more.
  Result bring(uint64_t offset, const uint8_t* page, size_t size);
  // Asks for a page before anybody waits: the event that it would be, or -EEXIST when it is there.
  Result claim(uint64_t offset);
  // Brings what is missing of a range from the file.
  Result fetch(uint64_t offset, uint64_t length);
  Result protect(uint64_t offset, uint64_t length, bool on);
  uint64_t page_size() const { return page_size_; }

  struct Counts {
    uint64_t faults, from_source, zeroed, waiting;
  };
  Counts counts();

  // Ends the thread, then the file: the kernel wakes all who wait, and what was not brought reads
  // as ordinary memory does. Idempotent.
  void close() override;

  // The next three are Region's, under its fault_mutex().
  // These pages were given up: they are zeros from now on, whatever the file has.
  void forget(uint64_t offset, uint64_t length);
  // Whether touching the range would wait for the JavaScript of that thread (0: of any).
  bool waits_for_javascript(uint64_t offset, uint64_t length, pid_t owner) const;
  bool serves_by_javascript(pid_t owner) const {
    return by_javascript() && (owner == 0 || owner == request_.owner);
  }

 private:
  struct Entry {
    Event event;
    uint64_t offset;
    std::unique_ptr<uint8_t[]> page;
  };
  Userfault(int fd, int pagemap, const Request& request);
  ~Userfault() override;
  Result set_up();
  Result start();
  void loop();
  void on_fault(uint64_t address, uint64_t flags, pid_t tid);
  void on_missing(uint64_t offset, bool minor, pid_t tid);
  void on_write(uint64_t offset);
  void push(Event event, uint64_t offset, std::unique_ptr<uint8_t[]> page = {});
  void bring_from_source(uint64_t offset);
  Result read_source(uint64_t offset, uint8_t* data, size_t size);

  // One system call each; all wake who waits for the range.
  Result copy(uint64_t offset, const uint8_t* data);
  Result zero(uint64_t offset);
  Result resume(uint64_t offset);
  Result wake(uint64_t offset);
  Result give_up(uint64_t offset);
  Result finish(Result result, uint64_t offset);
  Result call(unsigned long number, void* argument) const;

  bool by_javascript() const {
    return (request_.modes & kMinor) || ((request_.modes & kMissing) && source_ < 0);
  }
  bool has(uint64_t offset, uint64_t length) const;
  bool in_memory(uint64_t offset, uint64_t length) const;
  bool mapped(uint64_t offset, uint64_t length) const;
  bool forgotten(uint64_t offset) const;
  // What touching the page raises; false when nothing.
  bool would_fault(uint64_t offset, Event* event) const;
  uint64_t address(uint64_t offset) const {
    return reinterpret_cast<uint64_t>(request_.region->data()) + offset;
  }

  inline static std::atomic<uint32_t> by_javascript_{0};
  int fd_;
  int pagemap_;
  int source_ = -1;
  int stop_ = -1;
  Request request_;
  uint64_t page_size_;
  bool listed_ = false;
  bool registered_ = false;
  bool counted_ = false;
  bool running_ = false;
  std::atomic<bool> stopping_{false};
  pthread_t thread_{};
  // All below under the region's fault_mutex().
  bool closed_ = false;
  std::deque<Entry> events_;
  std::unordered_set<uint64_t> waiting_;  // pages that JavaScript was asked for
  std::vector<bool> forgotten_;           // by page, empty until something was given up
  Counts counts_{};
};

}  // namespace node_kvm
