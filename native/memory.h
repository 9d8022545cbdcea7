// Guest RAM: a region is one memfd mapping, or a guest_memfd with or without one. It lives while
// anybody uses it: a handle, a memory slot of a VM, or a view that JavaScript can reach.
#pragma once

#include "base.h"

namespace node_kvm {

class Region final : public Object {
 public:
  // Null with errno set when the kernel refuses (ENOMEM, EMFILE, ...).
  static Ref<Region> create(uint64_t size);
  // Takes over a guest_memfd. Unless `mapped`, it has no address: data() is null.
  static Ref<Region> adopt_guest_memfd(int fd, uint64_t size, bool mapped);

  uint64_t size() const { return size_; }
  uint8_t* data() const { return mapping_ ? mapping_->data() : nullptr; }
  // Its guest_memfd, or -1 when it is ordinary memory.
  int guest_memfd() const { return is_guest_memfd_ ? fd_ : -1; }
  // Gives the pages of a range back: they read as zeros afterwards.
  Result punch_hole(uint64_t offset, uint64_t length);
  const Ref<Mapping>& mapping() const { return mapping_; }
  // Nothing to do before the last user goes: the destructor gives the pages back.
  void close() override {}

 private:
  Region(int fd, uint64_t size, Ref<Mapping> mapping, bool is_guest_memfd)
      : Object(Kind::kRegion),
        fd_(fd),
        size_(size),
        is_guest_memfd_(is_guest_memfd),
        mapping_(std::move(mapping)) {}
  ~Region() override;
  int fd_;
  uint64_t size_;
  bool is_guest_memfd_;
  Ref<Mapping> mapping_;
};

}  // namespace node_kvm
