// The /dev/kvm file.
#pragma once

#include "base.h"

namespace node_kvm {

class System final : public File {
 public:
  // Null with errno set (ENOENT, EACCES, ...).
  static Ref<System> open(const char* path);
  Result vcpu_mmap_size();

 private:
  explicit System(int fd) : File(Kind::kSystem, fd) {}
  ~System() override = default;
};

}  // namespace node_kvm
