#include "userfault.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <mutex>

#include "own_thread.h"

namespace node_kvm {
namespace {

// linux/userfaultfd.h, of which a build machine's may be years old.
constexpr unsigned long kApi = 0xc018aa3f;
constexpr unsigned long kRegister = 0xc020aa00;
constexpr unsigned long kUnregister = 0x8010aa01;
constexpr unsigned long kWake = 0x8010aa02;
constexpr unsigned long kCopy = 0xc028aa03;
constexpr unsigned long kZeropage = 0xc020aa04;
constexpr unsigned long kWriteProtectRange = 0xc018aa06;
constexpr unsigned long kContinue = 0xc020aa07;
constexpr unsigned long kDeviceNew = 0xaa00;  // USERFAULTFD_IOC_NEW of /dev/userfaultfd
constexpr uint64_t kApiVersion = 0xaa;
constexpr uint8_t kPageFault = 0x12;
constexpr uint64_t kFaultProtected = 2;
constexpr uint64_t kFaultMinor = 4;
constexpr uint64_t kThreadId = 1 << 8;
// Besides: write protection of anonymous memory, of shared memory, of pages that are not there yet;
// missing and minor faults of shared memory and huge pages.
constexpr uint64_t kWanted =
    kThreadId | 1 << 0 | 1 << 12 | 1 << 13 | 1 << 4 | 1 << 5 | 1 << 9 | 1 << 10;
constexpr uint64_t kPage = 4096;
// Bits of an entry of /proc/self/pagemap: mapped, swapped out, write-protected by a userfaultfd.
constexpr uint64_t kMapped = uint64_t{1} << 63;
constexpr uint64_t kSwapped = uint64_t{1} << 62;
constexpr uint64_t kProtected = uint64_t{1} << 57;

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
struct ModeArgument {  // write protection ends before the last field
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

// Guests fault inside the kernel, which an unprivileged userfaultfd does not cover; the device file
// is the other way to the privilege.
Result open_fd() {
  long fd = ::syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
  if (fd >= 0) return fd;
  Result error = -errno;
  int device = ::open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);
  if (device < 0) return error;
  Result made = checked_ioctl(device, kDeviceNew, O_CLOEXEC | O_NONBLOCK);
  ::close(device);
  return made;
}

Result handshake(int fd, uint64_t* features) {
  ApiArgument argument{kApiVersion, *features, 0};
  Result result = checked_ioctl(fd, kApi, reinterpret_cast<unsigned long>(&argument));
  *features = argument.features;
  return result;
}

// KERNEL: a file is asked once, and a feature that is unknown fails it: the first file only finds
// out which there are.
Result open_with_features() {
  Result offered = Userfault::features();
  if (offered < 0) return offered;
  Result fd = open_fd();
  if (fd < 0) return fd;
  uint64_t features = static_cast<uint64_t>(offered) & kWanted;
  Result result = handshake(static_cast<int>(fd), &features);
  if (result >= 0) return fd;
  ::close(static_cast<int>(fd));
  return result;
}

bool is_zero(const uint8_t* data, size_t size) {
  return data[0] == 0 && std::memcmp(data, data + 1, size - 1) == 0;
}

}  // namespace

Result Userfault::features() {
  Result fd = open_fd();
  if (fd < 0) return fd;
  uint64_t features = 0;
  Result result = handshake(static_cast<int>(fd), &features);
  ::close(static_cast<int>(fd));
  return result < 0 ? result : static_cast<Result>(features);
}

Userfault::Userfault(int fd, int pagemap, const Request& request)
    : Object(Kind::kUserfault),
      fd_(fd),
      pagemap_(pagemap),
      request_(request),
      page_size_(request.region->page_size()) {}

Result Userfault::create(const Request& request, Ref<Userfault>* out) {
  Region& region = *request.region;
  uint64_t page = region.page_size();
  if (request.length == 0 || !region.has(request.offset, request.length) || request.offset % page ||
      request.length % page) {
    return -EINVAL;
  }
  Result fd = open_with_features();
  if (fd < 0) return fd;
  int pagemap = ::open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
  if (pagemap < 0) {
    Result error = -errno;
    ::close(static_cast<int>(fd));
    return error;
  }
  auto made = Ref<Userfault>::adopt(new Userfault(static_cast<int>(fd), pagemap, request));
  if (Result error = made->set_up()) return error;
  *out = std::move(made);
  return 0;
}

// What fails here is undone by the destructor.
Result Userfault::set_up() {
  if (!request_.path.empty()) {
    source_ = ::open(request_.path.c_str(), O_RDONLY | O_CLOEXEC);
    if (source_ < 0) return -errno;
    off_t end = ::lseek(source_, 0, SEEK_END);
    if (end < 0) return -errno;
    auto size = static_cast<uint64_t>(end);
    if (size < request_.path_offset || size - request_.path_offset < request_.length) {
      return -EOVERFLOW;
    }
  }
  // ORDER: counted before any page can be missing, see Vcpu::enter_served().
  if (by_javascript()) {
    by_javascript_.fetch_add(1, std::memory_order_seq_cst);
    counted_ = true;
  }
  {
    std::lock_guard<std::mutex> lock(request_.region->fault_mutex());
    request_.region->add_userfault(this);
    listed_ = true;
  }
  RegisterArgument argument{{address(request_.offset), request_.length}, request_.modes, 0};
  if (Result error = call(kRegister, &argument)) return error;
  registered_ = true;
  return start();
}

Result Userfault::start() {
  stop_ = ::eventfd(0, EFD_CLOEXEC);
  if (stop_ < 0) return -errno;
  int error = start_thread(
      &thread_, "kvm-userfault",
      [](void* self) -> void* {
        static_cast<Userfault*>(self)->loop();
        return nullptr;
      },
      this);
  if (error != 0) return -error;
  running_ = true;
  return 0;
}

// THREAD: the owner's, or whoever drops the last reference.
void Userfault::close() {
  if (stopping_.exchange(true)) return;
  if (running_) {
    uint64_t one = 1;
    [[maybe_unused]] ssize_t written = ::write(stop_, &one, sizeof one);
    ::pthread_join(thread_, nullptr);
  }
  {
    std::lock_guard<std::mutex> lock(request_.region->fault_mutex());
    closed_ = true;
    waiting_.clear();
    events_.clear();
    // ORDER: off the list when no page can be missing any more.
    // KERNEL: 6.1 does not look whose registration it ends: another's, where ours was refused.
    RangeArgument range{address(request_.offset), request_.length};
    if (registered_) call(kUnregister, &range);
    ::close(fd_);
    if (listed_) request_.region->remove_userfault(this);
  }
  if (counted_) by_javascript_.fetch_sub(1, std::memory_order_seq_cst);
  ::close(pagemap_);
  if (source_ >= 0) ::close(source_);
  if (stop_ >= 0) ::close(stop_);
}

Userfault::~Userfault() { close(); }

void Userfault::loop() {
  pollfd files[2] = {{fd_, POLLIN, 0}, {stop_, POLLIN, 0}};
  while (!stopping_.load(std::memory_order_acquire)) {
    ::poll(files, 2, -1);
    Message message;
    while (!stopping_.load(std::memory_order_acquire) &&
           ::read(fd_, &message, sizeof message) == sizeof message) {
      if (message.event != kPageFault) continue;
      on_fault(message.address, message.flags, static_cast<pid_t>(message.tid));
    }
  }
}

void Userfault::on_fault(uint64_t fault_address, uint64_t flags, pid_t tid) {
  uint64_t offset = fault_address - address(0);
  offset -= offset % page_size_;
  {
    std::lock_guard<std::mutex> lock(request_.region->fault_mutex());
    counts_.faults++;
  }
  if (flags & kFaultProtected) {
    on_write(offset);
  } else if (!(flags & kFaultMinor) && source_ >= 0) {
    bring_from_source(offset);
  } else {
    on_missing(offset, (flags & kFaultMinor) != 0, tid);
  }
}

// A page that JavaScript brings.
void Userfault::on_missing(uint64_t offset, bool minor, pid_t tid) {
  std::lock_guard<std::mutex> lock(request_.region->fault_mutex());
  Event event;
  if (!would_fault(offset, &event)) {
    wake(offset);
  } else if (!minor && forgotten(offset)) {
    finish(zero(offset), offset);
  } else if (tid == request_.owner) {
    waiting_.erase(offset);
    counts_.zeroed += minor ? 0 : 1;
    finish(minor ? resume(offset) : zero(offset), offset);
    push(Event::kOwn, offset);
  } else if (waiting_.insert(offset).second) {
    push(event, offset);
  }
}

// Two threads may have reported the same write: the page is kept as it was for the first.
void Userfault::on_write(uint64_t offset) {
  std::lock_guard<std::mutex> lock(request_.region->fault_mutex());
  uint64_t entry = 0;
  auto at = static_cast<off_t>(address(offset) / kPage * sizeof entry);
  bool known = ::pread(pagemap_, &entry, sizeof entry, at) == sizeof entry;
  if (known && (entry & kProtected)) {
    // SAFETY: a write-protected page can be read: nothing else is registered for it.
    std::unique_ptr<uint8_t[]> page(new uint8_t[page_size_]);
    std::memcpy(page.get(), request_.region->data() + offset, page_size_);
    push(Event::kWritten, offset, std::move(page));
  }
  protect(offset, page_size_, false);
}

void Userfault::push(Event event, uint64_t offset, std::unique_ptr<uint8_t[]> page) {
  events_.push_back({event, offset, std::move(page)});
  if (events_.size() == 1) request_.bell->ring();
}

Result Userfault::read_source(uint64_t offset, uint8_t* data, size_t size) {
  uint64_t from = request_.path_offset + (offset - request_.offset);
  size_t done = 0;
  while (done < size) {
    ssize_t got = ::pread(source_, data + done, size - done, static_cast<off_t>(from + done));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) break;
    done += static_cast<size_t>(got);
  }
  return static_cast<Result>(done);
}

void Userfault::bring_from_source(uint64_t offset) {
  std::unique_ptr<uint8_t[]> page(new uint8_t[page_size_]);
  bool whole = read_source(offset, page.get(), page_size_) == static_cast<Result>(page_size_);
  bool zeros = !whole || is_zero(page.get(), page_size_);
  // ORDER: a page that is given up meanwhile must not come back as the file has it.
  std::lock_guard<std::mutex> lock(request_.region->fault_mutex());
  bool gone = forgotten(offset);
  Result result = finish(zeros || gone ? zero(offset) : copy(offset, page.get()), offset);
  if (gone || result < 0) return;
  if (whole) {
    counts_.from_source++;
  } else {
    counts_.zeroed++;
    push(Event::kNoSource, offset);
  }
}

Result Userfault::fetch(uint64_t offset, uint64_t length) {
  if (source_ < 0 || !has(offset, length)) return -EINVAL;
  std::unique_ptr<uint8_t[]> page(new uint8_t[page_size_]);
  for (uint64_t at = offset; at < offset + length; at += page_size_) {
    {
      std::lock_guard<std::mutex> lock(request_.region->fault_mutex());
      if (closed_) return kClosed;
      if (in_memory(at, page_size_) || forgotten(at)) continue;
    }
    if (read_source(at, page.get(), page_size_) < static_cast<Result>(page_size_)) return -EIO;
    bool zeros = is_zero(page.get(), page_size_);
    std::lock_guard<std::mutex> lock(request_.region->fault_mutex());
    if (forgotten(at)) continue;
    Result result = zeros ? zero(at) : copy(at, page.get());
    if (result == 0) counts_.from_source++;
    if (result < 0 && result != -EEXIST) return result;
  }
  return 0;
}

Result Userfault::take(uint8_t* page, size_t size, Event* event) {
  std::lock_guard<std::mutex> lock(request_.region->fault_mutex());
  while (!events_.empty()) {
    Entry entry = std::move(events_.front());
    events_.pop_front();
    bool asks = entry.event == Event::kMissing || entry.event == Event::kMinor;
    if (asks && waiting_.count(entry.offset) == 0) continue;
    if (entry.page) std::memcpy(page, entry.page.get(), std::min<size_t>(size, page_size_));
    *event = entry.event;
    return static_cast<Result>(entry.offset);
  }
  return -EAGAIN;
}

Result Userfault::bring(uint64_t offset, const uint8_t* page, size_t size) {
  if (page != nullptr && size != page_size_) return -EINVAL;
  std::lock_guard<std::mutex> lock(request_.region->fault_mutex());
  if (closed_) return kClosed;
  if (waiting_.erase(offset) == 0) return -ENOENT;
  Event event;
  if (!would_fault(offset, &event)) return wake(offset);
  if (event == Event::kMinor) {
    Result written = page == nullptr ? 0 : request_.region->write_file(offset, page, size);
    Result result = finish(resume(offset), offset);
    return written < 0 ? written : result;
  }
  bool zeros = page == nullptr || forgotten(offset);
  if (zeros) counts_.zeroed++;
  return finish(zeros ? zero(offset) : copy(offset, page), offset);
}

Result Userfault::claim(uint64_t offset) {
  if (!has(offset, page_size_)) return -EINVAL;
  std::lock_guard<std::mutex> lock(request_.region->fault_mutex());
  if (closed_) return kClosed;
  Event event;
  if (!waits_for_javascript(offset, page_size_, 0) || !would_fault(offset, &event)) return -EEXIST;
  waiting_.insert(offset);
  return static_cast<Result>(event);
}

// A page that cannot be brought becomes ordinary memory: nobody shall wait for it for ever.
Result Userfault::finish(Result result, uint64_t offset) {
  if (result == 0) return 0;
  if (result != -EEXIST) give_up(offset);
  wake(offset);
  return result == -EEXIST ? 0 : result;
}

Result Userfault::copy(uint64_t offset, const uint8_t* data) {
  for (uint64_t done = 0;;) {
    CopyArgument argument{address(offset + done), reinterpret_cast<uint64_t>(data) + done,
                          page_size_ - done, 0, 0};
    Result result = call(kCopy, &argument);
    if (argument.copied > 0) done += static_cast<uint64_t>(argument.copied);
    if (result != -EAGAIN) return result;
  }
}

Result Userfault::zero(uint64_t offset) {
  if (page_size_ != kPage) {
    // KERNEL: there is no page of zeros of that size to map.
    std::unique_ptr<uint8_t[]> zeros(new uint8_t[page_size_]());
    return copy(offset, zeros.get());
  }
  Result result;
  do {
    ModeArgument argument{{address(offset), page_size_}, 0, 0};
    result = call(kZeropage, &argument);
  } while (result == -EAGAIN);
  return result;
}

Result Userfault::resume(uint64_t offset) {
  Result result;
  do {
    ModeArgument argument{{address(offset), page_size_}, 0, 0};
    result = call(kContinue, &argument);
  } while (result == -EAGAIN);
  return result;
}

Result Userfault::wake(uint64_t offset) {
  RangeArgument range{address(offset), page_size_};
  return call(kWake, &range);
}

Result Userfault::give_up(uint64_t offset) {
  RangeArgument range{address(offset), page_size_};
  return call(kUnregister, &range);
}

Result Userfault::protect(uint64_t offset, uint64_t length, bool on) {
  if (!has(offset, length)) return -EINVAL;
  Result result;
  do {
    ModeArgument argument{{address(offset), length}, on ? 1u : 0u, 0};
    result = call(kWriteProtectRange, &argument);
  } while (result == -EAGAIN);
  return result;
}

Result Userfault::call(unsigned long number, void* argument) const {
  Result result;
  do {
    result = checked_ioctl(fd_, number, reinterpret_cast<unsigned long>(argument));
  } while (result == -EINTR);
  return result;
}

Userfault::Counts Userfault::counts() {
  std::lock_guard<std::mutex> lock(request_.region->fault_mutex());
  Counts counts = counts_;
  counts.waiting = waiting_.size();
  return counts;
}

void Userfault::forget(uint64_t offset, uint64_t length) {
  if (forgotten_.empty()) forgotten_.resize(request_.length / page_size_);
  uint64_t end = std::min(offset + length, request_.offset + request_.length);
  uint64_t from = (std::max(offset, request_.offset) + page_size_ - 1) / page_size_ * page_size_;
  for (uint64_t at = from; at + page_size_ <= end; at += page_size_) {
    forgotten_[(at - request_.offset) / page_size_] = true;
  }
}

bool Userfault::forgotten(uint64_t offset) const {
  return !forgotten_.empty() && forgotten_[(offset - request_.offset) / page_size_];
}

bool Userfault::has(uint64_t offset, uint64_t length) const {
  return length != 0 && offset % page_size_ == 0 && length % page_size_ == 0 &&
         offset >= request_.offset && length <= request_.length &&
         offset - request_.offset <= request_.length - length;
}

bool Userfault::mapped(uint64_t offset, uint64_t length) const {
  constexpr size_t kEntries = 512;
  uint64_t entries[kEntries];
  for (uint64_t done = 0; done < length;) {
    size_t count = std::min<size_t>(kEntries, (length - done) / kPage);
    auto at = static_cast<off_t>(address(offset + done) / kPage * sizeof entries[0]);
    auto bytes = static_cast<ssize_t>(count * sizeof entries[0]);
    if (::pread(pagemap_, entries, static_cast<size_t>(bytes), at) != bytes) return false;
    for (size_t i = 0; i < count; i++) {
      if (!(entries[i] & (kMapped | kSwapped))) return false;
    }
    done += count * kPage;
  }
  return true;
}

bool Userfault::in_memory(uint64_t offset, uint64_t length) const {
  return request_.region->is_shared() ? request_.region->has_pages(offset, length)
                                      : mapped(offset, length);
}

bool Userfault::would_fault(uint64_t offset, Event* event) const {
  if (!in_memory(offset, page_size_)) {
    *event = Event::kMissing;
    return (request_.modes & kMissing) != 0;
  }
  *event = Event::kMinor;
  return (request_.modes & kMinor) && !mapped(offset, page_size_);
}

bool Userfault::waits_for_javascript(uint64_t offset, uint64_t length, pid_t owner) const {
  if (!serves_by_javascript(owner)) return false;
  uint64_t from = std::max(offset - offset % page_size_, request_.offset);
  uint64_t end = std::min(offset + length, request_.offset + request_.length);
  if (from >= end) return false;
  uint64_t pages = (end - from + page_size_ - 1) / page_size_ * page_size_;
  if (!(request_.modes & kMinor) && in_memory(from, pages)) return false;
  for (uint64_t at = from; at < end; at += page_size_) {
    Event event;
    if (!would_fault(at, &event)) continue;
    bool native = event == Event::kMissing && (source_ >= 0 || forgotten(at));
    if (!native) return true;
  }
  return false;
}

}  // namespace node_kvm
