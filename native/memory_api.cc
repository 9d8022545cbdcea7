#include "memory_api.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstring>

#include "convert.h"

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

// SAFETY: `bytes` may be a view of the same memory, so the ranges may overlap.
Napi::Value write_region(Info info) {
  Arguments args(info);
  auto* region = args.object<Region>();
  uint64_t offset = args.number();
  auto [bytes, length] = args.bytes();
  if (!args.ok()) return {};
  if (!region->has(offset, length)) return to_value(info.Env(), -EACCES);
  if (length != 0) std::memmove(region->data() + offset, bytes, length);
  return to_value(info.Env(), 0);
}

Napi::Value fill_region(Info info) {
  Arguments args(info);
  auto* region = args.object<Region>();
  uint64_t offset = args.number();
  uint64_t length = args.number();
  auto value = static_cast<int>(args.number(0xff));
  if (!args.ok()) return {};
  if (!region->has(offset, length)) return to_value(info.Env(), -EACCES);
  std::memset(region->data() + offset, value, length);
  return to_value(info.Env(), 0);
}

Napi::Value prefault_region(Info info) {
  Arguments args(info);
  auto* region = args.object<Region>();
  uint64_t offset = args.number();
  uint64_t length = args.number();
  bool write = args.number(1) != 0;
  if (!args.ok()) return {};
  return to_value(info.Env(), region->prefault(offset, length, write));
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

}  // namespace

void add_memory_functions(Napi::Env env, Napi::Object exports) {
  const auto add = [&](const char* name, Napi::Value (*function)(Info)) {
    exports.Set(name, Napi::Function::New(env, function, name));
  };
  add("createRegion", create_region);
  add("discardRegion", discard_region);
  add("adviseRegion", advise_region);
  add("writeRegion", write_region);
  add("fillRegion", fill_region);
  add("prefaultRegion", prefault_region);
  add("lockRegion", lock_region);
  add("bindRegion", bind_region);
  add("regionResidency", region_residency);
  add("regionPagemap", region_pagemap);
  add("regionSmaps", region_smaps);
  add("regionLostPages", region_lost_pages);
}

}  // namespace node_kvm
