// The device's side of a split virtqueue (virtio 1.2, §2.7).
#pragma once

#include "virtqueue.h"

namespace node_kvm {

class SplitQueue final : public Virtqueue {
 public:
  static std::unique_ptr<Virtqueue> create(const Ref<GuestRam>& ram, const QueueSetup& setup);

  void show() override;
  bool needs_interrupt() override;
  bool enable_notifications() override;
  void disable_notifications() override;

 private:
  using Virtqueue::Virtqueue;
  Pop take(Chain* chain) override;
  void put(const Used& used) override;
  bool collect(uint16_t head, Chain* chain) const;
  bool collect_list(const uint8_t* table, uint32_t entries, uint16_t index, Chain* chain,
                    Descriptor* last) const;
  uint16_t available() const;

  uint16_t next_ = 0;         // of the Available Ring
  uint16_t used_ = 0;         // of the Used Ring
  uint16_t interrupted_ = 0;  // where `used_` was at the last needs_interrupt()
};

}  // namespace node_kvm
