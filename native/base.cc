#include "base.h"

#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstring>
#include <mutex>
#include <unordered_map>
#include <vector>

namespace node_kvm {

Result checked_ioctl(int fd, unsigned long request, unsigned long arg) {
  return or_errno(::ioctl(fd, request, arg));
}

bool RefCounted::try_retain() {
  uint32_t refs = refs_.load(std::memory_order_relaxed);
  while (refs != 0) {
    if (refs_.compare_exchange_weak(refs, refs + 1, std::memory_order_acquire)) return true;
  }
  return false;
}

Ref<Mapping> Mapping::map(int fd, size_t size, int protection, int flags, uint64_t offset) {
  void* data = ::mmap(nullptr, size, protection, flags, fd, static_cast<off_t>(offset));
  if (data == MAP_FAILED) return {};
  return Ref<Mapping>::adopt(new Mapping(static_cast<uint8_t*>(data), size));
}

void Mapping::detach(size_t keep) {
  std::vector<uint8_t> kept(data_, data_ + (keep < size_ ? keep : size_));
  void* data = ::mmap(data_, size_, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
  if (data != MAP_FAILED && !kept.empty()) std::memcpy(data_, kept.data(), kept.size());
}

Mapping::~Mapping() { ::munmap(data_, size_); }

namespace {
// Leaked on purpose: environments may still be torn down while the process exits.
struct Registry {
  std::mutex mutex;
  std::unordered_map<uint64_t, Object*> objects;
  uint64_t last_id = 0;
};
Registry& registry() {
  static Registry* instance = new Registry;
  return *instance;
}
}  // namespace

Object::Object(Kind kind) : kind_(kind) {
  Registry& all = registry();
  std::lock_guard<std::mutex> lock(all.mutex);
  id_ = ++all.last_id;
  all.objects.emplace(id_, this);
}

Object::~Object() {
  Registry& all = registry();
  std::lock_guard<std::mutex> lock(all.mutex);
  all.objects.erase(id_);
}

Ref<Object> Object::find(uint64_t id) {
  Registry& all = registry();
  std::lock_guard<std::mutex> lock(all.mutex);
  auto found = all.objects.find(id);
  // An object at count zero is waiting for this very mutex in its destructor: leave it alone.
  if (found == all.objects.end() || !found->second->try_retain()) return {};
  return Ref<Object>::adopt(found->second);
}

Result File::acquire() {
  if (state_.fetch_add(1, std::memory_order_acquire) & kClosedBit) {
    release_use();
    return kClosed;
  }
  return 0;
}

void File::release_use() {
  if (state_.fetch_sub(1, std::memory_order_acq_rel) == (kClosedBit | 1)) finish_close();
}

void File::close() {
  if (state_.fetch_or(kClosedBit, std::memory_order_acq_rel) == 0) finish_close();
}

void File::finish_close() {
  if (finished_.exchange(true)) return;
  close_fd();
  on_closed();
}

void File::close_fd() {
  if (fd_ >= 0) ::close(fd_);
  fd_ = -1;
}

}  // namespace node_kvm
