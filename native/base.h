// What every other native file stands on: results that carry an errno, reference counts, file
// descriptors and mappings. Knows nothing of Node.
#pragma once

#if !defined(__linux__) || !defined(__x86_64__)
#error \
    "node-kvm's addon is for Linux on x86-64; elsewhere the package works without it and says why KVM is missing."
#endif

#include <sys/syscall.h>
#include <time.h>

#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <utility>

namespace node_kvm {

// One number for a result and its error, as the kernel itself does it: >= 0 is the result, a small
// negative is -errno. Our own refusals lie below every errno. (src/core/errors.ts knows the same.)
using Result = int64_t;
constexpr Result kClosed = -10001;
constexpr Result kBusy = -10002;
constexpr Result kUnknownRequest = -10003;
constexpr Result kBufferTooSmall = -10004;
constexpr Result kWouldDeadlock = -10005;

inline int64_t monotonic_ns() {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return int64_t{now.tv_sec} * 1000000000 + now.tv_nsec;
}

// Calls ioctl and takes errno before anything else can overwrite it.
Result checked_ioctl(int fd, unsigned long request, unsigned long arg);
template <typename T>
Result checked_ioctl(int fd, unsigned long request, T* arg) {
  return checked_ioctl(fd, request, reinterpret_cast<unsigned long>(arg));
}

// The same without libc, for the way into the guest. Where the kernel clears the CPU's return
// predictor, each return to a caller from before the system call is mispredicted; a frame less
// saves about 10 ns an exit.
inline Result direct_ioctl(int fd, unsigned long request, unsigned long arg) {
  Result result;
  asm volatile("syscall"
               : "=a"(result)
               : "a"(long{SYS_ioctl}), "D"(long{fd}), "S"(request), "d"(arg)
               : "rcx", "r11", "memory");
  return result;
}

inline Result or_errno(long result) { return result < 0 ? -static_cast<Result>(errno) : result; }

// Intrusive count, shared by all threads (and so all environments) of the process.
class RefCounted {
 public:
  void retain() { refs_.fetch_add(1, std::memory_order_relaxed); }
  void release() {
    if (refs_.fetch_sub(1, std::memory_order_acq_rel) == 1) delete this;
  }
  // Whether it has no more owners than so many.
  bool has_only(uint32_t owners) const { return refs_.load(std::memory_order_acquire) <= owners; }
  // For a table that finds objects without owning them: fails when the last owner is leaving.
  bool try_retain();

 protected:
  RefCounted() = default;
  virtual ~RefCounted() = default;
  RefCounted(const RefCounted&) = delete;
  RefCounted& operator=(const RefCounted&) = delete;

 private:
  std::atomic<uint32_t> refs_{1};
};

template <typename T>
class Ref {
 public:
  Ref() = default;
  static Ref adopt(T* object) {
    Ref ref;
    ref.object_ = object;
    return ref;
  }
  explicit Ref(T* object) : object_(object) {
    if (object_) object_->retain();
  }
  Ref(const Ref& other) : Ref(other.object_) {}
  Ref(Ref&& other) noexcept : object_(std::exchange(other.object_, nullptr)) {}
  Ref& operator=(Ref other) noexcept {
    std::swap(object_, other.object_);
    return *this;
  }
  ~Ref() { reset(); }

  void reset() {
    if (T* object = std::exchange(object_, nullptr)) object->release();
  }
  T* get() const { return object_; }
  T* operator->() const { return object_; }
  T& operator*() const { return *object_; }
  explicit operator bool() const { return object_ != nullptr; }

 private:
  T* object_ = nullptr;
};

// Address space that stays reserved as long as anybody holds the object.
class Mapping final : public RefCounted {
 public:
  // Null with errno set when the kernel refuses.
  static Ref<Mapping> map(int fd, size_t size, int protection, int flags, uint64_t offset = 0);

  // Takes over what is mapped already.
  static Ref<Mapping> adopt(uint8_t* data, size_t size) {
    return Ref<Mapping>::adopt(new Mapping(data, size));
  }

  uint8_t* data() const { return data_; }
  size_t size() const { return size_; }
  // Puts zeroed anonymous memory in place: what was mapped is let go at once (a mapped vCPU page
  // keeps the whole VM alive in the kernel), while views that JavaScript still holds stay readable.
  // `keep` bytes from the start are carried over.
  void detach(size_t keep);

 private:
  Mapping(uint8_t* data, size_t size) : data_(data), size_(size) {}
  ~Mapping() override;
  uint8_t* data_;
  size_t size_;
};

// What JavaScript can hold: every such object has a kind (checked on each native call) and a number
// under which another thread's environment can find it.
enum class Kind : uint8_t {
  kSystem,
  kVm,
  kVcpu,
  kDevice,
  kRegion,
  kThread,
  kFile,
  kUserfault,
  kGuestRam,
  kVirtqueue,
  kNetWorker,
  kDisk,
  kBlockWorker
};

constexpr bool is_file(Kind kind) { return kind <= Kind::kDevice || kind == Kind::kFile; }

class Object : public RefCounted {
 public:
  Kind kind() const { return kind_; }
  uint64_t id() const { return id_; }
  // Idempotent, legal in any state and from any thread.
  virtual void close() = 0;
  // A new reference to the live object with this number, or null.
  static Ref<Object> find(uint64_t id);

 protected:
  explicit Object(Kind kind);
  ~Object() override;

 private:
  Kind kind_;
  uint64_t id_;
};

// A descriptor used from several threads: an ioctl that is under way keeps it open, so that a close
// elsewhere can never let the number be reused under it.
class File : public Object {
 public:
  void close() override;
  bool closed() const { return (state_.load(std::memory_order_acquire) & kClosedBit) != 0; }
  // ORDER: acquire() == 0 before any use of fd(), release() after it.
  virtual Result acquire();
  virtual void release_use();
  int fd() const { return fd_; }

 protected:
  File(Kind kind, int fd) : Object(kind), fd_(fd) {}
  ~File() override { close_fd(); }
  // The last user of a closed file runs this once; what the kernel object kept alive goes here.
  virtual void on_closed() {}
  void finish_close();

  static constexpr uint64_t kClosedBit = uint64_t{1} << 63;
  std::atomic<uint64_t> state_{0};

 private:
  void close_fd();
  int fd_;
  std::atomic<bool> finished_{false};
};

// Holds a file open for the length of a scope.
class Use {
 public:
  explicit Use(File& file) : file_(file), error_(file.acquire()) {}
  ~Use() {
    if (error_ == 0) file_.release_use();
  }
  Use(const Use&) = delete;
  Use& operator=(const Use&) = delete;
  Result error() const { return error_; }

 private:
  File& file_;
  Result error_;
};

}  // namespace node_kvm
