#include "device.h"

#include <cstring>

#include "kvm_numbers.h"

namespace node_kvm {
namespace {

constexpr uint32_t kTestOnly = 1;  // KVM_CREATE_DEVICE_TEST

Result attribute(File& file, unsigned long request, uint32_t group, uint64_t attr, void* value) {
  Use use(file);
  if (use.error()) return use.error();
  DeviceAttr argument{0, group, attr, reinterpret_cast<uint64_t>(value)};
  return checked_ioctl(file.fd(), request, reinterpret_cast<unsigned long>(&argument));
}

}  // namespace

Result Device::create(Vm& vm, uint32_t type, uint32_t flags, Ref<Device>* out) {
  Use use(vm);
  if (use.error()) return use.error();
  CreateDevice argument{type, 0, flags};
  Result result = checked_ioctl(vm.fd(), kCreateDevice, reinterpret_cast<unsigned long>(&argument));
  if (result < 0 || (flags & kTestOnly)) return result;
  *out = Ref<Device>::adopt(new Device(static_cast<int>(argument.fd), vm.slots()));
  return 0;
}

Result get_device_attr(File& file, uint32_t group, uint64_t attr, uint8_t* out, size_t size) {
  if (size > kMaxAttribute) return kBufferTooSmall;
  alignas(8) uint8_t value[kMaxAttribute] = {};
  Result result = attribute(file, kGetDeviceAttr, group, attr, value);
  if (result >= 0) std::memcpy(out, value, size);
  return result;
}

Result set_device_attr(File& file, uint32_t group, uint64_t attr, const uint8_t* value,
                       size_t size) {
  if (size > kMaxAttribute) return kBufferTooSmall;
  alignas(8) uint8_t copy[kMaxAttribute] = {};
  std::memcpy(copy, value, size);
  return attribute(file, kSetDeviceAttr, group, attr, copy);
}

Result set_device_attr_file(File& file, uint32_t group, uint64_t attr, File& value) {
  Use use(value);
  if (use.error()) return use.error();
  int32_t fd = value.fd();
  alignas(8) uint8_t copy[kMaxAttribute] = {};
  std::memcpy(copy, &fd, sizeof(fd));
  return attribute(file, kSetDeviceAttr, group, attr, copy);
}

}  // namespace node_kvm
