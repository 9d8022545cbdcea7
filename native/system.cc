#include "system.h"

#include <fcntl.h>

#include "kvm_numbers.h"

namespace node_kvm {

Ref<System> System::open(const char* path) {
  int fd = ::open(path, O_RDWR | O_CLOEXEC);
  if (fd < 0) return {};
  return Ref<System>::adopt(new System(fd));
}

Result System::vcpu_mmap_size() {
  Use use(*this);
  if (use.error()) return use.error();
  return checked_ioctl(fd(), kGetVcpuMmapSize, 0);
}

}  // namespace node_kvm
