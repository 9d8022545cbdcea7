#include "block_api.h"

#include <time.h>

#include <cstring>

#include "block_worker.h"
#include "convert.h"
#include "services.h"
#include "virtqueue_api.h"

namespace node_kvm {

template <>
constexpr Kind kKindOf<Disk> = Kind::kDisk;
template <>
constexpr Kind kKindOf<BlockWorker> = Kind::kBlockWorker;

namespace {

using Info = const Napi::CallbackInfo&;

Napi::Value numbers(Napi::Env env, std::initializer_list<uint64_t> list) {
  Napi::Array out = Napi::Array::New(env, list.size());
  uint32_t at = 0;
  for (uint64_t number : list) {
    out.Set(at++, Napi::Number::New(env, static_cast<double>(number)));
  }
  return out;
}

// (path, readOnly, direct)
Napi::Value open_disk(Info info) {
  Arguments args(info);
  DiskRequest request;
  request.path = args.string();
  request.read_only = args.number(1) != 0;
  request.direct = args.number(1) != 0;
  if (!args.ok()) return {};
  Ref<Disk> disk;
  if (Result error = Disk::open(request, &disk)) return to_value(info.Env(), error);
  return wrap(info.Env(), Ref<Object>(static_cast<Object*>(disk.get())));
}

Napi::Value disk_geometry(Info info) {
  Arguments args(info);
  auto* disk = args.object<Disk>();
  if (!args.ok()) return {};
  const DiskGeometry& geometry = disk->geometry();
  return numbers(info.Env(), {geometry.logical_block, geometry.physical_block,
                              geometry.alignment_offset, geometry.minimum_io, geometry.optimal_io});
}

// The size in sectors, as it is now.
Napi::Value refresh_disk(Info info) {
  Arguments args(info);
  auto* disk = args.object<Disk>();
  if (!args.ok()) return {};
  Result error = disk->refresh();
  return to_value(info.Env(), error ? error : static_cast<Result>(disk->sectors()));
}

// (disk, writeBack, ignoresFlush)
Napi::Value set_disk_cache(Info info) {
  Arguments args(info);
  auto* disk = args.object<Disk>();
  bool write_back = args.number(1) != 0;
  bool ignores_flush = args.number(1) != 0;
  if (!args.ok()) return {};
  disk->write_back.store(write_back);
  disk->ignores_flush.store(ignores_flush);
  return info.Env().Undefined();
}

RateLimit::Rate rate(Arguments& args) {
  RateLimit::Rate rate;
  rate.per_second = static_cast<double>(args.number());
  rate.burst = static_cast<double>(args.number());
  return rate;
}

// (disk, bytes in a second, their burst, operations in a second, their burst); 0 for no limit.
Napi::Value set_disk_limit(Info info) {
  Arguments args(info);
  auto* disk = args.object<Disk>();
  RateLimit::Rate bytes = rate(args);
  RateLimit::Rate operations = rate(args);
  if (!args.ok()) return {};
  disk->limit.set(bytes, operations, monotonic_ns());
  return info.Env().Undefined();
}

Napi::Value disk_counters(Info info) {
  Arguments args(info);
  auto* disk = args.object<Disk>();
  if (!args.ok()) return {};
  const Disk::Counters& counters = disk->counters;
  return numbers(info.Env(), {counters.reads, counters.writes, counters.flushes, counters.discards,
                              counters.errors, counters.bytes_read, counters.bytes_written,
                              counters.wakeups, counters.interrupts});
}

// (disk, ram, kick, call, bell, id, features (1 discard, 2 write zeroes), useRing, the queue's
// setup). The worker ends with the environment at the latest.
Napi::Value start_block_worker(Info info) {
  Arguments args(info);
  BlockWorker::Setup setup;
  setup.disk = Ref<Disk>(args.object<Disk>());
  setup.ram = Ref<GuestRam>(args.object<GuestRam>());
  setup.kick = Ref<PlainFile>(args.object<PlainFile>());
  setup.call = Ref<PlainFile>(args.object<PlainFile>());
  setup.bell = Ref<PlainFile>(args.object<PlainFile>());
  auto [id, id_size] = args.bytes();
  uint64_t features = args.number(3);
  setup.use_ring = args.number(1) != 0;
  setup.queue = queue_setup(args);
  if (!args.ok()) return {};
  std::memcpy(setup.id, id, id_size < sizeof setup.id ? id_size : sizeof setup.id);
  setup.features.discard = (features & 1) != 0;
  setup.features.write_zeroes = (features & 2) != 0;
  Ref<BlockWorker> worker;
  if (Result error = BlockWorker::start(std::move(setup), &worker)) {
    return to_value(info.Env(), error);
  }
  Ref<Object> object(static_cast<Object*>(worker.get()));
  close_with_environment(info.Env(), object);
  return wrap(info.Env(), object);
}

// 0 run, 1 pause, 2 end.
Napi::Value tell_block_worker(Info info) {
  Arguments args(info);
  auto* worker = args.object<BlockWorker>();
  uint64_t what = args.number(2);
  if (!args.ok()) return {};
  if (what == 0) worker->resume();
  if (what == 1) worker->pause();
  if (what == 2) {
    worker->close();
    forget_with_environment(info.Env(), worker);
  }
  return info.Env().Undefined();
}

// The state, and whether it uses io_uring.
Napi::Value block_worker_state(Info info) {
  Arguments args(info);
  auto* worker = args.object<BlockWorker>();
  if (!args.ok()) return {};
  return numbers(info.Env(), {static_cast<uint64_t>(worker->state()), worker->uses_ring()});
}

}  // namespace

void add_block_functions(Napi::Env env, Napi::Object exports) {
  const auto add = [&](const char* name, Napi::Value (*function)(Info)) {
    exports.Set(name, Napi::Function::New(env, function, name));
  };
  add("openDisk", open_disk);
  add("diskGeometry", disk_geometry);
  add("refreshDisk", refresh_disk);
  add("setDiskCache", set_disk_cache);
  add("setDiskLimit", set_disk_limit);
  add("diskCounters", disk_counters);
  add("startBlockWorker", start_block_worker);
  add("tellBlockWorker", tell_block_worker);
  add("blockWorkerState", block_worker_state);
}

}  // namespace node_kvm
