// userfaultfd(2) on a range of a region: whoever touches a page that is missing (or
// write-protected, or not mapped) waits until it is served, from a file by the thread here or by
// JavaScript.
#pragma once

#include <string>
#include <thread>

#include "memory.h"

namespace node_kvm {

class Userfault final : public File {
 public:
  static constexpr uint32_t kMissing = 1;
  static constexpr uint32_t kWriteProtect = 2;
  static constexpr uint32_t kMinor = 4;

  // What a thread waits for. `offset` is in the region.
  struct Fault {
    uint64_t offset;
    uint32_t flags;  // UFFD_PAGEFAULT_FLAG_*: 1 write, 2 write-protected, 4 minor
    bool own;        // the owner's thread: it could never serve itself, and was given zeros
  };
  using Report = void (*)(void* context, const Fault& fault);

  static Result create(Region& region, uint64_t offset, uint64_t length, uint32_t modes,
                       Ref<Userfault>* out);
  // Opens where the reader thread takes pages from: byte 0 of the range is at `offset` of the file.
  Result open_source(const char* path, uint64_t offset);
  // Starts the reader thread. It calls `report` for what it does not serve. `owner` is the thread
  // that `report` hands faults to.
  Result start(Report report, void* context, pid_t owner);

  // Each in whole pages of the region; all wake who waits for the range.
  Result copy(uint64_t offset, const uint8_t* data, size_t size, bool protect);
  Result zero(uint64_t offset, uint64_t length);
  Result resume(uint64_t offset, uint64_t length);
  Result protect(uint64_t offset, uint64_t length, bool on);
  Result wake(uint64_t offset, uint64_t length);

  uint64_t served() const { return served_.load(std::memory_order_relaxed); }
  // Pages that the source could not give and that were served as zeros.
  uint64_t failed() const { return failed_.load(std::memory_order_relaxed); }
  // What the owner keeps for as long as the thread runs. THREAD: the owner's.
  void set_link(void* link) { link_ = link; }
  void* take_link() { return std::exchange(link_, nullptr); }
  // Ends the thread, then the file: the kernel wakes everybody who waits, and what was not served
  // reads as zeros. Idempotent.
  void close() override;

 private:
  Userfault(int fd, Region& region, uint64_t offset, uint64_t length, uint32_t modes)
      : File(Kind::kUserfault, fd),
        region_(&region),
        offset_(offset),
        length_(length),
        modes_(modes) {}
  ~Userfault() override;
  void read_faults();
  void handle(uint64_t address, uint64_t flags, pid_t tid);
  bool serve_from_source(uint64_t offset);
  Result request(unsigned long number, void* argument);
  Result checked(uint64_t offset, uint64_t length) const;
  uint64_t address(uint64_t offset) const {
    return reinterpret_cast<uint64_t>(region_->data()) + offset;
  }

  Ref<Region> region_;
  uint64_t offset_;
  uint64_t length_;
  uint32_t modes_;
  int source_ = -1;
  uint64_t source_offset_ = 0;
  int stop_ = -1;
  Report report_ = nullptr;
  void* context_ = nullptr;
  pid_t owner_ = 0;
  void* link_ = nullptr;
  std::atomic<bool> stopping_{false};
  std::atomic<uint64_t> served_{0};
  std::atomic<uint64_t> failed_{0};
  std::thread reader_;
};

}  // namespace node_kvm
