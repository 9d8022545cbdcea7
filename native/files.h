// Files that are not KVM's own: eventfds, statistics, and special files that requests refer to.
#pragma once

#include "base.h"

namespace node_kvm {

class PlainFile final : public File {
 public:
  // Both null with errno set when the kernel refuses.
  static Ref<PlainFile> open(const char* path, bool writable);
  static Ref<PlainFile> eventfd(uint32_t initial, bool semaphore);
  // A descriptor of our own for what the process has open there.
  static Ref<PlainFile> duplicate(int fd);
  // KVM_GET_STATS_FD of a VM or vCPU; an error, or 0 with `out` set.
  static Result stats(File& of, Ref<PlainFile>* out);

  // One call each; -EAGAIN where it would have to wait.
  Result read(uint8_t* data, size_t size);
  Result write(const uint8_t* data, size_t size);
  Result read_at(uint64_t offset, uint8_t* data, size_t size);
  // An eventfd: adds one. A full one has rung already, and a closed one has nobody to hear it.
  void ring();

 private:
  explicit PlainFile(int fd) : File(Kind::kFile, fd) {}
  ~PlainFile() override = default;
  static Ref<PlainFile> adopt(int fd);
};

}  // namespace node_kvm
