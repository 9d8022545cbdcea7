#include "memory.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <memory>

#include "bus_guard.h"
#include "own_thread.h"
#include "userfault.h"

namespace node_kvm {
namespace {

constexpr uint64_t kPage = 4096;
constexpr uint64_t k2M = uint64_t{1} << 21;
constexpr uint64_t k1G = uint64_t{1} << 30;
constexpr long kHugetlbMagic = 0x958458f6;

// Their names need a newer libc than the oldest we build against.
constexpr uint32_t kFree = 8;
constexpr uint32_t kPopulateRead = 22;
constexpr uint32_t kPopulateWrite = 23;

constexpr uint32_t kAllowedAdvice[] = {
    kFree,
    10,  // MADV_DONTFORK
    11,  // MADV_DOFORK
    12,  // MADV_MERGEABLE
    13,  // MADV_UNMERGEABLE
    14,  // MADV_HUGEPAGE
    15,  // MADV_NOHUGEPAGE
    16,  // MADV_DONTDUMP
    17,  // MADV_DODUMP
    20,  // MADV_COLD
    21,  // MADV_PAGEOUT
    kPopulateRead,
    kPopulateWrite,
    25,  // MADV_COLLAPSE
};

bool is_file(Backing backing) {
  return backing == Backing::kSharedFile || backing == Backing::kPrivateFile;
}

int open_file(const RegionRequest& request) {
  bool shared = request.backing == Backing::kSharedFile;
  int fd = ::open(request.path.c_str(), (shared ? O_RDWR : O_RDONLY) | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return -1;
  // Not fstat: its symbol is one of glibc 2.33, and the published binary runs on older ones.
  struct statx status;
  int error = 0;
  if (::statx(fd, "", AT_EMPTY_PATH, STATX_TYPE | STATX_SIZE, &status) != 0) {
    error = errno;
  } else if (!S_ISREG(status.stx_mode)) {
    error = EINVAL;
  } else {
    // A shared page loses what is written to it behind the file's end.
    uint64_t length = shared ? status.stx_size : (status.stx_size + kPage - 1) / kPage * kPage;
    if (length < request.size || length - request.size < request.file_offset) error = EOVERFLOW;
  }
  if (error == 0) return fd;
  ::close(fd);
  errno = error;
  return -1;
}

int create_memfd(const RegionRequest& request, uint64_t length) {
  constexpr unsigned kHugeShift = 26;  // MFD_HUGE_SHIFT
  unsigned flags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
  if (request.backing == Backing::kHuge2M) flags |= MFD_HUGETLB | 21u << kHugeShift;
  if (request.backing == Backing::kHuge1G) flags |= MFD_HUGETLB | 30u << kHugeShift;
  int fd = ::memfd_create("node-kvm guest memory", flags);
  if (fd < 0) return -1;
  // Sealed in size: nobody who gets hold of the fd can truncate it and turn an access into SIGBUS.
  if (::ftruncate(fd, static_cast<off_t>(length)) == 0 &&
      ::fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) == 0) {
    return fd;
  }
  int error = errno;
  ::close(fd);
  errno = error;
  return -1;
}

// Maps so that the address is `remainder` beyond a multiple of `alignment`.
Ref<Mapping> map_aligned(int fd, size_t size, int flags, uint64_t offset, uint64_t alignment,
                         uint64_t remainder) {
  // KERNEL: only reserved address space may be mapped over without a race with other threads.
  size_t reserved = size + alignment;
  if (reserved < size) {
    errno = ENOMEM;
    return {};
  }
  void* space =
      ::mmap(nullptr, reserved, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (space == MAP_FAILED) return {};
  auto start = reinterpret_cast<uintptr_t>(space);
  uintptr_t at = start - start % alignment + remainder;
  if (at < start) at += alignment;
  void* data = ::mmap(reinterpret_cast<void*>(at), size, PROT_READ | PROT_WRITE, flags | MAP_FIXED,
                      fd, static_cast<off_t>(offset));
  int error = errno;
  if (data == MAP_FAILED) {
    ::munmap(space, reserved);
    errno = error;
    return {};
  }
  if (at > start) ::munmap(space, at - start);
  if (at + size < start + reserved) {
    ::munmap(reinterpret_cast<void*>(at + size), start + reserved - at - size);
  }
  return Mapping::adopt(static_cast<uint8_t*>(data), size);
}

uint64_t alignment_of(const RegionRequest& request) {
  if (request.backing == Backing::kHuge1G) return k1G;
  return request.size >= k2M ? k2M : kPage;
}

int map_flags(Backing backing) {
  switch (backing) {
    case Backing::kAnonymous:
      return MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    case Backing::kPrivateFile:
      return MAP_PRIVATE | MAP_NORESERVE;
    // Reserved at once: an empty pool shall refuse here, and not be a SIGBUS later.
    case Backing::kHuge2M:
    case Backing::kHuge1G:
      return MAP_SHARED;
    default:
      return MAP_SHARED | MAP_NORESERVE;
  }
}

uint64_t guarded_page(int fd) {
  struct statfs status;
  bool huge = ::fstatfs(fd, &status) == 0 && status.f_type == kHugetlbMagic;
  return huge ? static_cast<uint64_t>(status.f_bsize) : kPage;
}

}  // namespace

Ref<Region> Region::create(const RegionRequest& request) {
  uint64_t alignment = alignment_of(request);
  uint64_t remainder = request.gpa % alignment;
  int fd = -1;
  uint64_t offset = request.file_offset;
  if (is_file(request.backing)) {
    fd = open_file(request);
  } else if (request.backing != Backing::kAnonymous) {
    // Huge pages of shared memory need the place in the file congruent to the address as well.
    offset = remainder;
    fd = create_memfd(request, offset + request.size);
  }
  if (fd < 0 && request.backing != Backing::kAnonymous) return {};
  Ref<Mapping> mapping =
      map_aligned(fd, request.size, map_flags(request.backing), offset, alignment, remainder);
  if (!mapping) {
    int error = errno;
    if (fd >= 0) ::close(fd);
    errno = error;
    return {};
  }
  auto region =
      Ref<Region>::adopt(new Region(fd, request.size, std::move(mapping), request.backing, offset));
  // What somebody else may truncate, or a pool may fail to refill after a hole was punched.
  bool can_vanish = is_file(request.backing) || request.backing == Backing::kHuge2M ||
                    request.backing == Backing::kHuge1G;
  if (can_vanish && !region->guard(guarded_page(fd))) {
    int error = errno;
    region.reset();
    errno = error;
  } else if (request.backing == Backing::kPrivateFile) {
    // The mapping is all that is ever used of it.
    region->fd_ = -1;
    ::close(fd);
  }
  return region;
}

bool Region::guard(uint64_t page) {
  Result result = BusGuard::add(data(), size_, page, &lost_pages_);
  if (result < 0) errno = static_cast<int>(-result);
  guarded_ = result == 0;
  return guarded_;
}

Ref<Region> Region::adopt_guest_memfd(int fd, uint64_t size, bool mapped) {
  Ref<Mapping> mapping;
  // KERNEL: a guest_memfd's fd is created without close-on-exec (seen up to 6.18).
  bool ready = ::fcntl(fd, F_SETFD, FD_CLOEXEC) == 0;
  if (ready && mapped) {
    mapping = Mapping::map(fd, size, PROT_READ | PROT_WRITE, MAP_SHARED);
    ready = static_cast<bool>(mapping);
  }
  if (!ready) {
    int error = errno;
    ::close(fd);
    errno = error;
    return {};
  }
  auto region = Ref<Region>::adopt(new Region(fd, size, std::move(mapping), Backing::kGuestMemfd));
  // Pages that are the guest's own raise SIGBUS here.
  if (mapped && !region->guard(kPage)) {
    int error = errno;
    region.reset();
    errno = error;
  }
  return region;
}

Result Region::punch_hole(uint64_t offset, uint64_t length) {
  if (fd_ < 0) return -ENODEV;
  return or_errno(::fallocate(fd_, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                              static_cast<off_t>(file_offset_ + offset),
                              static_cast<off_t>(length)));
}

Result Region::discard(uint64_t offset, uint64_t length) {
  if (offset > size_ || length > size_ - offset) return -EINVAL;
  std::lock_guard<std::mutex> lock(fault_mutex_);
  // ORDER: before the pages are missing, so that none is brought back as it was.
  for (Userfault* userfault : userfaults_) userfault->forget(offset, length);
  if (is_shared()) return punch_hole(offset, length);
  return or_errno(::madvise(data() + offset, length, MADV_DONTNEED));
}

uint64_t Region::page_size() const {
  if (backing_ == Backing::kHuge2M) return k2M;
  return backing_ == Backing::kHuge1G ? k1G : kPage;
}

bool Region::has_pages(uint64_t offset, uint64_t length) const {
  if (page_size() == kPage) {
    // Also finds what is swapped out, which mincore(2) does not.
    off_t hole = ::lseek(fd_, static_cast<off_t>(file_offset_ + offset), SEEK_HOLE);
    return hole >= 0 && static_cast<uint64_t>(hole) >= file_offset_ + offset + length;
  }
  // KERNEL: hugetlbfs knows no holes.
  for (uint64_t at = offset; at < offset + length; at += page_size()) {
    unsigned char there = 0;
    if (::mincore(data() + at, kPage, &there) != 0 || !(there & 1)) return false;
  }
  return true;
}

Result Region::write_file(uint64_t offset, const uint8_t* data, size_t size) {
  ssize_t written = ::pwrite(fd_, data, size, static_cast<off_t>(file_offset_ + offset));
  if (written < 0) return -errno;
  return static_cast<size_t>(written) == size ? 0 : -EIO;
}

void Region::remove_userfault(Userfault* userfault) {
  userfaults_.erase(std::remove(userfaults_.begin(), userfaults_.end(), userfault),
                    userfaults_.end());
}

bool Region::waits_for_javascript(uint64_t offset, uint64_t length, pid_t owner) {
  std::lock_guard<std::mutex> lock(fault_mutex_);
  return std::any_of(userfaults_.begin(), userfaults_.end(), [&](const Userfault* userfault) {
    return userfault->waits_for_javascript(offset, length, owner);
  });
}

// Pages that may go at any later time would be missing, and brought back as they once were.
bool Region::watched() {
  std::lock_guard<std::mutex> lock(fault_mutex_);
  return !userfaults_.empty();
}

bool Region::served_by_javascript(pid_t owner) {
  std::lock_guard<std::mutex> lock(fault_mutex_);
  return std::any_of(userfaults_.begin(), userfaults_.end(), [&](const Userfault* userfault) {
    return userfault->serves_by_javascript(owner);
  });
}

Result Region::advise(uint64_t offset, uint64_t length, uint32_t advice) {
  if (!has(offset, length)) return -EINVAL;
  for (uint32_t allowed : kAllowedAdvice) {
    if (advice != allowed) continue;
    if (advice == kFree && watched()) return -EBUSY;
    Result result;
    do {
      result = or_errno(::madvise(data() + offset, length, static_cast<int>(advice)));
    } while (result == -EINTR);
    return result;
  }
  return -EPERM;
}

// In steps: between them the address space can be changed, and the thread notices that nobody has a
// use for the memory any more. What is to be written from the end: who fills it meanwhile begins at
// its start.
void Region::run_prefault(uint64_t at, uint64_t end, uint32_t advice) {
  constexpr int kNiceness = 10;
  ::setpriority(PRIO_PROCESS, static_cast<id_t>(::syscall(SYS_gettid)), kNiceness);
  const bool backwards = advice == kPopulateWrite;
  while (at < end && !has_only(prefaults_.load(std::memory_order_relaxed))) {
    uint64_t step = std::min(end - at, backwards ? (end - 1) % k2M + 1 : k2M - at % k2M);
    if (this->advise(backwards ? end - step : at, step, advice) != 0) break;
    if (backwards) {
      end -= step;
    } else {
      at += step;
    }
  }
  prefaults_.fetch_sub(1, std::memory_order_relaxed);
}

Result Region::prefault(uint64_t offset, uint64_t length, bool write) {
  struct Work {
    Ref<Region> region;
    uint64_t at;
    uint64_t end;
    uint32_t advice;
  };
  if (!has(offset, length)) return -EINVAL;
  if (watched()) return -EBUSY;
  auto* work =
      new Work{Ref<Region>(this), offset, offset + length, write ? kPopulateWrite : kPopulateRead};
  // ORDER: an owner first, so that those that run do not take it for nobody's.
  prefaults_.fetch_add(1, std::memory_order_relaxed);
  Result error = start_detached_thread(
      "kvm-prefault",
      [](void* argument) -> void* {
        std::unique_ptr<Work> work(static_cast<Work*>(argument));
        work->region->run_prefault(work->at, work->end, work->advice);
        return nullptr;
      },
      work);
  if (error == 0) return 0;
  // Without a thread, pages come when they are touched.
  prefaults_.fetch_sub(1, std::memory_order_relaxed);
  delete work;
  return 0;
}

Result Region::lock(bool on_fault) {
  if (!has(0, size_)) return -EINVAL;
  constexpr unsigned kOnFault = 1;  // MLOCK_ONFAULT
  return or_errno(::syscall(SYS_mlock2, data(), size_, on_fault ? kOnFault : 0u));
}

Result Region::bind(uint32_t mode, uint64_t nodes) {
  if (!has(0, size_)) return -EINVAL;
  unsigned long mask[2] = {nodes, 0};
  // KERNEL: counts the bits from one more than there are.
  return or_errno(::syscall(SYS_mbind, data(), size_, long{mode}, mask, 65UL, 0U));
}

Result Region::residency(uint64_t offset, uint8_t* pages, size_t count) {
  if (offset % kPage || !has(offset, count * kPage)) return -EINVAL;
  return or_errno(::mincore(data() + offset, count * kPage, pages));
}

Result Region::pagemap(uint64_t offset, uint8_t* entries, size_t size) {
  constexpr size_t kEntry = 8;
  if (offset % kPage || size % kEntry || !has(offset, size / kEntry * kPage)) return -EINVAL;
  int fd = ::open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
  if (fd < 0) return -errno;
  uint64_t first = (reinterpret_cast<uint64_t>(data()) + offset) / kPage * kEntry;
  Result result = or_errno(::pread(fd, entries, size, static_cast<off_t>(first)));
  ::close(fd);
  return result;
}

std::string Region::smaps() const {
  std::string text;
  FILE* file = mapping_ ? std::fopen("/proc/self/smaps", "re") : nullptr;
  if (file == nullptr) return text;
  auto begin = reinterpret_cast<uintptr_t>(data());
  char line[4096 + 256];
  bool inside = false;
  while (std::fgets(line, sizeof line, file) != nullptr) {
    unsigned long from = 0;
    unsigned long to = 0;
    if (std::sscanf(line, "%lx-%lx ", &from, &to) == 2) {
      inside = from < begin + size_ && begin < to;
    } else if (inside) {
      text += line;
    }
  }
  std::fclose(file);
  return text;
}

Region::~Region() {
  // Accessors of JavaScript may still hold the address range (never hand it out, never use it after
  // their close): it stays valid, but empty, so the guest's RAM is given back now and not at a GC.
  if (mapping_) mapping_->detach(0);
  // ORDER: after the detach, from when on nothing of the range can vanish.
  if (guarded_) BusGuard::remove(data());
  if (fd_ >= 0) ::close(fd_);
}

}  // namespace node_kvm
