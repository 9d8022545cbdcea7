#include "vm_api.h"

#include <algorithm>
#include <cstring>
#include <iterator>

#include "convert.h"
#include "encrypt.h"
#include "pointers.h"

namespace node_kvm {
namespace {

using Info = const Napi::CallbackInfo&;

// A new handle, or the negative Result that says why there is none.
template <typename T>
Napi::Value handle_or_error(Napi::Env env, const Ref<T>& object, Result error) {
  if (!object) return to_value(env, error);
  return wrap(env, Ref<Object>(static_cast<Object*>(object.get())));
}

RegionPart part(Arguments& args) {
  RegionPart part;
  part.region = args.object_or_null<Region>();
  part.offset = args.number();
  return part;
}

SlotRequest slot_request(Arguments& args) {
  SlotRequest request{};
  request.slot = args.u32();
  request.flags = args.u32();
  request.gpa = args.number();
  request.size = args.number();
  request.memory = part(args);
  return request;
}

Napi::Value set_user_memory_region(Info info) {
  Arguments args(info);
  auto* vm = args.object<Vm>();
  SlotRequest request = slot_request(args);
  if (!args.ok()) return {};
  return to_value(info.Env(), vm->set_user_memory_region(request));
}

Napi::Value set_user_memory_region2(Info info) {
  Arguments args(info);
  auto* vm = args.object<Vm>();
  SlotRequest request = slot_request(args);
  request.guest_memfd = part(args);
  if (!args.ok()) return {};
  return to_value(info.Env(), vm->set_user_memory_region2(request));
}

Napi::Value list_slots(Info info) {
  Arguments args(info);
  auto* vm = args.object<Vm>();
  uint32_t first = args.u32();
  auto [data, size] = args.bytes();
  if (!args.ok()) return {};
  // Not in place: the bytes need not be aligned.
  SlotInfo slots[64];
  Result count = vm->list_slots(first, slots, std::min(size / sizeof(SlotInfo), std::size(slots)));
  if (count > 0) std::memcpy(data, slots, static_cast<size_t>(count) * sizeof(SlotInfo));
  return to_value(info.Env(), count);
}

Napi::Value change_slot(Info info) {
  Arguments args(info);
  auto* vm = args.object<Vm>();
  uint32_t slot = args.u32();
  uint32_t flags = args.u32();
  uint64_t gpa = args.number();
  if (!args.ok()) return {};
  return to_value(info.Env(), vm->change_slot(slot, flags, gpa));
}

Napi::Value get_dirty_log(Info info) {
  Arguments args(info);
  auto* vm = args.object<Vm>();
  uint32_t slot = args.u32();
  auto [data, size] = args.bytes();
  if (!args.ok()) return {};
  return to_value(info.Env(), vm->get_dirty_log(slot, data, size));
}

Napi::Value map_dirty_ring(Info info) {
  Arguments args(info);
  auto* vm = args.object<Vm>();
  auto* vcpu = args.object<Vcpu>();
  uint64_t size = args.number();
  if (!args.ok()) return {};
  Ref<Mapping> ring;
  Result result = vm->map_dirty_ring(*vcpu, size, &ring);
  if (!ring) return to_value(info.Env(), result);
  return external_buffer(info.Env(), ring, 0, size, {});
}

Napi::Value create_guest_memfd(Info info) {
  Arguments args(info);
  auto* vm = args.object<Vm>();
  uint64_t size = args.number();
  uint64_t flags = args.number();
  if (!args.ok()) return {};
  Ref<Region> region;
  Result result = vm->create_guest_memfd(size, flags, &region);
  return handle_or_error(info.Env(), region, result);
}

Napi::Value punch_hole(Info info) {
  Arguments args(info);
  auto* region = args.object<Region>();
  uint64_t offset = args.number();
  uint64_t length = args.number();
  if (!args.ok()) return {};
  return to_value(info.Env(), region->punch_hole(offset, length));
}

Napi::Value xen_hvm_config(Info info) {
  Arguments args(info);
  auto* vm = args.object<Vm>();
  uint32_t flags = args.u32();
  uint32_t msr = args.u32();
  auto blob32 = args.bytes();
  auto blob64 = args.bytes();
  if (!args.ok()) return {};
  return to_value(info.Env(), vm->xen_hvm_config(flags, msr, blob32, blob64));
}

Napi::Value set_xen_shared_info(Info info) {
  Arguments args(info);
  auto* vm = args.object<Vm>();
  RegionPart page = part(args);
  if (!args.ok()) return {};
  return to_value(info.Env(), vm->set_xen_shared_info(page));
}

Napi::Value encrypted_region(Info info) {
  Arguments args(info);
  auto* vm = args.object<Vm>();
  bool add = args.number(1) != 0;
  RegionPart memory = part(args);
  uint64_t size = args.number();
  if (!args.ok()) return {};
  return to_value(info.Env(), add ? vm->register_encrypted(memory, size)
                                  : vm->unregister_encrypted(memory, size));
}

Napi::Value pointer_request(Info info) {
  Arguments args(info);
  File* file = args.file();
  uint32_t request = args.u32();
  auto [data, size] = args.bytes();
  Attachments attachments;
  if (!args.ok() || !attachments.parse(info.Env(), args.value())) return {};
  return to_value(info.Env(), pointer_ioctl(*file, request, data, size, attachments));
}

// Gives the firmware's own error code in the first word of the scratch memory.
Napi::Value memory_encrypt_op(Info info) {
  Arguments args(info);
  File* file = args.file();
  EncryptRequest request;
  request.tdx = args.number(1) != 0;
  request.command = args.u32();
  request.flags = args.u32();
  std::tie(request.data, request.size) = args.bytes();
  if (!args.ok() || !request.attachments.parse(info.Env(), args.value())) return {};
  request.firmware = args.object_or_null<PlainFile>();
  if (!args.ok()) return {};
  Result result = memory_encrypt_op(*file, request);
  std::memcpy(env_data(info.Env())->scratch, &request.hardware_error, sizeof(uint64_t));
  return to_value(info.Env(), result);
}

// KVM_ENABLE_CAP for a capability whose first argument is a file.
Napi::Value enable_cap_file(Info info) {
  Arguments args(info);
  File* file = args.file();
  uint32_t capability = args.u32();
  File* argument = args.file();
  if (!args.ok()) return {};
  return to_value(info.Env(), enable_cap_file(*file, capability, *argument));
}

Napi::Value create_device(Info info) {
  Arguments args(info);
  auto* vm = args.object<Vm>();
  uint32_t type = args.u32();
  uint32_t flags = args.u32();
  if (!args.ok()) return {};
  Ref<Device> device;
  Result result = Device::create(*vm, type, flags, &device);
  return handle_or_error(info.Env(), device, result);
}

Napi::Value get_device_attribute(Info info) {
  Arguments args(info);
  File* file = args.file();
  uint32_t group = args.u32();
  uint64_t attr = args.number();
  auto [data, size] = args.bytes();
  if (!args.ok()) return {};
  return to_value(info.Env(), get_device_attr(*file, group, attr, data, size));
}

Napi::Value set_device_attribute(Info info) {
  Arguments args(info);
  File* file = args.file();
  uint32_t group = args.u32();
  uint64_t attr = args.number();
  Napi::Value value = args.value();
  if (!args.ok()) return {};
  if (File* referred = file_of(info.Env(), value)) {
    return to_value(info.Env(), set_device_attr_file(*file, group, attr, *referred));
  }
  uint8_t* data = nullptr;
  size_t size = 0;
  if (!bytes_of(value, &data, &size)) return to_value(info.Env(), -EINVAL);
  return to_value(info.Env(), set_device_attr(*file, group, attr, data, size));
}

Napi::Value open_file(Info info) {
  Arguments args(info);
  std::string path = args.string();
  bool writable = args.number(1) != 0;
  if (!args.ok()) return {};
  Ref<PlainFile> file = PlainFile::open(path.c_str(), writable);
  return handle_or_error(info.Env(), file, -errno);
}

Napi::Value create_eventfd(Info info) {
  Arguments args(info);
  uint32_t initial = args.u32();
  bool semaphore = args.number(1) != 0;
  if (!args.ok()) return {};
  Ref<PlainFile> file = PlainFile::eventfd(initial, semaphore);
  return handle_or_error(info.Env(), file, -errno);
}

Napi::Value stats_file(Info info) {
  Arguments args(info);
  File* of = args.file();
  if (!args.ok()) return {};
  Ref<PlainFile> file;
  Result result = PlainFile::stats(*of, &file);
  return handle_or_error(info.Env(), file, result);
}

Napi::Value read_file(Info info) {
  Arguments args(info);
  auto* file = args.object<PlainFile>();
  auto [data, size] = args.bytes();
  if (!args.ok()) return {};
  return to_value(info.Env(), file->read(data, size));
}

Napi::Value read_file_at(Info info) {
  Arguments args(info);
  auto* file = args.object<PlainFile>();
  uint64_t offset = args.number();
  auto [data, size] = args.bytes();
  if (!args.ok()) return {};
  return to_value(info.Env(), file->read_at(offset, data, size));
}

}  // namespace

void add_vm_functions(Napi::Env env, Napi::Object exports) {
  const auto add = [&](const char* name, Napi::Value (*function)(Info)) {
    exports.Set(name, Napi::Function::New(env, function, name));
  };
  add("setUserMemoryRegion", set_user_memory_region);
  add("setUserMemoryRegion2", set_user_memory_region2);
  add("listSlots", list_slots);
  add("changeSlot", change_slot);
  add("getDirtyLog", get_dirty_log);
  add("mapDirtyRing", map_dirty_ring);
  add("createGuestMemfd", create_guest_memfd);
  add("punchHole", punch_hole);
  add("xenHvmConfig", xen_hvm_config);
  add("setXenSharedInfo", set_xen_shared_info);
  add("encryptedRegion", encrypted_region);
  add("pointerRequest", pointer_request);
  add("memoryEncryptOp", memory_encrypt_op);
  add("enableCapFile", enable_cap_file);
  add("createDevice", create_device);
  add("getDeviceAttr", get_device_attribute);
  add("setDeviceAttr", set_device_attribute);
  add("openFile", open_file);
  add("createEventFd", create_eventfd);
  add("statsFile", stats_file);
  add("readFile", read_file);
  add("readFileAt", read_file_at);
}

}  // namespace node_kvm
