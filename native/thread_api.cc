#include "thread_api.h"

#include "convert.h"
#include "threads.h"

namespace node_kvm {
namespace {

using Info = const Napi::CallbackInfo&;

// A function of the thread that takes nothing and gives nothing.
template <void (VcpuThread::*kFunction)()>
Napi::Value tell(Info info) {
  Arguments args(info);
  auto* thread = args.object<VcpuThread>();
  if (args.ok()) (thread->*kFunction)();
  return info.Env().Undefined();
}

Napi::Value thread_tid(Info info) {
  Arguments args(info);
  auto* thread = args.object<VcpuThread>();
  if (!args.ok()) return {};
  return to_value(info.Env(), thread->tid());
}

Napi::Value thread_cpu_time(Info info) {
  Arguments args(info);
  auto* thread = args.object<VcpuThread>();
  if (!args.ok()) return {};
  return to_value(info.Env(), thread->cpu_time_ns());
}

// The CPUs are a bit mask, as sched_setaffinity takes it.
Napi::Value thread_affinity(Info info) {
  Arguments args(info);
  auto* thread = args.object<VcpuThread>();
  auto [mask, size] = args.bytes();
  if (!args.ok()) return {};
  // SAFETY: the kernel copies `size` bytes and looks at nothing else.
  return to_value(info.Env(), thread->set_affinity(reinterpret_cast<const cpu_set_t*>(mask), size));
}

// Nice values are given 20 higher, so that none is negative.
Napi::Value thread_nice(Info info) {
  Arguments args(info);
  auto* thread = args.object<VcpuThread>();
  int nice = static_cast<int>(args.number(39)) - 20;
  if (!args.ok()) return {};
  return to_value(info.Env(), thread->set_nice(nice));
}

Napi::Value thread_scheduler(Info info) {
  Arguments args(info);
  auto* thread = args.object<VcpuThread>();
  int policy = static_cast<int>(args.number(INT16_MAX));
  int priority = static_cast<int>(args.number(INT16_MAX));
  if (!args.ok()) return {};
  return to_value(info.Env(), thread->set_scheduler(policy, priority));
}

Napi::Value exit_counts(Info info) {
  Arguments args(info);
  auto* vcpu = args.object<Vcpu>();
  if (!args.ok()) return {};
  return external_buffer(info.Env(), vcpu->meter().page(), 0, sizeof(ExitCounts), {});
}

Napi::Value set_trace(Info info) {
  Arguments args(info);
  auto* vcpu = args.object<Vcpu>();
  auto* region = args.object<Region>();
  uint32_t capacity = args.u32();
  if (!args.ok()) return {};
  bool fits = capacity != 0 && (capacity & (capacity - 1)) == 0 && region->data() != nullptr &&
              (uint64_t{capacity} + 1) * sizeof(TraceEntry) <= region->size();
  if (!fits) return to_value(info.Env(), -EINVAL);
  return to_value(info.Env(), vcpu->meter().set_trace(Ref<Region>(region), capacity));
}

Napi::Value tsc_rate_value(Info info) { return Napi::Number::New(info.Env(), tsc_rate()); }

}  // namespace

void add_thread_functions(Napi::Env env, Napi::Object exports) {
  const auto add = [&](const char* name, Napi::Value (*function)(Info)) {
    exports.Set(name, Napi::Function::New(env, function, name));
  };
  add("setDispatch", set_dispatch);
  add("startThread", start_thread);
  add("answerExit", tell<&VcpuThread::answer>);
  add("pauseThread", tell<&VcpuThread::pause>);
  add("resumeThread", tell<&VcpuThread::resume>);
  add("stopThread", tell<&VcpuThread::stop>);
  add("threadTid", thread_tid);
  add("threadCpuTime", thread_cpu_time);
  add("threadAffinity", thread_affinity);
  add("threadNice", thread_nice);
  add("threadScheduler", thread_scheduler);
  add("exitCounts", exit_counts);
  add("setTrace", set_trace);
  add("tscRate", tsc_rate_value);
}

}  // namespace node_kvm
