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
  return Ref<Region>::adopt(new Region(fd, std::move(mapping)));
}

Region::~Region() {
  // Accessors of JavaScript may still hold the address range (never hand it out, never use it after
  // their close): it stays valid, but empty, so the guest's RAM is given back now and not at a GC.
  mapping_->detach(0);
  ::close(fd_);
}

}  // namespace node_kvm
