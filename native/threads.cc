#include "threads.h"

#include "convert.h"
#include "userfault_api.h"

namespace node_kvm {
namespace {

// Calls the dispatcher once: whether the exit is answered. An exception that leaves it is the
// application's to handle, as any exception of a callback is. Plain Node-API, because a call can
// also fail for the reason that the environment is being ended, and then nothing can be thrown.
bool call_dispatch(Environment& environment, const ExitQueue::Entry& entry) {
  napi_env env = environment.dispatch.Env();
  napi_value global = nullptr;
  napi_value arguments[3] = {};
  napi_get_global(env, &global);
  napi_create_uint32(env, entry.thread->index(), &arguments[0]);
  napi_create_int64(env, entry.status, &arguments[1]);
  napi_create_uint32(env, static_cast<uint32_t>(entry.event), &arguments[2]);
  napi_value answer = nullptr;
  if (napi_make_callback(env, nullptr, global, environment.dispatch.Value(), std::size(arguments),
                         arguments, &answer) == napi_ok) {
    bool answered = false;
    napi_get_value_bool(env, answer, &answered);
    return answered;
  }
  bool thrown = false;
  napi_value error = nullptr;
  if (napi_is_exception_pending(env, &thrown) == napi_ok && thrown &&
      napi_get_and_clear_last_exception(env, &error) == napi_ok) {
    napi_fatal_exception(env, error);
  }
  return false;
}

void forget(Environment& environment, VcpuThread* thread) {
  if (environment.threads.erase(thread) == 0) return;
  thread->join();
  thread->release();
  if (environment.threads.empty() && environment.async != nullptr) {
    ::uv_unref(reinterpret_cast<uv_handle_t*>(environment.async));
  }
}

// Guests that exit all the time can fill the queue faster than it is emptied: after so many exits,
// timers and other callbacks get their turn.
constexpr int kExitsPerTurn = 64;

void on_async(uv_async_t* async) {
  auto& environment = *static_cast<Environment*>(async->data);
  Napi::HandleScope scope(environment.dispatch.Env());
  ExitQueue::Entry entry;
  for (int i = 0; i < kExitsPerTurn; i++) {
    if (!environment.exits->pop(&entry)) return;
    if (entry.event == ThreadEvent::kEnded) forget(environment, entry.thread.get());
    if (call_dispatch(environment, entry)) entry.thread->answer();
  }
  ::uv_async_send(async);
}

// Runs on the environment's thread before anything of it is gone. No vCPU thread survives it.
void on_environment_end(napi_async_cleanup_hook_handle hook, void* data) {
  auto* environment = static_cast<Environment*>(data);
  end_userfaults(*environment);
  for (VcpuThread* thread : environment->threads) thread->stop();
  environment->exits->shut();
  for (VcpuThread* thread : environment->threads) {
    thread->join();
    thread->release();
  }
  environment->threads.clear();
  uv_async_t* async = environment->async;
  environment->async = nullptr;
  async->data = hook;
  ::uv_close(reinterpret_cast<uv_handle_t*>(async), [](uv_handle_t* handle) {
    napi_remove_async_cleanup_hook(static_cast<napi_async_cleanup_hook_handle>(handle->data));
    delete reinterpret_cast<uv_async_t*>(handle);
  });
}

Result prepare(Napi::Env env, Environment& environment) {
  if (environment.async != nullptr) return 0;
  uv_loop_t* loop = nullptr;
  if (napi_get_uv_event_loop(env, &loop) != napi_ok) return -ENOSYS;
  auto* async = new uv_async_t;
  if (int error = ::uv_async_init(loop, async, on_async)) {
    delete async;
    return error;
  }
  async->data = &environment;
  ::uv_unref(reinterpret_cast<uv_handle_t*>(async));
  environment.async = async;
  environment.exits = Ref<ExitQueue>::adopt(new ExitQueue([async] { ::uv_async_send(async); }));
  napi_add_async_cleanup_hook(env, on_environment_end, &environment, &environment.cleanup);
  return 0;
}

}  // namespace

Napi::Value set_dispatch(const Napi::CallbackInfo& info) {
  Arguments args(info);
  Napi::Function function = args.function();
  if (args.ok()) env_data(info.Env())->dispatch = Napi::Persistent(function);
  return info.Env().Undefined();
}

Napi::Value start_thread(const Napi::CallbackInfo& info) {
  Arguments args(info);
  auto* vcpu = args.object<Vcpu>();
  uint32_t index = args.u32();
  bool paused = args.number(1) != 0;
  if (!args.ok()) return {};
  Environment& environment = *env_data(info.Env());
  if (Result error = prepare(info.Env(), environment)) return to_value(info.Env(), error);
  Ref<VcpuThread> thread = VcpuThread::start(Ref<Vcpu>(vcpu), environment.exits, index, paused);
  if (!thread) return to_value(info.Env(), -errno);
  thread->retain();
  environment.threads.insert(thread.get());
  ::uv_ref(reinterpret_cast<uv_handle_t*>(environment.async));
  thread->retain();
  return wrap(info.Env(), Ref<Object>::adopt(thread.get()));
}

}  // namespace node_kvm
