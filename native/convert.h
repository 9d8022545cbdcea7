// The only place that checks JavaScript arguments and builds JavaScript values from native ones.
#pragma once

#include <napi.h>
#include <uv.h>

#include <string>
#include <unordered_map>
#include <unordered_set>

#include "device.h"
#include "files.h"
#include "guest_ram.h"
#include "handle_table.h"
#include "memory.h"
#include "run_loop.h"
#include "userfault.h"
#include "vcpu.h"
#include "vm.h"

namespace node_kvm {

class EventWatch;

// What one environment (the main thread's or a Worker's) owns.
struct Environment {
  Ref<Mapping> memory;         // of the next and of `chosen`
  uint8_t* scratch = nullptr;  // where src/core encodes an ioctl's argument, see src/binding.ts
  pid_t tid = 0;               // its thread
  Ref<HandleTable<Vcpu>> vcpus;
  Ref<HandleTable<Vm>> vms;
  const uint32_t* chosen = nullptr;  // which of these, and the request; JavaScript writes it
  Napi::FunctionReference dispatch;
  Ref<ExitQueue> exits;
  uv_async_t* async = nullptr;  // wakes this environment for what `exits` holds
  napi_async_cleanup_hook_handle cleanup = nullptr;
  uint32_t last_watch = 0;
  std::unordered_map<uint32_t, EventWatch*> watches;  // of eventfds, by the number JavaScript has
  std::unordered_set<uint32_t> relays;                // of eventfds, likewise
  std::unordered_set<Userfault*> userfaults;          // not closed; each holds a reference
  std::unordered_set<Object*> services;               // see services.h; each holds a reference
  bool has_services = false;
  std::unordered_set<VcpuThread*> threads;  // started and not yet joined; each holds a reference
};
constexpr size_t kScratchSize = 64 * 1024;
constexpr size_t kChosenWords = 2;

inline Environment* env_data(napi_env env) { return Napi::Env(env).GetInstanceData<Environment>(); }

template <typename T>
constexpr Kind kKindOf;
template <>
constexpr Kind kKindOf<System> = Kind::kSystem;
template <>
constexpr Kind kKindOf<Vm> = Kind::kVm;
template <>
constexpr Kind kKindOf<Vcpu> = Kind::kVcpu;
template <>
constexpr Kind kKindOf<Region> = Kind::kRegion;
template <>
constexpr Kind kKindOf<VcpuThread> = Kind::kThread;
template <>
constexpr Kind kKindOf<Device> = Kind::kDevice;
template <>
constexpr Kind kKindOf<PlainFile> = Kind::kFile;
template <>
constexpr Kind kKindOf<Userfault> = Kind::kUserfault;
template <>
constexpr Kind kKindOf<GuestRam> = Kind::kGuestRam;

// The native object behind a handle; null for any other value. Throws nothing.
Object* object_of(napi_env env, napi_value value);
// The same for objects that are files.
File* file_of(napi_env env, napi_value value);
// The bytes of a Uint8Array. False for anything else, and throws nothing.
// SAFETY: the address holds until JavaScript runs again.
bool bytes_of(Napi::Value value, uint8_t** data, size_t* size);

// Takes a call's arguments one after the other; the first that does not fit throws
// ERR_INVALID_ARG_TYPE and everything after it is moot. src/core has checked them before with
// better words: this is the wall that keeps a mistake there from becoming a crash here.
class Arguments {
 public:
  explicit Arguments(const Napi::CallbackInfo& info) : info_(info) {}

  template <typename T>
  T* object() {
    return static_cast<T*>(unwrap(kKindOf<T>, false));
  }
  template <typename T>
  T* object_or_null() {
    return static_cast<T*>(unwrap(kKindOf<T>, true));
  }
  Object* any_object();
  File* file();
  // A Uint8Array.
  std::pair<uint8_t*, size_t> bytes();
  Napi::Value value() { return info_[next_++]; }
  uint64_t number(uint64_t max = (uint64_t{1} << 53) - 1);
  uint32_t u32() { return static_cast<uint32_t>(number(UINT32_MAX)); }
  std::string string();
  Napi::Function function();
  bool ok() const { return ok_; }

 private:
  Object* unwrap(Kind kind, bool nullable);
  void fail(const char* expected);
  const Napi::CallbackInfo& info_;
  size_t next_ = 0;
  bool ok_ = true;
};

// A JavaScript object that holds a reference to the native one until it is collected; it carries
// the bound functions that the object's kind has.
Napi::Value wrap(Napi::Env env, Ref<Object> object);

// An ArrayBuffer over [offset, offset + length) of a mapping, which stays mapped until the buffer
// is collected; `owner` likewise stays referenced.
Napi::Value external_buffer(Napi::Env env, const Ref<Mapping>& mapping, uint64_t offset,
                            uint64_t length, Ref<Object> owner);

inline Napi::Value to_value(Napi::Env env, Result result) {
  return Napi::Number::New(env, static_cast<double>(result));
}

}  // namespace node_kvm
