// Guest RAM: a region is one memfd mapping. It lives while anybody uses it: a handle, a memory slot
// of a VM, or a view that JavaScript can reach.
#pragma once

#include "base.h"

namespace node_kvm {

class Region final : public Object {
 public:
  // Null with errno set when the kernel refuses (ENOMEM, EMFILE, ...).
  static Ref<Region> create(uint64_t size);

  uint64_t size() const { return mapping_->size(); }
  uint8_t* data() const { return mapping_->data(); }
  const Ref<Mapping>& mapping() const { return mapping_; }
  // Nothing to do before the last user goes: the destructor gives the pages back.
  void close() override {}

 private:
  Region(int fd, Ref<Mapping> mapping)
      : Object(Kind::kRegion), fd_(fd), mapping_(std::move(mapping)) {}
  ~Region() override;
  int fd_;
  Ref<Mapping> mapping_;
};

}  // namespace node_kvm
