#include "userfault_api.h"

#include "convert.h"

namespace node_kvm {
namespace {

using Info = const Napi::CallbackInfo&;

constexpr uint64_t kAllModes = Userfault::kMissing | Userfault::kWriteProtect | Userfault::kMinor;

Napi::Value userfault_features(Info info) { return to_value(info.Env(), Userfault::features()); }

Napi::Value create_userfault(Info info) {
  Arguments args(info);
  Userfault::Request request;
  auto* region = args.object<Region>();
  request.offset = args.number();
  request.length = args.number();
  request.modes = static_cast<uint32_t>(args.number(kAllModes));
  request.path = args.string();
  request.path_offset = args.number();
  auto* bell = args.object<PlainFile>();
  if (!args.ok()) return {};
  Environment& environment = *env_data(info.Env());
  request.region = Ref<Region>(region);
  request.bell = Ref<PlainFile>(bell);
  request.owner = environment.tid;
  Ref<Userfault> userfault;
  Result result = Userfault::create(request, &userfault);
  if (!userfault) return to_value(info.Env(), result);
  userfault->retain();
  environment.userfaults.insert(userfault.get());
  return wrap(info.Env(), Ref<Object>(static_cast<Object*>(userfault.get())));
}

Napi::Value close_userfault(Info info) {
  Arguments args(info);
  auto* userfault = args.object<Userfault>();
  if (!args.ok()) return {};
  userfault->close();
  if (env_data(info.Env())->userfaults.erase(userfault) != 0) userfault->release();
  return info.Env().Undefined();
}

// The offset of the page plus the event, or an error.
Napi::Value userfault_take(Info info) {
  Arguments args(info);
  auto* userfault = args.object<Userfault>();
  auto [data, size] = args.bytes();
  if (!args.ok()) return {};
  Userfault::Event event{};
  Result offset = userfault->take(data, size, &event);
  return to_value(info.Env(), offset < 0 ? offset : offset + static_cast<Result>(event));
}

Napi::Value userfault_bring(Info info) {
  Arguments args(info);
  auto* userfault = args.object<Userfault>();
  uint64_t offset = args.number();
  Napi::Value page = args.value();
  if (!args.ok()) return {};
  uint8_t* data = nullptr;
  size_t size = 0;
  if (!page.IsNull() && !bytes_of(page, &data, &size)) return to_value(info.Env(), -EINVAL);
  return to_value(info.Env(), userfault->bring(offset, data, size));
}

Napi::Value userfault_claim(Info info) {
  Arguments args(info);
  auto* userfault = args.object<Userfault>();
  uint64_t offset = args.number();
  if (!args.ok()) return {};
  return to_value(info.Env(), userfault->claim(offset));
}

Napi::Value userfault_fetch(Info info) {
  Arguments args(info);
  auto* userfault = args.object<Userfault>();
  uint64_t offset = args.number();
  uint64_t length = args.number();
  if (!args.ok()) return {};
  return to_value(info.Env(), userfault->fetch(offset, length));
}

Napi::Value userfault_protect(Info info) {
  Arguments args(info);
  auto* userfault = args.object<Userfault>();
  uint64_t offset = args.number();
  uint64_t length = args.number();
  bool on = args.number(1) != 0;
  if (!args.ok()) return {};
  return to_value(info.Env(), userfault->protect(offset, length, on));
}

Napi::Value userfault_counts(Info info) {
  Arguments args(info);
  auto* userfault = args.object<Userfault>();
  if (!args.ok()) return {};
  Userfault::Counts counts = userfault->counts();
  Napi::Array values = Napi::Array::New(info.Env(), 4);
  uint32_t i = 0;
  for (uint64_t count : {counts.faults, counts.from_source, counts.zeroed, counts.waiting}) {
    values.Set(i++, to_value(info.Env(), static_cast<Result>(count)));
  }
  return values;
}

Napi::Value userfault_page_size(Info info) {
  Arguments args(info);
  auto* userfault = args.object<Userfault>();
  if (!args.ok()) return {};
  return to_value(info.Env(), static_cast<Result>(userfault->page_size()));
}

// Whether a touch of the range here and now would wait for this very thread's JavaScript.
Napi::Value region_would_wait(Info info) {
  Arguments args(info);
  auto* region = args.object<Region>();
  uint64_t offset = args.number();
  uint64_t length = args.number();
  if (!args.ok()) return {};
  bool waits = region->waits_for_javascript(offset, length, env_data(info.Env())->tid);
  return Napi::Boolean::New(info.Env(), waits);
}

}  // namespace

void end_userfaults(Environment& environment) {
  for (Userfault* userfault : environment.userfaults) {
    userfault->close();
    userfault->release();
  }
  environment.userfaults.clear();
}

void add_userfault_functions(Napi::Env env, Napi::Object exports) {
  const auto add = [&](const char* name, Napi::Value (*function)(Info)) {
    exports.Set(name, Napi::Function::New(env, function, name));
  };
  add("userfaultFeatures", userfault_features);
  add("createUserfault", create_userfault);
  add("closeUserfault", close_userfault);
  add("userfaultPageSize", userfault_page_size);
  add("userfaultTake", userfault_take);
  add("userfaultBring", userfault_bring);
  add("userfaultClaim", userfault_claim);
  add("userfaultFetch", userfault_fetch);
  add("userfaultProtect", userfault_protect);
  add("userfaultCounts", userfault_counts);
  add("regionWouldWait", region_would_wait);
  napi_add_env_cleanup_hook(
      env, [](void* data) { end_userfaults(*static_cast<Environment*>(data)); }, env_data(env));
}

}  // namespace node_kvm
