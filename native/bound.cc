#include "bound.h"

#include "convert.h"
#include "files.h"
#include "requests.h"

namespace node_kvm {
namespace {

napi_value number(napi_env env, Result result) {
  napi_value value = nullptr;
  // Faster than 64 bits; what ioctls and our refusals give is an int.
  napi_create_int32(env, static_cast<int32_t>(result), &value);
  return value;
}

ScopeMask scope_of(const Object& object) {
  switch (object.kind()) {
    case Kind::kSystem:
      return kScopeSystem;
    case Kind::kVm:
      return kScopeVm;
    case Kind::kVcpu:
      return kScopeVcpu;
    default:
      return kScopeDevice;
  }
}

size_t xsave2_size(const File& file) {
  return file.kind() == Kind::kVcpu ? static_cast<const Vcpu&>(file).xsave_size() : SIZE_MAX;
}

// An argument that is not a buffer means the environment's scratch memory (requests that take a
// struct) or the value itself.
Result call(napi_env env, File& file, const Request& request, napi_value argument) {
  unsigned long arg = 0;
  if (request.arg == ArgKind::kPointer) {
    void* data = nullptr;
    size_t length = 0;
    bool is_buffer = false;
    napi_is_arraybuffer(env, argument, &is_buffer);
    if (is_buffer) {
      napi_get_arraybuffer_info(env, argument, &data, &length);
    } else {
      data = env_data(env)->scratch;
      length = kScratchSize;
    }
    if (!fits(request, static_cast<uint8_t*>(data), length, xsave2_size(file))) {
      return kBufferTooSmall;
    }
    if (carries_pointer(request, static_cast<uint8_t*>(data))) return kUnknownRequest;
    arg = reinterpret_cast<unsigned long>(data);
  } else if (request.arg == ArgKind::kValue) {
    int64_t value = 0;
    napi_get_value_int64(env, argument, &value);
    arg = static_cast<unsigned long>(value);
  }
  Use use(file);
  if (use.error()) return use.error();
  if (file.kind() == Kind::kVm && waits_for_vcpus(request.number)) {
    Quiet quiet(*static_cast<Vm&>(file).slots());
    return quiet.error() ? quiet.error() : checked_ioctl(file.fd(), request.number, arg);
  }
  if (file.kind() == Kind::kVcpu && static_cast<Vcpu&>(file).would_deadlock(request.number)) {
    return kWouldDeadlock;
  }
  return checked_ioctl(file.fd(), request.number, arg);
}

// The request of this number, unless it needs more than a number and a struct without pointers.
inline const Request* find_plain(uint32_t given, ScopeMask scope) {
  const Request* request = find_request(given, scope);
  const bool is_plain = request != nullptr && request->number != kRun &&
                        (request->flags & (kHasPointers | kReturnsFd)) == 0;
  return is_plain ? request : nullptr;
}

Result call_by_number(napi_env env, File& file, uint32_t given, napi_value argument) {
  const Request* request = find_plain(given, scope_of(file));
  return request == nullptr ? kUnknownRequest : call(env, file, *request, argument);
}

napi_value bound_ioctl(napi_env env, napi_callback_info info) {
  size_t argc = 2;
  napi_value argv[2];
  void* data = nullptr;
  napi_get_cb_info(env, info, &argc, argv, nullptr, &data);
  uint32_t request = 0;
  napi_get_value_uint32(env, argv[0], &request);
  return number(env, call_by_number(env, *static_cast<File*>(data), request, argv[1]));
}

// Returns nothing for an exit (its fields are in the page), else why there is none.
napi_value bound_run(napi_env env, napi_callback_info info) {
  void* data = nullptr;
  napi_get_cb_info(env, info, nullptr, nullptr, nullptr, &data);
  auto& environment = *static_cast<Environment*>(data);
  // SAFETY: only a finalizer takes a vCPU out of the table, and none runs on this thread meanwhile.
  Vcpu* vcpu = environment.vcpus->at(*environment.chosen);
  Result result = vcpu == nullptr ? kClosed : vcpu->run(environment.tid);
  return result == 0 ? nullptr : number(env, result);
}

// The same for the vCPU chosen, with an argument.
napi_value bound_issue_with(napi_env env, napi_callback_info info) {
  size_t argc = 1;
  napi_value argument;
  void* data = nullptr;
  napi_get_cb_info(env, info, &argc, &argument, nullptr, &data);
  const auto& environment = *static_cast<Environment*>(data);
  // SAFETY: as in bound_run.
  Vcpu* vcpu = environment.vcpus->at(environment.chosen[0]);
  if (vcpu == nullptr) return number(env, kClosed);
  return number(env, call_by_number(env, *vcpu, environment.chosen[1], argument));
}

Result call(Vcpu& vcpu, uint32_t request, unsigned long argument) {
  return vcpu.call(request, argument);
}

inline Result call(Vm& vm, uint32_t request, unsigned long argument) {
  Use use(vm);
  if (use.error()) return use.error();
  if (waits_for_vcpus(request)) {
    Quiet quiet(*vm.slots());
    return quiet.error() ? quiet.error() : checked_ioctl(vm.fd(), request, argument);
  }
  return direct_ioctl(vm.fd(), request, argument);
}

template <typename T>
inline Result issue(T& file, const Environment& environment, ScopeMask scope) {
  const Request* request = find_plain(environment.chosen[1], scope);
  if (request == nullptr || request->number == kEnableCap) return kUnknownRequest;
  if (request->arg != ArgKind::kPointer) return call(file, request->number, 0);
  if (!fits(*request, environment.scratch, kScratchSize, xsave2_size(file))) {
    return kBufferTooSmall;
  }
  return call(file, request->number, reinterpret_cast<unsigned long>(environment.scratch));
}

// A request without an argument, or with one in the scratch memory. Returns nothing for 0.
napi_value bound_issue(napi_env env, napi_callback_info info) {
  void* data = nullptr;
  napi_get_cb_info(env, info, nullptr, nullptr, nullptr, &data);
  const auto& environment = *static_cast<Environment*>(data);
  // SAFETY: as in bound_run.
  Vcpu* vcpu = environment.vcpus->at(*environment.chosen);
  Result result = vcpu == nullptr ? kClosed : issue(*vcpu, environment, kScopeVcpu);
  return result == 0 ? nullptr : number(env, result);
}

napi_value bound_issue_vm(napi_env env, napi_callback_info info) {
  void* data = nullptr;
  napi_get_cb_info(env, info, nullptr, nullptr, nullptr, &data);
  const auto& environment = *static_cast<Environment*>(data);
  // SAFETY: as in bound_run.
  Vm* vm = environment.vms->at(*environment.chosen);
  Result result = vm == nullptr ? kClosed : issue(*vm, environment, kScopeVm);
  return result == 0 ? nullptr : number(env, result);
}

napi_value bound_kick(napi_env env, napi_callback_info info) {
  void* data = nullptr;
  napi_get_cb_info(env, info, nullptr, nullptr, nullptr, &data);
  const auto& environment = *static_cast<Environment*>(data);
  // SAFETY: as in bound_run.
  Vcpu* vcpu = environment.vcpus->at(environment.chosen[0]);
  if (vcpu != nullptr) vcpu->request(Vcpu::kKick);
  return nullptr;
}

// Adds to an eventfd's count.
napi_value bound_signal(napi_env env, napi_callback_info info) {
  size_t argc = 1;
  napi_value argument;
  void* data = nullptr;
  napi_get_cb_info(env, info, &argc, &argument, nullptr, &data);
  int64_t count = 0;
  napi_get_value_int64(env, argument, &count);
  Result result =
      static_cast<PlainFile*>(data)->write(reinterpret_cast<uint8_t*>(&count), sizeof count);
  return result >= 0 ? nullptr : number(env, result);
}

void bind(Napi::Env env, Napi::Object holder, const char* name, napi_callback callback,
          Object* object) {
  napi_value function = nullptr;
  if (napi_create_function(env, name, NAPI_AUTO_LENGTH, callback, object, &function) != napi_ok) {
    return;
  }
  // SAFETY: a function may outlive the holder it was read from, so it holds a reference of its own.
  object->retain();
  napi_status status = napi_add_finalizer(
      env, function, object,
      [](napi_env, void* data, void*) { static_cast<Object*>(data)->release(); }, nullptr, nullptr);
  if (status != napi_ok) {
    object->release();
    return;
  }
  holder.Set(name, Napi::Value(env, function));
}

// An object's place in a table of the environment that has this handle on it.
template <typename T>
struct Slot {
  Ref<HandleTable<T>> table;
  uint32_t index;
};

template <typename T>
void add_slot(Napi::Env env, Napi::Object holder, const Ref<HandleTable<T>>& table,
              Object* object) {
  auto* slot = new Slot<T>{table, table->add(Ref<T>(static_cast<T*>(object)))};
  const auto remove = [](napi_env, void* data, void*) {
    auto* slot = static_cast<Slot<T>*>(data);
    slot->table->remove(slot->index);
    delete slot;
  };
  if (napi_add_finalizer(env, holder, slot, remove, nullptr, nullptr) != napi_ok) {
    remove(env, slot, nullptr);
    return;
  }
  holder.Set("slot", Napi::Number::New(env, slot->index));
}

}  // namespace

void add_environment_functions(Napi::Env env, Napi::Object exports) {
  Environment& environment = *env_data(env);
  environment.tid = current_tid();
  environment.vcpus = Ref<HandleTable<Vcpu>>::adopt(new HandleTable<Vcpu>);
  environment.vms = Ref<HandleTable<Vm>>::adopt(new HandleTable<Vm>);
  const auto add = [&](const char* name, napi_callback callback) {
    napi_value function = nullptr;
    if (napi_create_function(env, name, NAPI_AUTO_LENGTH, callback, &environment, &function) ==
        napi_ok) {
      exports.Set(name, Napi::Value(env, function));
    }
  };
  add("run", bound_run);
  add("issue", bound_issue);
  add("issueVm", bound_issue_vm);
  add("issueWith", bound_issue_with);
  add("kick", bound_kick);
}

void add_bound_functions(Napi::Env env, Napi::Object holder, Object* object) {
  Environment& environment = *env_data(env);
  switch (object->kind()) {
    case Kind::kVcpu:
      add_slot(env, holder, environment.vcpus, object);
      return;
    case Kind::kVm:
      add_slot(env, holder, environment.vms, object);
      break;
    case Kind::kSystem:
    case Kind::kDevice:
      break;
    case Kind::kFile:
      bind(env, holder, "signal", bound_signal, object);
      return;
    default:
      return;
  }
  bind(env, holder, "ioctl", bound_ioctl, object);
}

}  // namespace node_kvm
