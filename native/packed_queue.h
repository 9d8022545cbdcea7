// The device's side of a packed virtqueue (virtio 1.2, §2.8).
#pragma once

#include "virtqueue.h"

namespace node_kvm {

class PackedQueue final : public Virtqueue {
 public:
  static std::unique_ptr<Virtqueue> create(const Ref<GuestRam>& ram, const QueueSetup& setup);

  void show() override;
  bool needs_interrupt() override;
  bool enable_notifications() override;
  void disable_notifications() override;

 private:
  // A place in the ring, and the side's wrap counter there.
  struct Place {
    uint16_t index = 0;
    bool wrap = true;
    void advance(uint16_t count, uint16_t size) {
      uint32_t next = uint32_t{index} + count;
      if (next >= size) {
        next -= size;
        wrap = !wrap;
      }
      index = static_cast<uint16_t>(next);
    }
  };
  using Virtqueue::Virtqueue;
  Pop take(Chain* chain) override;
  void put(const Used& used) override;
  bool is_available() const;
  bool collect(Chain* chain) const;
  bool collect_indirect(const Descriptor& descriptor, Chain* chain) const;
  Descriptor read(const uint8_t* at) const;

  Place next_;
  Place used_;
  uint8_t* first_held_ = nullptr;  // flags of the first descriptor put since hold()
  uint16_t first_flags_ = 0;
  uint32_t moved_ = 0;  // slots given back since the last needs_interrupt()
};

}  // namespace node_kvm
