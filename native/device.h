// Devices that live in the kernel, and the attributes of them and of other files.
#pragma once

#include "files.h"
#include "vm.h"

namespace node_kvm {

class Device final : public File {
 public:
  // KVM_CREATE_DEVICE; with the flag that only tests, `out` stays null.
  static Result create(Vm& vm, uint32_t type, uint32_t flags, Ref<Device>* out);

 private:
  Device(int fd, Ref<SlotTable> slots) : File(Kind::kDevice, fd), slots_(std::move(slots)) {}
  ~Device() override = default;
  void on_closed() override { slots_.reset(); }
  // A device keeps the kernel's VM alive, so the VM's RAM too.
  Ref<SlotTable> slots_;
};

// Longest value of an attribute. The kernel alone knows how long each is: a shorter one is copied
// into this much room first.
constexpr size_t kMaxAttribute = 4096;

// KVM_GET_DEVICE_ATTR and KVM_SET_DEVICE_ATTR of any file that has them.
Result get_device_attr(File& file, uint32_t group, uint64_t attr, uint8_t* out, size_t size);
Result set_device_attr(File& file, uint32_t group, uint64_t attr, const uint8_t* value,
                       size_t size);
// The same where the value is a file.
Result set_device_attr_file(File& file, uint32_t group, uint64_t attr, File& value);

}  // namespace node_kvm
