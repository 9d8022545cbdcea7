// What src/binding.ts declares: the cold functions, as thin as can be. Each takes handles and
// numbers, calls one native function and gives its Result.
#include <napi.h>
#include <sys/mman.h>

#include "block_api.h"
#include "bound.h"
#include "convert.h"
#include "dirty_pages_api.h"
#include "eventfd_watch.h"
#include "exit_table_api.h"
#include "memory_api.h"
#include "net_api.h"
#include "thread_api.h"
#include "userfault_api.h"
#include "vcpu_api.h"
#include "virtqueue_api.h"
#include "vm_api.h"

namespace node_kvm {
namespace {

using Info = const Napi::CallbackInfo&;

// A new handle, or the negative Result that says why there is none.
template <typename T>
Napi::Value handle_or_error(Napi::Env env, Ref<T> object, Result error) {
  if (!object) return to_value(env, error);
  object->retain();
  return wrap(env, Ref<Object>::adopt(object.get()));
}

Napi::Value open_system(Info info) {
  Arguments args(info);
  std::string path = args.string();
  if (!args.ok()) return {};
  Ref<System> system = System::open(path.c_str());
  return handle_or_error(info.Env(), system, -errno);
}

Napi::Value create_vm(Info info) {
  Arguments args(info);
  auto* system = args.object<System>();
  uint64_t type = args.number();
  if (!args.ok()) return {};
  Ref<Vm> vm;
  Result result = Vm::create(*system, type, &vm);
  return handle_or_error(info.Env(), vm, result);
}

Napi::Value create_vcpu(Info info) {
  Arguments args(info);
  auto* vm = args.object<Vm>();
  uint32_t vcpu_id = args.u32();
  if (!args.ok()) return {};
  Ref<Vcpu> vcpu;
  Result result = Vcpu::create(*vm, vcpu_id, &vcpu);
  return handle_or_error(info.Env(), vcpu, result);
}

// A buffer over part of a region. `shared` ones may reach users, so the region's RAM lives as long
// as they do; the others belong to GuestMemory, which stops using them when it is closed.
Napi::Value region_buffer(Info info) {
  Arguments args(info);
  auto* region = args.object<Region>();
  uint64_t offset = args.number();
  uint64_t length = args.number();
  bool shared = args.number(1) != 0;
  if (!args.ok()) return {};
  if (!region->mapping()) return to_value(info.Env(), -EACCES);
  return external_buffer(info.Env(), region->mapping(), offset, length,
                         shared ? Ref<Object>(region) : Ref<Object>());
}

Napi::Value run_page(Info info) {
  Arguments args(info);
  auto* vcpu = args.object<Vcpu>();
  if (!args.ok()) return {};
  const Ref<Mapping>& page = vcpu->run_page();
  return external_buffer(info.Env(), page, 0, page->size(), {});
}

Napi::Value close(Info info) {
  Arguments args(info);
  Object* object = args.any_object();
  if (!args.ok()) return {};
  object->close();
  // These live by their references alone: the handle's goes now and not at a GC.
  Kind kind = object->kind();
  bool is_counted = kind == Kind::kRegion || kind == Kind::kGuestRam || kind == Kind::kDisk;
  void* released = nullptr;
  if (is_counted && napi_remove_wrap(info.Env(), info[0], &released) == napi_ok) {
    object->release();
  }
  return info.Env().Undefined();
}

Napi::Value set_deadline(Info info) {
  Arguments args(info);
  auto* vcpu = args.object<Vcpu>();
  uint64_t nanoseconds = args.number();
  if (args.ok()) vcpu->set_deadline(static_cast<int64_t>(nanoseconds));
  return info.Env().Undefined();
}

// Any request with any argument: what the table would refuse goes through here, at the caller's
// risk.
Napi::Value unsafe_ioctl(Info info) {
  Arguments args(info);
  auto* object = args.any_object();
  uint64_t request = args.number(UINT32_MAX);
  if (!args.ok()) return {};
  if (!is_file(object->kind())) return {};
  auto& file = static_cast<File&>(*object);
  unsigned long argument = 0;
  Napi::Value given = info[2];
  if (given.IsArrayBuffer()) {
    argument = reinterpret_cast<unsigned long>(given.As<Napi::ArrayBuffer>().Data());
  } else if (given.IsNumber()) {
    argument = static_cast<unsigned long>(given.As<Napi::Number>().Int64Value());
  }
  Use use(file);
  if (use.error()) return to_value(info.Env(), use.error());
  return to_value(info.Env(), checked_ioctl(file.fd(), request, argument));
}

Napi::Value object_id(Info info) {
  Arguments args(info);
  Object* object = args.any_object();
  if (!args.ok()) return {};
  return to_value(info.Env(), static_cast<Result>(object->id()));
}

// A handle, in this environment, on the live object that another environment knows by this number.
Napi::Value find_object(Info info) {
  Arguments args(info);
  uint64_t id = args.number();
  uint64_t kind = args.number(UINT8_MAX);
  if (!args.ok()) return {};
  Ref<Object> object = Object::find(id);
  if (!object || object->kind() != static_cast<Kind>(kind)) return info.Env().Null();
  return wrap(info.Env(), std::move(object));
}

// SAFETY: the memory is ours and not V8's: whoever detaches the buffers blinds JavaScript, but what
// native code reads and writes stays mapped.
bool share_memory(Napi::Env env, Environment& environment, Napi::Object exports) {
  constexpr size_t kChosenSize = kChosenWords * sizeof(uint32_t);
  Ref<Mapping> memory = Mapping::map(-1, kScratchSize + kChosenSize, PROT_READ | PROT_WRITE,
                                     MAP_PRIVATE | MAP_ANONYMOUS);
  if (!memory) {
    Napi::Error::New(env, "out of memory").ThrowAsJavaScriptException();
    return false;
  }
  environment.scratch = memory->data();
  environment.chosen = reinterpret_cast<const uint32_t*>(memory->data() + kScratchSize);
  Napi::Value scratch = external_buffer(env, memory, 0, kScratchSize, {});
  Napi::Value chosen = external_buffer(env, memory, kScratchSize, kChosenSize, {});
  if (env.IsExceptionPending()) return false;
  exports.Set("scratch", scratch);
  exports.Set("chosen",
              Napi::Uint32Array::New(env, kChosenWords, chosen.As<Napi::ArrayBuffer>(), 0));
  environment.memory = std::move(memory);
  return true;
}

Napi::Object initialize(Napi::Env env, Napi::Object exports) {
  auto* environment = new Environment;
  env.SetInstanceData(environment);
  if (!share_memory(env, *environment, exports)) return exports;
  add_environment_functions(env, exports);
  const auto add = [&](const char* name, Napi::Value (*function)(Info)) {
    exports.Set(name, Napi::Function::New(env, function, name));
  };
  add("openSystem", open_system);
  add("createVm", create_vm);
  add("createVcpu", create_vcpu);
  add_vm_functions(env, exports);
  add_memory_functions(env, exports);
  add_dirty_page_functions(env, exports);
  add_userfault_functions(env, exports);
  add_vcpu_functions(env, exports);
  add_eventfd_functions(env, exports);
  add_net_functions(env, exports);
  add("regionBuffer", region_buffer);
  add("runPage", run_page);
  add("close", close);
  add("setDeadline", set_deadline);
  add("unsafeIoctl", unsafe_ioctl);
  add("objectId", object_id);
  add("findObject", find_object);
  add_thread_functions(env, exports);
  add_exit_table_functions(env, exports);
  add_virtqueue_functions(env, exports);
  add_block_functions(env, exports);
  return exports;
}

}  // namespace
}  // namespace node_kvm

static Napi::Object InitializeAddon(Napi::Env env, Napi::Object exports) {
  return node_kvm::initialize(env, exports);
}
NODE_API_MODULE(node_kvm, InitializeAddon)
