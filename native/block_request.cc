#include "block_request.h"

#include <fcntl.h>

#include <algorithm>
#include <cstring>

#include "guest_access.h"

namespace node_kvm {
namespace {

constexpr uint32_t kIn = 0;            // VIRTIO_BLK_T_IN
constexpr uint32_t kOut = 1;           // VIRTIO_BLK_T_OUT
constexpr uint32_t kFlush = 4;         // VIRTIO_BLK_T_FLUSH
constexpr uint32_t kGetId = 8;         // VIRTIO_BLK_T_GET_ID
constexpr uint32_t kDiscard = 11;      // VIRTIO_BLK_T_DISCARD
constexpr uint32_t kWriteZeroes = 13;  // VIRTIO_BLK_T_WRITE_ZEROES
constexpr uint8_t kOk = 0;             // VIRTIO_BLK_S_OK
constexpr uint8_t kIoError = 1;        // VIRTIO_BLK_S_IOERR
constexpr uint8_t kUnsupported = 2;    // VIRTIO_BLK_S_UNSUPP

// FALLOC_FL_*, by the names of linux/falloc.h.
constexpr int kKeepSize = 0x01;
constexpr int kPunchHole = 0x02;
constexpr int kZeroRange = 0x10;

struct Header {
  uint32_t type;
  uint32_t reserved;
  uint64_t sector;
};
static_assert(sizeof(Header) == 16);

struct Segment {
  uint64_t sector;
  uint32_t sectors;
  uint32_t flags;
};
static_assert(sizeof(Segment) == 16);
constexpr uint32_t kUnmap = 1;

constexpr size_t kZeroPart = size_t{1} << 16;
alignas(4096) const uint8_t kZeroes[kZeroPart] = {};

// Copies bytes out of the parts. SAFETY: a copy, so that what is checked is what is used.
size_t gather(const iovec* parts, size_t count, void* to, size_t size) {
  size_t done = 0;
  for (size_t i = 0; i < count && done < size; i++) {
    size_t here = std::min(parts[i].iov_len, size - done);
    std::memcpy(static_cast<uint8_t*>(to) + done, parts[i].iov_base, here);
    done += here;
  }
  return done;
}

void scatter(const iovec* parts, size_t count, const uint8_t* from, size_t size) {
  size_t done = 0;
  for (size_t i = 0; i < count && done < size; i++) {
    size_t here = std::min(parts[i].iov_len, size - done);
    std::memcpy(parts[i].iov_base, from + done, here);
    done += here;
  }
}

}  // namespace

bool BlockRequest::parse() {
  Header header;
  if (chain.readable_bytes < sizeof header || chain.writable_bytes == 0) return false;
  iovec* parts = chain.parts.data();
  gather(parts, chain.readable, &header, sizeof header);
  type_ = header.type;
  sector_ = header.sector;
  done_ = 0;
  written_ = 0;
  // The status is the last byte that the device can write; no part is empty.
  iovec& last = chain.parts.back();
  last.iov_len--;
  status_ = static_cast<uint8_t*>(last.iov_base) + last.iov_len;
  if (type_ == kIn || type_ == kGetId) {
    data_ = parts + chain.readable;
    data_count_ = chain.writable_count();
    data_bytes_ = chain.writable_bytes - 1;
  } else {
    data_ = parts;
    data_count_ = chain.readable;
    data_bytes_ = chain.readable_bytes - sizeof header;
    skip(sizeof header);
  }
  if (data_count_ != 0 && data_[data_count_ - 1].iov_len == 0) data_count_--;
  return true;
}

void BlockRequest::skip(size_t bytes) {
  while (bytes != 0) {
    size_t here = std::min(bytes, data_->iov_len);
    data_->iov_base = static_cast<uint8_t*>(data_->iov_base) + here;
    data_->iov_len -= here;
    bytes -= here;
    if (data_->iov_len != 0) break;
    data_++;
    data_count_--;
  }
}

BlockRequest::Next BlockRequest::begin(Disk& disk, const BlockFeatures& features,
                                       const uint8_t* id) {
  switch (type_) {
    case kIn:
    case kOut:
      return begin_transfer(disk, type_ == kOut);
    case kFlush:
      return begin_flush(disk);
    case kGetId:
      return give_id(id);
    case kDiscard:
      return features.discard ? begin_range(disk, false) : complete(disk, kUnsupported);
    case kWriteZeroes:
      return features.write_zeroes ? begin_range(disk, true) : complete(disk, kUnsupported);
    default:
      return complete(disk, kUnsupported);
  }
}

BlockRequest::Next BlockRequest::begin_transfer(Disk& disk, bool write) {
  uint64_t sectors = disk.sectors();
  bool inside = sector_ <= sectors && data_bytes_ / Disk::kSector <= sectors - sector_;
  if (!inside || data_bytes_ % Disk::kSector || (write && disk.read_only())) return fail(disk);
  if (data_bytes_ == 0) return complete(disk, kOk);
  operation_ = {};
  operation_.kind = write ? IoOperation::Kind::kWrite : IoOperation::Kind::kRead;
  operation_.durable = write && !disk.write_back.load(std::memory_order_relaxed);
  return transfer(disk);
}

// What is left of the data.
BlockRequest::Next BlockRequest::transfer(Disk& disk) {
  operation_.offset = sector_ * Disk::kSector + done_;
  operation_.parts = data_;
  operation_.part_count = static_cast<uint32_t>(data_count_);
  operation_.fd = disk.fd_for(data_, data_count_, operation_.offset);
  operation_.cached = !disk.direct() || operation_.fd != disk.fd();
  return Next::kOperation;
}

BlockRequest::Next BlockRequest::begin_flush(Disk& disk) {
  if (disk.ignores_flush.load(std::memory_order_relaxed) || disk.read_only()) {
    return complete(disk, kOk);
  }
  operation_ = {};
  operation_.kind = IoOperation::Kind::kSync;
  operation_.fd = disk.fd();
  return Next::kOperation;
}

BlockRequest::Next BlockRequest::give_id(const uint8_t* id) {
  auto size = static_cast<size_t>(std::min<uint64_t>(data_bytes_, kIdSize));
  scatter(data_, data_count_, id, size);
  // The status is behind the room for the id, and counts only if that is full.
  written_ = static_cast<uint32_t>(size == data_bytes_ ? size + 1 : size);
  write_once<uint8_t>(status_, kOk);
  return Next::kComplete;
}

// The device says that one segment is the most a request has.
BlockRequest::Next BlockRequest::begin_range(Disk& disk, bool zeroes) {
  Segment segment;
  if (data_bytes_ != sizeof segment) return fail(disk);
  gather(data_, data_count_, &segment, sizeof segment);
  bool unmap = (segment.flags & kUnmap) != 0;
  if ((segment.flags & ~kUnmap) || (unmap && !zeroes)) return complete(disk, kUnsupported);
  uint64_t sectors = disk.sectors();
  uint32_t most = zeroes ? kMostZeroSectors : kMostDiscardSectors;
  bool inside = segment.sector <= sectors && segment.sectors <= sectors - segment.sector;
  if (!inside || segment.sectors > most || disk.read_only()) return fail(disk);
  if (segment.sectors == 0) return complete(disk, kOk);
  sector_ = segment.sector;
  data_bytes_ = uint64_t{segment.sectors} * Disk::kSector;
  operation_ = {};
  operation_.kind = IoOperation::Kind::kAllocate;
  operation_.fd = disk.fd();
  operation_.offset = sector_ * Disk::kSector;
  operation_.length = data_bytes_;
  operation_.mode = kKeepSize | (zeroes && !unmap ? kZeroRange : kPunchHole);
  return Next::kOperation;
}

// Without the file system's help.
BlockRequest::Next BlockRequest::begin_zeroes(Disk& disk) {
  zeroes_.clear();
  for (uint64_t left = data_bytes_; left != 0;) {
    size_t here = std::min<uint64_t>(left, kZeroPart);
    zeroes_.push_back({const_cast<uint8_t*>(kZeroes), here});
    left -= here;
  }
  data_ = zeroes_.data();
  data_count_ = zeroes_.size();
  operation_ = {};
  operation_.kind = IoOperation::Kind::kWrite;
  operation_.durable = !disk.write_back.load(std::memory_order_relaxed);
  return transfer(disk);
}

BlockRequest::Next BlockRequest::finish(Disk& disk, Result result) {
  if (result == -EINTR) return Next::kOperation;
  switch (operation_.kind) {
    case IoOperation::Kind::kSync:
      return result < 0 ? fail(disk) : complete(disk, kOk);
    case IoOperation::Kind::kAllocate: {
      // A write-through disk has the zeros on the medium when it says so.
      bool durable = type_ == kWriteZeroes && !disk.write_back.load(std::memory_order_relaxed);
      if (result == 0) return durable ? begin_flush(disk) : complete(disk, kOk);
      if (result != -EOPNOTSUPP) return fail(disk);
      return type_ == kWriteZeroes ? begin_zeroes(disk) : complete(disk, kUnsupported);
    }
    default:
      break;
  }
  // 0: the end of a file that has become shorter, or no room.
  if (result <= 0) return fail(disk);
  auto bytes = static_cast<uint64_t>(result);
  done_ += bytes;
  if (done_ >= data_bytes_) return complete(disk, kOk);
  skip(bytes);
  return transfer(disk);
}

BlockRequest::Next BlockRequest::fail(Disk& disk) {
  disk.counters.errors.fetch_add(1, std::memory_order_relaxed);
  return complete(disk, kIoError);
}

BlockRequest::Next BlockRequest::complete(Disk& disk, uint8_t status) {
  write_once<uint8_t>(status_, status);
  // Of a read that failed, what comes before the status is not all written.
  bool whole = type_ != kIn || done_ == data_bytes_;
  written_ = static_cast<uint32_t>(type_ == kIn ? done_ : 0) + (whole ? 1 : 0);
  if (status == kOk) count(disk);
  return Next::kComplete;
}

void BlockRequest::count(Disk& disk) const {
  const auto add = [](std::atomic<uint64_t>& counter, uint64_t number) {
    counter.fetch_add(number, std::memory_order_relaxed);
  };
  Disk::Counters& counters = disk.counters;
  if (type_ == kIn) {
    add(counters.reads, 1);
    add(counters.bytes_read, data_bytes_);
  } else if (type_ == kOut) {
    add(counters.writes, 1);
    add(counters.bytes_written, data_bytes_);
  } else {
    add(type_ == kFlush ? counters.flushes : counters.discards, 1);
  }
}

}  // namespace node_kvm
