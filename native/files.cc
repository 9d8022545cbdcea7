#include "files.h"

#include <fcntl.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "kvm_numbers.h"

namespace node_kvm {

Ref<PlainFile> PlainFile::adopt(int fd) {
  if (fd < 0) return {};
  return Ref<PlainFile>::adopt(new PlainFile(fd));
}

Ref<PlainFile> PlainFile::open(const char* path, bool writable) {
  return adopt(::open(path, (writable ? O_RDWR : O_RDONLY) | O_CLOEXEC));
}

Ref<PlainFile> PlainFile::eventfd(uint32_t initial, bool semaphore) {
  return adopt(::eventfd(initial, EFD_CLOEXEC | EFD_NONBLOCK | (semaphore ? EFD_SEMAPHORE : 0)));
}

Ref<PlainFile> PlainFile::duplicate(int fd) { return adopt(::fcntl(fd, F_DUPFD_CLOEXEC, 0)); }

Result PlainFile::stats(File& of, Ref<PlainFile>* out) {
  Use use(of);
  if (use.error()) return use.error();
  Result fd = checked_ioctl(of.fd(), kGetStatsFd, 0);
  if (fd < 0) return fd;
  *out = adopt(static_cast<int>(fd));
  return 0;
}

Result PlainFile::read(uint8_t* data, size_t size) {
  Use use(*this);
  if (use.error()) return use.error();
  return or_errno(::read(fd(), data, size));
}

Result PlainFile::write(const uint8_t* data, size_t size) {
  Use use(*this);
  if (use.error()) return use.error();
  return or_errno(::write(fd(), data, size));
}

void PlainFile::ring() {
  const uint64_t one = 1;
  static_cast<void>(write(reinterpret_cast<const uint8_t*>(&one), sizeof(one)));
}

Result PlainFile::read_at(uint64_t offset, uint8_t* data, size_t size) {
  Use use(*this);
  if (use.error()) return use.error();
  return or_errno(::pread(fd(), data, size, static_cast<off_t>(offset)));
}

}  // namespace node_kvm
