#include "memory_api.h"

#include <sys/mman.h>
#include <unistd.h>

#include "convert.h"
#include "userfault.h"

namespace node_kvm {
namespace {

using Info = const Napi::CallbackInfo&;

template <typename T>
Napi::Value handle_or_error(Napi::Env env, const Ref<T>& object, Result error) {
  if (!object) return to_value(env, error);
  return wrap(env, Ref<Object>(static_cast<Object*>(object.get())));
}

Napi::Value create_region(Info info) {
  Arguments args(info);
  RegionRequest request;
  request.size = args.number();
  request.gpa = args.number();
  request.backing = static_cast<Backing>(args.number(static_cast<uint64_t>(Backing::kHuge1G)));
  request.path = args.string();
  request.file_offset = args.number();
  if (!args.ok()) return {};
  Ref<Region> region = Region::create(request);
  return handle_or_error(info.Env(), region, -errno);
}

Napi::Value update_slot(Info info) {
  Arguments args(info);
  auto* vm = args.object<Vm>();
  uint32_t slot = args.u32();
  uint32_t flags = args.u32();
  uint64_t gpa = args.number();
  if (!args.ok()) return {};
  return to_value(info.Env(), vm->update_slot(slot, flags, gpa));
}

Napi::Value discard_region(Info info) {
  Arguments args(info);
  auto* region = args.object<Region>();
  uint64_t offset = args.number();
  uint64_t length = args.number();
  if (!args.ok()) return {};
  return to_value(info.Env(), region->discard(offset, length));
}

Napi::Value advise_region(Info info) {
  Arguments args(info);
  auto* region = args.object<Region>();
  uint64_t offset = args.number();
  uint64_t length = args.number();
  uint32_t advice = args.u32();
  if (!args.ok()) return {};
  return to_value(info.Env(), region->advise(offset, length, advice));
}

Napi::Value lock_region(Info info) {
  Arguments args(info);
  auto* region = args.object<Region>();
  bool on_fault = args.number(1) != 0;
  if (!args.ok()) return {};
  return to_value(info.Env(), region->lock(on_fault));
}

Napi::Value bind_region(Info info) {
  Arguments args(info);
  auto* region = args.object<Region>();
  uint32_t mode = args.u32();
  uint64_t nodes = args.number();
  if (!args.ok()) return {};
  return to_value(info.Env(), region->bind(mode, nodes));
}

Napi::Value region_residency(Info info) {
  Arguments args(info);
  auto* region = args.object<Region>();
  uint64_t offset = args.number();
  auto [data, size] = args.bytes();
  if (!args.ok()) return {};
  return to_value(info.Env(), region->residency(offset, data, size));
}

Napi::Value region_pagemap(Info info) {
  Arguments args(info);
  auto* region = args.object<Region>();
  uint64_t offset = args.number();
  auto [data, size] = args.bytes();
  if (!args.ok()) return {};
  return to_value(info.Env(), region->pagemap(offset, data, size));
}

Napi::Value region_smaps(Info info) {
  Arguments args(info);
  auto* region = args.object<Region>();
  if (!args.ok()) return {};
  return Napi::String::New(info.Env(), region->smaps());
}

Napi::Value region_lost_pages(Info info) {
  Arguments args(info);
  auto* region = args.object<Region>();
  if (!args.ok()) return {};
  return Napi::Number::New(info.Env(), region->lost_pages());
}

Napi::Value create_userfault(Info info) {
  Arguments args(info);
  auto* region = args.object<Region>();
  uint64_t offset = args.number();
  uint64_t length = args.number();
  uint32_t modes = args.u32();
  if (!args.ok()) return {};
  Ref<Userfault> userfault;
  Result result = Userfault::create(*region, offset, length, modes, &userfault);
  return handle_or_error(info.Env(), userfault, result);
}

// What connects a reader thread with the environment whose JavaScript serves its faults.
struct Link {
  Napi::Env env;
  Ref<Userfault> userfault;
  Napi::ThreadSafeFunction function;
};

void end_link(void* data) {
  auto* link = static_cast<Link*>(data);
  // ORDER: the thread is gone before the function that it calls.
  link->userfault->close();
  link->function.Release();
  delete link;
}

void report_fault(void* context, const Userfault::Fault& fault) {
  auto* link = static_cast<Link*>(context);
  auto* copy = new Userfault::Fault(fault);
  napi_status status = link->function.NonBlockingCall(
      copy, [](Napi::Env env, Napi::Function function, Userfault::Fault* fault) {
        if (function) {
          function.Call({to_value(env, static_cast<Result>(fault->offset)),
                         Napi::Number::New(env, fault->flags),
                         Napi::Boolean::New(env, fault->own)});
        }
        delete fault;
      });
  if (status != napi_ok) delete copy;
}

Napi::Value start_userfault(Info info) {
  Arguments args(info);
  auto* userfault = args.object<Userfault>();
  Napi::Function function = args.function();
  std::string path = args.string();
  uint64_t offset = args.number();
  if (!args.ok()) return {};
  if (!path.empty()) {
    if (Result error = userfault->open_source(path.c_str(), offset)) {
      return to_value(info.Env(), error);
    }
  }
  auto* link = new Link{info.Env(), Ref<Userfault>(userfault),
                        Napi::ThreadSafeFunction::New(info.Env(), function, "userfault", 0, 1)};
  link->function.Unref(info.Env());
  auto tid = static_cast<pid_t>(::syscall(SYS_gettid));
  Result result = userfault->start(report_fault, link, tid);
  if (result < 0) {
    link->function.Release();
    delete link;
    return to_value(info.Env(), result);
  }
  userfault->set_link(link);
  napi_add_env_cleanup_hook(info.Env(), end_link, link);
  return to_value(info.Env(), 0);
}

Napi::Value close_userfault(Info info) {
  Arguments args(info);
  auto* userfault = args.object<Userfault>();
  if (!args.ok()) return {};
  if (void* link = userfault->take_link()) {
    napi_remove_env_cleanup_hook(info.Env(), end_link, link);
    end_link(link);
  }
  userfault->close();
  return info.Env().Undefined();
}

Napi::Value userfault_copy(Info info) {
  Arguments args(info);
  auto* userfault = args.object<Userfault>();
  uint64_t offset = args.number();
  auto [data, size] = args.bytes();
  bool protect = args.number(1) != 0;
  if (!args.ok()) return {};
  return to_value(info.Env(), userfault->copy(offset, data, size, protect));
}

// 0 zeros, 1 what is in the page cache, 2 protected, 3 writable again, 4 only wake.
Napi::Value userfault_serve(Info info) {
  Arguments args(info);
  auto* userfault = args.object<Userfault>();
  uint64_t what = args.number(4);
  uint64_t offset = args.number();
  uint64_t length = args.number();
  if (!args.ok()) return {};
  Result result = what == 0   ? userfault->zero(offset, length)
                  : what == 1 ? userfault->resume(offset, length)
                  : what == 4 ? userfault->wake(offset, length)
                              : userfault->protect(offset, length, what == 2);
  return to_value(info.Env(), result);
}

// Pages served from the file: those that came, those that it did not have.
Napi::Value userfault_counts(Info info) {
  Arguments args(info);
  auto* userfault = args.object<Userfault>();
  if (!args.ok()) return {};
  Napi::Array counts = Napi::Array::New(info.Env(), 2);
  counts.Set(0u, to_value(info.Env(), static_cast<Result>(userfault->served())));
  counts.Set(1u, to_value(info.Env(), static_cast<Result>(userfault->failed())));
  return counts;
}

}  // namespace

void add_memory_functions(Napi::Env env, Napi::Object exports) {
  const auto add = [&](const char* name, Napi::Value (*function)(Info)) {
    exports.Set(name, Napi::Function::New(env, function, name));
  };
  add("createRegion", create_region);
  add("updateSlot", update_slot);
  add("discardRegion", discard_region);
  add("adviseRegion", advise_region);
  add("lockRegion", lock_region);
  add("bindRegion", bind_region);
  add("regionResidency", region_residency);
  add("regionPagemap", region_pagemap);
  add("regionSmaps", region_smaps);
  add("regionLostPages", region_lost_pages);
  add("createUserfault", create_userfault);
  add("startUserfault", start_userfault);
  add("closeUserfault", close_userfault);
  add("userfaultCopy", userfault_copy);
  add("userfaultServe", userfault_serve);
  add("userfaultCounts", userfault_counts);
}

}  // namespace node_kvm
