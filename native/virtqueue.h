// The device's side of a virtqueue (virtio 1.2, §2.7 and §2.8), in native code. The driver is the
// guest, so nothing it writes is believed: each field is read once, and checked before it is used.
// What it must not do makes the queue broken, and nothing worse. Knows no Node.
#pragma once

#include <deque>
#include <memory>

#include "guest_ram.h"

namespace node_kvm {

// Where the driver has put a queue, and what was negotiated.
struct QueueSetup {
  uint16_t size = 0;
  bool packed = false;       // VIRTIO_F_RING_PACKED
  bool event_index = false;  // VIRTIO_F_EVENT_IDX
  bool indirect = false;     // VIRTIO_F_INDIRECT_DESC
  bool in_order = false;     // VIRTIO_F_IN_ORDER
  uint64_t descriptors = 0;  // guest-physical: Descriptor Table or Ring
  uint64_t driver = 0;       // Available Ring, or Driver Event Suppression
  uint64_t device = 0;       // Used Ring, or Device Event Suppression
};

// A buffer of the driver's, in the parts that it has in this process. To be used again for the next
// one, so that no buffer costs an allocation.
struct Chain {
  uint16_t id = 0;
  uint16_t slots = 0;    // places in the queue that it takes
  uint32_t entries = 0;  // descriptors, in tables too
  size_t readable = 0;   // parts: so many for the device to read, then those to write
  uint32_t readable_bytes = 0;
  uint32_t writable_bytes = 0;
  std::vector<iovec> parts;

  const iovec* writable() const { return parts.data() + readable; }
  size_t writable_count() const { return parts.size() - readable; }
};

// THREAD: one at a time.
class Virtqueue {
 public:
  enum class Pop { kChain, kEmpty, kBroken };
  // The most descriptors and parts that a chain can have: as many as one readv takes (IOV_MAX).
  // Drivers of small queues send indirect ones that are longer than the queue.
  static constexpr size_t kMostParts = 1024;

  // Null for a size that no queue has, and for rings outside RAM or not aligned.
  static std::unique_ptr<Virtqueue> create(const Ref<GuestRam>& ram, const QueueSetup& setup);
  virtual ~Virtqueue() = default;
  Virtqueue(const Virtqueue&) = delete;
  Virtqueue& operator=(const Virtqueue&) = delete;

  // The next buffer that the driver has made available. A broken queue stays broken.
  Pop pop(Chain* chain);
  // Gives a buffer back, after so many bytes were written to its start. With VIRTIO_F_IN_ORDER the
  // driver sees it when all that were popped before are back.
  void push(const Chain& chain, uint32_t written);
  // From here to show(), the driver sees nothing of what is pushed, and then all of it at once.
  void hold() { held_ = true; }
  virtual void show() = 0;
  // Whether the driver wants an interrupt for what was pushed since the last call.
  virtual bool needs_interrupt() = 0;
  // Asks the driver for a notification of the next buffer. True when there is one already, and so
  // perhaps no notification.
  virtual bool enable_notifications() = 0;
  // From the driver's next look on, it need not notify.
  virtual void disable_notifications() = 0;
  uint16_t size() const { return setup_.size; }
  // Places that no buffer out takes: what the driver can still make available.
  uint32_t free_slots() const { return setup_.size - slots_out_; }

 protected:
  struct Descriptor {
    uint64_t gpa;
    uint32_t length;
    uint16_t flags;
    uint16_t number;  // the next one's, or of a packed ring the buffer's
  };
  static constexpr uint16_t kNext = 1;      // VIRTQ_DESC_F_NEXT
  static constexpr uint16_t kWrite = 2;     // VIRTQ_DESC_F_WRITE
  static constexpr uint16_t kIndirect = 4;  // VIRTQ_DESC_F_INDIRECT
  static constexpr size_t kDescriptorSize = 16;

  Virtqueue(const Ref<GuestRam>& ram, const QueueSetup& setup) : ram_(ram), setup_(setup) {}
  // What the driver knows a buffer by.
  struct Used {
    uint16_t id;
    uint16_t slots;
    uint32_t written;
  };
  virtual Pop take(Chain* chain) = 0;
  virtual void put(const Used& used) = 0;
  bool add(const Descriptor& descriptor, Chain* chain) const;
  // The table that a descriptor refers to, and how many entries it has; null when it must not.
  const uint8_t* indirect_table(const Descriptor& descriptor, uint32_t* entries) const;
  // Finds the rings of the setup; false when one is not where it can be.
  bool find_rings(size_t driver_size, size_t driver_alignment, size_t device_size,
                  size_t device_alignment);

  Ref<GuestRam> ram_;
  QueueSetup setup_;
  uint8_t* descriptors_ = nullptr;
  uint8_t* driver_ = nullptr;
  uint8_t* device_ = nullptr;
  bool held_ = false;

 private:
  struct Out {
    Used used;
    bool back;
  };
  bool broken_ = false;
  uint32_t slots_out_ = 0;
  std::deque<Out> order_;  // of what is out, with VIRTIO_F_IN_ORDER
};

}  // namespace node_kvm
