// What a guest's disk is made of on the host: a regular file or a block device, with what the
// kernel tells of its geometry, and what all queues of the disk share.
#pragma once

#include <string>

#include "io_engine.h"
#include "rate_limit.h"

namespace node_kvm {

struct DiskRequest {
  std::string path;
  bool read_only = false;
  bool direct = false;  // past the page cache (O_DIRECT)
};

// In bytes; 0 where the kernel tells nothing.
struct DiskGeometry {
  uint32_t logical_block = 512;
  uint32_t physical_block = 0;
  uint32_t alignment_offset = 0;
  uint32_t minimum_io = 0;
  uint32_t optimal_io = 0;
  // What O_DIRECT asks of the buffer's address, and of offset and length.
  uint32_t memory_alignment = 4096;
  uint32_t offset_alignment = 4096;
};

class Disk final : public Object {
 public:
  static constexpr uint64_t kSector = 512;

  // -EINVAL for what is neither file nor block device, -EBUSY when another process or disk has it
  // open for writing, or this one would.
  static Result open(const DiskRequest& request, Ref<Disk>* out);

  // The size as it is now: the number of sectors follows it.
  Result refresh();
  uint64_t sectors() const { return sectors_.load(std::memory_order_relaxed); }
  const DiskGeometry& geometry() const { return geometry_; }
  bool read_only() const { return read_only_; }
  bool is_device() const { return is_device_; }
  bool direct() const { return buffered_fd_ >= 0; }
  int fd() const { return fd_; }
  // For an operation on these parts: what is not aligned as O_DIRECT asks goes by the page cache,
  // which is the kernel's own bounce buffer, and coherent with the rest.
  int fd_for(const iovec* parts, size_t count, uint64_t offset) const;

  // Whether a flush does anything.
  std::atomic<bool> ignores_flush{false};
  // Whether writes are complete when they are in the host's cache.
  std::atomic<bool> write_back{true};
  RateLimit limit;

  struct Counters {
    std::atomic<uint64_t> reads{0}, writes{0}, flushes{0}, discards{0}, errors{0};
    std::atomic<uint64_t> bytes_read{0}, bytes_written{0};
    std::atomic<uint64_t> wakeups{0}, interrupts{0};
  } counters;

  // What the workers have open stays open for them.
  void close() override {}

 private:
  Disk(int fd, bool read_only, bool is_device)
      : Object(Kind::kDisk), fd_(fd), read_only_(read_only), is_device_(is_device) {}
  ~Disk() override;
  Result set_up(const DiskRequest& request);
  void probe_file(bool direct);
  void probe_device();

  int fd_;
  int buffered_fd_ = -1;  // beside an fd_ with O_DIRECT
  bool read_only_;
  bool is_device_;
  DiskGeometry geometry_;
  std::atomic<uint64_t> sectors_{0};
};

}  // namespace node_kvm
