#include "net_api.h"

#include "convert.h"
#include "net_worker.h"
#include "services.h"
#include "tap.h"
#include "virtqueue_api.h"

namespace node_kvm {

template <>
constexpr Kind kKindOf<NetWorker> = Kind::kNetWorker;

namespace {

using Info = const Napi::CallbackInfo&;

Napi::Value tap_request_value(Info info) {
  Arguments args(info);
  auto* file = args.object<PlainFile>();
  uint32_t request = args.u32();
  auto [data, size] = args.bytes();
  if (!args.ok()) return {};
  return to_value(info.Env(), tap_request(*file, request, data, size));
}

Napi::Value interface_mtu_value(Info info) {
  Arguments args(info);
  std::string name = args.string();
  if (!args.ok()) return {};
  return to_value(info.Env(), interface_mtu(name.c_str()));
}

// A handle on what another part of the process has open under this number.
Napi::Value duplicate_file(Info info) {
  Arguments args(info);
  int fd = static_cast<int>(args.number(INT32_MAX));
  if (!args.ok()) return {};
  Ref<PlainFile> file = PlainFile::duplicate(fd);
  if (!file) return to_value(info.Env(), -errno);
  file->retain();
  return wrap(info.Env(), Ref<Object>::adopt(file.get()));
}

// Tokens in a second and at once; none in a second are no limit.
RateLimit::Rate limit_of(Arguments& args) {
  auto per_second = static_cast<double>(args.number());
  return {per_second, static_cast<double>(args.number())};
}

NetWorker::Queue queue_of(Arguments& args) {
  NetWorker::Queue queue;
  queue.setup = queue_setup(args);
  queue.kick = Ref<PlainFile>(args.object<PlainFile>());
  queue.call = Ref<PlainFile>(args.object<PlainFile>());
  queue.bytes = limit_of(args);
  queue.frames = limit_of(args);
  return queue;
}

Napi::Value start_net_worker(Info info) {
  Arguments args(info);
  NetWorker::Request request;
  request.ram = Ref<GuestRam>(args.object<GuestRam>());
  request.tap = Ref<PlainFile>(args.object<PlainFile>());
  request.bell = Ref<PlainFile>(args.object<PlainFile>());
  request.mergeable = args.number(1) != 0;
  request.link_up = args.number(1) != 0;
  request.receive = queue_of(args);
  request.transmit = queue_of(args);
  if (!args.ok()) return {};
  Ref<NetWorker> worker;
  if (Result error = NetWorker::start(request, &worker)) return to_value(info.Env(), error);
  close_with_environment(info.Env(), Ref<Object>(static_cast<Object*>(worker.get())));
  return wrap(info.Env(), Ref<Object>(static_cast<Object*>(worker.get())));
}

Napi::Value net_worker_state(Info info) {
  Arguments args(info);
  auto* worker = args.object<NetWorker>();
  if (!args.ok()) return {};
  return to_value(info.Env(), worker->state());
}

// Frames, bytes and frames thrown away, to the guest and from it.
Napi::Value net_worker_counts(Info info) {
  Arguments args(info);
  auto* worker = args.object<NetWorker>();
  if (!args.ok()) return {};
  Napi::Array values = Napi::Array::New(info.Env(), 6);
  uint32_t at = 0;
  for (const NetCounts* counts : {&worker->received(), &worker->transmitted()}) {
    for (const auto* count : {&counts->frames, &counts->bytes, &counts->dropped}) {
      values.Set(at++, to_value(info.Env(), static_cast<Result>(count->load())));
    }
  }
  return values;
}

Napi::Value set_net_worker_link(Info info) {
  Arguments args(info);
  auto* worker = args.object<NetWorker>();
  bool up = args.number(1) != 0;
  if (args.ok()) worker->set_link(up);
  return info.Env().Undefined();
}

Napi::Value pause_net_worker(Info info) {
  Arguments args(info);
  auto* worker = args.object<NetWorker>();
  bool on = args.number(1) != 0;
  if (!args.ok()) return {};
  if (on) {
    worker->pause();
  } else {
    worker->resume();
  }
  return info.Env().Undefined();
}

Napi::Value stop_net_worker(Info info) {
  Arguments args(info);
  auto* worker = args.object<NetWorker>();
  if (args.ok()) worker->stop();
  return info.Env().Undefined();
}

// After its end was told.
Napi::Value forget_net_worker(Info info) {
  Arguments args(info);
  auto* worker = args.object<NetWorker>();
  if (args.ok()) forget_with_environment(info.Env(), worker);
  return info.Env().Undefined();
}

}  // namespace

void add_net_functions(Napi::Env env, Napi::Object exports) {
  const auto add = [&](const char* name, Napi::Value (*function)(Info)) {
    exports.Set(name, Napi::Function::New(env, function, name));
  };
  add("tapRequest", tap_request_value);
  add("interfaceMtu", interface_mtu_value);
  add("duplicateFile", duplicate_file);
  add("startNetWorker", start_net_worker);
  add("netWorkerState", net_worker_state);
  add("netWorkerCounts", net_worker_counts);
  add("setNetWorkerLink", set_net_worker_link);
  add("pauseNetWorker", pause_net_worker);
  add("stopNetWorker", stop_net_worker);
  add("forgetNetWorker", forget_net_worker);
}

}  // namespace node_kvm
