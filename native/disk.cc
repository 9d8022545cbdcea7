#include "disk.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

namespace node_kvm {
namespace {

// Newer than the headers of some machines that build: Linux 6.1.
constexpr unsigned kStatxDioalign = 0x2000;    // STATX_DIOALIGN
constexpr size_t kStatxDioMemAlign = 0x98;     // stx_dio_mem_align
constexpr size_t kStatxDioOffsetAlign = 0x9c;  // stx_dio_offset_align

int open_flags(const DiskRequest& request) {
  return (request.read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC;
}

// Two that write to one image destroy it. The lock is the open file's, so it also keeps disks of
// this process apart.
Result lock(int fd, bool read_only) {
  struct flock lock {};
  lock.l_type = static_cast<short>(read_only ? F_RDLCK : F_WRLCK);
  lock.l_whence = SEEK_SET;
  if (::fcntl(fd, F_OFD_SETLK, &lock) == 0) return 0;
  // A file system without locks does not keep anybody from using it.
  return errno == EAGAIN || errno == EACCES ? -EBUSY : 0;
}

uint32_t word_at(const struct statx& status, size_t offset) {
  return *reinterpret_cast<const uint32_t*>(reinterpret_cast<const uint8_t*>(&status) + offset);
}

}  // namespace

Result Disk::open(const DiskRequest& request, Ref<Disk>* out) {
  struct statx status;
  // ORDER: before it is opened, which may wait, for instance at a FIFO.
  if (::statx(AT_FDCWD, request.path.c_str(), 0, STATX_TYPE, &status) != 0) return -errno;
  if (!S_ISREG(status.stx_mode) && !S_ISBLK(status.stx_mode)) return -EINVAL;
  int flags = open_flags(request) | (request.direct ? O_DIRECT : 0);
  int fd = ::open(request.path.c_str(), flags);
  if (fd < 0) return -errno;
  auto disk = Ref<Disk>::adopt(new Disk(fd, request.read_only, S_ISBLK(status.stx_mode)));
  if (Result error = disk->set_up(request)) return error;
  *out = std::move(disk);
  return 0;
}

Result Disk::set_up(const DiskRequest& request) {
  if (Result error = lock(fd_, read_only_)) return error;
  if (request.direct) {
    buffered_fd_ = ::open(request.path.c_str(), open_flags(request));
    if (buffered_fd_ < 0) return -errno;
  }
  if (is_device_) {
    probe_device();
  } else {
    probe_file(request.direct);
  }
  return refresh();
}

Disk::~Disk() {
  if (buffered_fd_ >= 0) ::close(buffered_fd_);
  ::close(fd_);
}

Result Disk::refresh() {
  off_t end = ::lseek(fd_, 0, SEEK_END);
  if (end < 0) return -errno;
  sectors_.store(static_cast<uint64_t>(end) / kSector, std::memory_order_relaxed);
  return 0;
}

// A file's block is the unit in which its file system keeps it; smaller ones work, but slowly.
void Disk::probe_file(bool direct) {
  struct statx status {};
  if (::statx(fd_, "", AT_EMPTY_PATH, STATX_BASIC_STATS | kStatxDioalign, &status) != 0) return;
  geometry_.physical_block = status.stx_blksize;
  if (!(status.stx_mask & kStatxDioalign) || !direct) return;
  uint32_t memory = word_at(status, kStatxDioMemAlign);
  uint32_t offset = word_at(status, kStatxDioOffsetAlign);
  if (memory != 0) geometry_.memory_alignment = memory;
  if (offset != 0) geometry_.offset_alignment = offset;
}

void Disk::probe_device() {
  int logical = 0;
  unsigned physical = 0;
  int alignment = 0;
  unsigned minimum = 0;
  unsigned optimal = 0;
  if (::ioctl(fd_, BLKSSZGET, &logical) == 0 && logical > 0) {
    geometry_.logical_block = static_cast<uint32_t>(logical);
    geometry_.memory_alignment = static_cast<uint32_t>(logical);
    geometry_.offset_alignment = static_cast<uint32_t>(logical);
  }
  if (::ioctl(fd_, BLKPBSZGET, &physical) == 0) geometry_.physical_block = physical;
  // -1: the device is not aligned at all.
  if (::ioctl(fd_, BLKALIGNOFF, &alignment) == 0 && alignment > 0) {
    geometry_.alignment_offset = static_cast<uint32_t>(alignment);
  }
  if (::ioctl(fd_, BLKIOMIN, &minimum) == 0) geometry_.minimum_io = minimum;
  if (::ioctl(fd_, BLKIOOPT, &optimal) == 0) geometry_.optimal_io = optimal;
}

int Disk::fd_for(const iovec* parts, size_t count, uint64_t offset) const {
  if (!direct()) return fd_;
  uint64_t places = offset;
  uint64_t addresses = 0;
  for (size_t i = 0; i < count; i++) {
    places |= parts[i].iov_len;
    addresses |= reinterpret_cast<uint64_t>(parts[i].iov_base);
  }
  bool aligned =
      places % geometry_.offset_alignment == 0 && addresses % geometry_.memory_alignment == 0;
  return aligned ? fd_ : buffered_fd_;
}

}  // namespace node_kvm
