#include "memory.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

namespace node_kvm {

Ref<Region> Region::create(uint64_t size) {
  int fd = ::memfd_create("node-kvm guest memory", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  if (fd < 0) return {};
  // Sealed in size: nobody who gets hold of the fd can truncate it and turn an access into SIGBUS.
  bool sized = ::ftruncate(fd, static_cast<off_t>(size)) == 0 &&
               ::fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) == 0;
  Ref<Mapping> mapping;
  if (sized) {
    mapping = Mapping::map(fd, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE);
  }
  if (!mapping) {
    int error = errno;
    ::close(fd);
    errno = error;
    return {};
  }
  return Ref<Region>::adopt(new Region(fd, size, std::move(mapping), false));
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
  return Ref<Region>::adopt(new Region(fd, size, std::move(mapping), true));
}

Result Region::punch_hole(uint64_t offset, uint64_t length) {
  return or_errno(::fallocate(fd_, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                              static_cast<off_t>(offset), static_cast<off_t>(length)));
}

Region::~Region() {
  // Accessors of JavaScript may still hold the address range (never hand it out, never use it after
  // their close): it stays valid, but empty, so the guest's RAM is given back now and not at a GC.
  if (mapping_) mapping_->detach(0);
  ::close(fd_);
}

}  // namespace node_kvm
