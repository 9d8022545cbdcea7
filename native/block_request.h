// A request of a virtio block device (virtio 1.2, §5.2.6) in the driver's buffer: read out of it,
// and carried out as one or more operations on the disk.
#pragma once

#include "disk.h"
#include "virtqueue.h"

namespace node_kvm {

// What was negotiated and lets requests do.
struct BlockFeatures {
  bool discard = false;
  bool write_zeroes = false;
};

class BlockRequest {
 public:
  static constexpr size_t kIdSize = 20;
  static constexpr uint32_t kMostDiscardSectors = (uint32_t{1} << 31) / Disk::kSector - 1;
  // What zeros can be written for at once, where the file system cannot make holes of them.
  static constexpr uint32_t kMostZeroSectors = (uint32_t{1} << 26) / Disk::kSector;

  enum class Next {
    kOperation,  // `operation()` is to be started, then finish() called with its result
    kComplete,   // the status is set
  };

  // Where pop() puts the driver's buffer.
  Chain chain;

  // Reads the request. False for a buffer without room for a header and a status.
  bool parse();
  // Looks whether it can be done. THREAD: the worker's; the disk's size may change at any time.
  Next begin(Disk& disk, const BlockFeatures& features, const uint8_t* id);
  Next finish(Disk& disk, Result result);
  // The operation to start now, without its token.
  const IoOperation& operation() const { return operation_; }
  // What counts for the rate limit.
  uint64_t bytes() const { return data_bytes_; }
  // What the operation is to transfer.
  uint64_t bytes_left() const { return data_bytes_ - done_; }
  // For Virtqueue::push(): how much from the start of the writable parts has been written.
  uint32_t written() const { return written_; }

 private:
  Next begin_transfer(Disk& disk, bool write);
  Next begin_flush(Disk& disk);
  Next begin_range(Disk& disk, bool zeroes);
  Next begin_zeroes(Disk& disk);
  Next give_id(const uint8_t* id);
  Next transfer(Disk& disk);
  Next complete(Disk& disk, uint8_t status);
  Next fail(Disk& disk);
  void skip(size_t bytes);
  void count(Disk& disk) const;

  uint32_t type_ = 0;
  uint64_t sector_ = 0;
  iovec* data_ = nullptr;  // in the chain, or `zeroes_`; what is left
  size_t data_count_ = 0;
  uint64_t data_bytes_ = 0;  // in all
  uint64_t done_ = 0;
  uint8_t* status_ = nullptr;
  uint32_t written_ = 0;
  IoOperation operation_;
  std::vector<iovec> zeroes_;
};

}  // namespace node_kvm
