#include "userfault.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <unistd.h>

namespace node_kvm {
namespace {

// linux/userfaultfd.h, of which a build machine's may be years old.
constexpr unsigned long kApi = 0xc018aa3f;
constexpr unsigned long kRegister = 0xc020aa00;
constexpr unsigned long kWake = 0x8010aa02;
constexpr unsigned long kCopy = 0xc028aa03;
constexpr unsigned long kZeropage = 0xc020aa04;
constexpr unsigned long kWriteProtectRequest = 0xc018aa06;
constexpr unsigned long kContinue = 0xc020aa07;
constexpr unsigned long kDeviceNew = 0xaa00;  // USERFAULTFD_IOC_NEW of /dev/userfaultfd
constexpr uint64_t kApiVersion = 0xaa;
constexpr uint8_t kEventPagefault = 0x12;
constexpr uint64_t kFaultProtected = 2;
constexpr uint64_t kFaultMinor = 4;
// WP, hugetlb and shmem missing, thread id, minor (hugetlb, shmem), WP on both, WP on empty pages.
constexpr uint64_t kWantedFeatures =
    1 << 0 | 1 << 4 | 1 << 5 | 1 << 8 | 1 << 9 | 1 << 10 | 1 << 12 | 1 << 13;
constexpr uint64_t kPage = 4096;

struct ApiArgument {
  uint64_t api, features, ioctls;
};
struct RangeArgument {
  uint64_t start, length;
};
struct RegisterArgument {
  RangeArgument range;
  uint64_t mode, ioctls;
};
struct CopyArgument {
  uint64_t to, from, length, mode;
  int64_t copied;
};
struct ModeArgument {  // of zeropage, continue and (without the last field) write protection
  RangeArgument range;
  uint64_t mode;
  int64_t done;
};
struct Message {
  uint8_t event, reserved1;
  uint16_t reserved2;
  uint32_t reserved3;
  uint64_t flags, address;
  uint32_t tid, padding;
};
static_assert(sizeof(Message) == 32, "what read(2) gives");

int open_device() {
  // A guest faults inside the kernel, which an unprivileged userfaultfd does not cover; the device
  // file is the other way to the privilege.
  int fd = static_cast<int>(::syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK));
  if (fd >= 0 || (errno != EPERM && errno != ENOSYS)) return fd;
  int error = errno;
  int device = ::open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);
  if (device < 0) {
    errno = error;
    return -1;
  }
  fd = static_cast<int>(checked_ioctl(device, kDeviceNew, O_CLOEXEC | O_NONBLOCK));
  ::close(device);
  return fd < 0 ? (errno = -fd, -1) : fd;
}

Result handshake(int fd, uint64_t* features) {
  ApiArgument argument{kApiVersion, *features, 0};
  Result result = checked_ioctl(fd, kApi, reinterpret_cast<unsigned long>(&argument));
  *features = argument.features;
  return result;
}

// KERNEL: features are asked for in the one handshake that a file allows, and one that is unknown
// fails it: the first file only finds out which there are.
Result open_with_features() {
  uint64_t features = 0;
  int probe = open_device();
  if (probe < 0) return -errno;
  Result result = handshake(probe, &features);
  ::close(probe);
  if (result < 0) return result;
  int fd = open_device();
  if (fd < 0) return -errno;
  features &= kWantedFeatures;
  result = handshake(fd, &features);
  if (result >= 0) return fd;
  ::close(fd);
  return result;
}

}  // namespace

Result Userfault::create(Region& region, uint64_t offset, uint64_t length, uint32_t modes,
                         Ref<Userfault>* out) {
  if (!region.has(offset, length) || length == 0 || offset % kPage || length % kPage) {
    return -EINVAL;
  }
  Result fd = open_with_features();
  if (fd < 0) return fd;
  auto made =
      Ref<Userfault>::adopt(new Userfault(static_cast<int>(fd), region, offset, length, modes));
  RegisterArgument argument{{made->address(offset), length}, modes, 0};
  Result result = made->request(kRegister, &argument);
  if (result < 0) return result;
  *out = std::move(made);
  return 0;
}

Result Userfault::request(unsigned long number, void* argument) {
  Use use(*this);
  if (use.error()) return use.error();
  Result result;
  do {
    result = checked_ioctl(fd(), number, reinterpret_cast<unsigned long>(argument));
  } while (result == -EINTR);
  return result;
}

Result Userfault::checked(uint64_t offset, uint64_t length) const {
  bool inside = offset >= offset_ && length <= length_ && offset - offset_ <= length_ - length;
  return inside && length != 0 && offset % kPage == 0 && length % kPage == 0 ? 0 : -EINVAL;
}

Result Userfault::open_source(const char* path, uint64_t offset) {
  source_ = ::open(path, O_RDONLY | O_CLOEXEC);
  source_offset_ = offset;
  return source_ < 0 ? -static_cast<Result>(errno) : 0;
}

Result Userfault::start(Report report, void* context, pid_t owner) {
  stop_ = ::eventfd(0, EFD_CLOEXEC);
  if (stop_ < 0) return -errno;
  report_ = report;
  context_ = context;
  owner_ = owner;
  // THREAD: takes no signal of the process; the mask is inherited.
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  ::pthread_sigmask(SIG_SETMASK, &all, &before);
  reader_ = std::thread([this] { read_faults(); });
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  return 0;
}

void Userfault::read_faults() {
  pollfd files[2] = {{fd(), POLLIN, 0}, {stop_, POLLIN, 0}};
  while (!stopping_.load(std::memory_order_acquire)) {
    if (::poll(files, 2, -1) < 0 && errno != EINTR) return;
    Message message;
    while (!stopping_.load(std::memory_order_acquire) &&
           ::read(fd(), &message, sizeof message) == sizeof message) {
      if (message.event == kEventPagefault) {
        handle(message.address, message.flags, static_cast<pid_t>(message.tid));
      }
    }
  }
}

void Userfault::handle(uint64_t fault_address, uint64_t flags, pid_t tid) {
  uint64_t at = fault_address - reinterpret_cast<uint64_t>(region_->data());
  Fault fault{at - at % kPage, static_cast<uint32_t>(flags), false};
  bool missing = (flags & (kFaultProtected | kFaultMinor)) == 0;
  if (missing && source_ >= 0) {
    if (!serve_from_source(fault.offset)) report_(context_, fault);
    return;
  }
  fault.own = tid == owner_;
  if (fault.own) {
    if (flags & kFaultProtected) {
      protect(fault.offset, kPage, false);
    } else if (flags & kFaultMinor) {
      resume(fault.offset, kPage);
    } else {
      zero(fault.offset, kPage);
    }
  }
  report_(context_, fault);
}

bool Userfault::serve_from_source(uint64_t offset) {
  alignas(kPage) uint8_t page[kPage];
  size_t done = 0;
  uint64_t from = source_offset_ + (offset - offset_);
  while (done < kPage) {
    ssize_t got = ::pread(source_, page + done, kPage - done, static_cast<off_t>(from + done));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) break;
    done += static_cast<size_t>(got);
  }
  bool whole = done == kPage;
  Result result = whole ? copy(offset, page, kPage, false) : zero(offset, kPage);
  if (whole && result == 0) served_.fetch_add(1, std::memory_order_relaxed);
  if (!whole) failed_.fetch_add(1, std::memory_order_relaxed);
  // Another thread's fault on the same page was served first.
  return whole && (result == 0 || result == -EEXIST);
}

Result Userfault::copy(uint64_t offset, const uint8_t* data, size_t size, bool protect) {
  if (Result error = checked(offset, size)) return error;
  size_t done = 0;
  while (done < size) {
    CopyArgument argument{address(offset + done), reinterpret_cast<uint64_t>(data) + done,
                          size - done, protect ? 2u : 0u, 0};
    Result result = request(kCopy, &argument);
    if (argument.copied > 0) done += static_cast<size_t>(argument.copied);
    // KERNEL: -EAGAIN with the part done when the address space changes meanwhile.
    if (result == -EAGAIN || (result >= 0 && done < size)) continue;
    if (result == -EEXIST) wake(offset + done, kPage);
    if (result < 0) return result;
  }
  return 0;
}

Result Userfault::zero(uint64_t offset, uint64_t length) {
  if (Result error = checked(offset, length)) return error;
  for (uint64_t done = 0; done < length;) {
    ModeArgument argument{{address(offset + done), length - done}, 0, 0};
    Result result = request(kZeropage, &argument);
    if (argument.done > 0) done += static_cast<uint64_t>(argument.done);
    if (result == -EAGAIN || (result >= 0 && done < length)) continue;
    if (result == -EEXIST) wake(offset + done, kPage);
    if (result < 0) return result;
  }
  return 0;
}

Result Userfault::resume(uint64_t offset, uint64_t length) {
  if (Result error = checked(offset, length)) return error;
  for (uint64_t done = 0; done < length;) {
    ModeArgument argument{{address(offset + done), length - done}, 0, 0};
    Result result = request(kContinue, &argument);
    if (argument.done > 0) done += static_cast<uint64_t>(argument.done);
    if (result == -EAGAIN || (result >= 0 && done < length)) continue;
    if (result == -EEXIST) wake(offset + done, kPage);
    if (result < 0) return result;
  }
  return 0;
}

Result Userfault::protect(uint64_t offset, uint64_t length, bool on) {
  if (Result error = checked(offset, length)) return error;
  ModeArgument argument{{address(offset), length}, on ? 1u : 0u, 0};
  Result result;
  do {
    result = request(kWriteProtectRequest, &argument);
  } while (result == -EAGAIN);
  return result;
}

Result Userfault::wake(uint64_t offset, uint64_t length) {
  if (Result error = checked(offset, length)) return error;
  RangeArgument argument{address(offset), length};
  return request(kWake, &argument);
}

void Userfault::close() {
  if (!stopping_.exchange(true, std::memory_order_acq_rel) && reader_.joinable()) {
    uint64_t one = 1;
    ssize_t written = ::write(stop_, &one, sizeof one);
    static_cast<void>(written);
    reader_.join();
  }
  File::close();
}

Userfault::~Userfault() {
  close();
  if (source_ >= 0) ::close(source_);
  if (stop_ >= 0) ::close(stop_);
}

}  // namespace node_kvm
