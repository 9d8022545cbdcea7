#include "eventfd_watch.h"

#include <fcntl.h>
#include <unistd.h>

#include "convert.h"
#include "event_relay.h"

namespace node_kvm {

// One watched eventfd. THREAD: only the environment's own.
// It has a descriptor of its own for the same eventfd: libuv takes each number once per loop, and
// the eventfd may be closed at any time by any thread.
class EventWatch {
 public:
  static Result start(Napi::Env env, PlainFile& file, Napi::Function callback, EventWatch** out);
  // The object is gone some time later.
  void stop();
  void set_ref(bool on);

 private:
  EventWatch(Napi::Env env, int fd) : env_(env), fd_(fd) {}
  static void on_poll(uv_poll_t* poll, int status, int events);
  static void on_environment_end(napi_async_cleanup_hook_handle hook, void* data);
  void call(uint64_t count);

  napi_env env_;
  int fd_;
  uv_poll_t poll_{};
  Napi::FunctionReference callback_;
  napi_async_cleanup_hook_handle hook_ = nullptr;
};

Result EventWatch::start(Napi::Env env, PlainFile& file, Napi::Function callback,
                         EventWatch** out) {
  uv_loop_t* loop = nullptr;
  if (napi_get_uv_event_loop(env, &loop) != napi_ok) return -ENOSYS;
  Use use(file);
  if (use.error()) return use.error();
  int fd = ::fcntl(file.fd(), F_DUPFD_CLOEXEC, 0);
  if (fd < 0) return -errno;
  auto* watch = new EventWatch(env, fd);
  if (int error = ::uv_poll_init(loop, &watch->poll_, fd)) {
    ::close(fd);
    delete watch;
    return error;
  }
  watch->poll_.data = watch;
  watch->callback_ = Napi::Persistent(callback);
  napi_add_async_cleanup_hook(env, on_environment_end, watch, &watch->hook_);
  if (int error = ::uv_poll_start(&watch->poll_, UV_READABLE, on_poll)) {
    watch->stop();
    return error;
  }
  *out = watch;
  return 0;
}

void EventWatch::stop() {
  auto* handle = reinterpret_cast<uv_handle_t*>(&poll_);
  if (::uv_is_closing(handle)) return;
  callback_.Reset();
  ::uv_close(handle, [](uv_handle_t* closed) {
    auto* watch = static_cast<EventWatch*>(closed->data);
    napi_remove_async_cleanup_hook(watch->hook_);
    delete watch;
  });
  // ORDER: after uv_close, which takes it out of the loop's epoll at once.
  ::close(fd_);
}

void EventWatch::set_ref(bool on) {
  auto* handle = reinterpret_cast<uv_handle_t*>(&poll_);
  if (on) {
    ::uv_ref(handle);
  } else {
    ::uv_unref(handle);
  }
}

void EventWatch::on_environment_end(napi_async_cleanup_hook_handle, void* data) {
  static_cast<EventWatch*>(data)->stop();
}

void EventWatch::on_poll(uv_poll_t* poll, int status, int) {
  auto* watch = static_cast<EventWatch*>(poll->data);
  uint64_t count = 0;
  // Another reader (KVM itself, for an irqfd) may have been faster: then there is nothing to tell.
  if (status < 0 || ::read(watch->fd_, &count, sizeof count) != sizeof count) return;
  watch->call(count);
}

// Plain Node-API, because a call can also fail for the reason that the environment is being ended,
// and then nothing can be thrown.
void EventWatch::call(uint64_t count) {
  Napi::Env env(env_);
  Napi::HandleScope scope(env);
  napi_value global = nullptr;
  napi_value argument = nullptr;
  napi_get_global(env, &global);
  napi_create_double(env, static_cast<double>(count), &argument);
  if (napi_make_callback(env, nullptr, global, callback_.Value(), 1, &argument, nullptr) ==
      napi_ok) {
    return;
  }
  bool thrown = false;
  napi_value error = nullptr;
  if (napi_is_exception_pending(env, &thrown) == napi_ok && thrown &&
      napi_get_and_clear_last_exception(env, &error) == napi_ok) {
    napi_fatal_exception(env, error);
  }
}

namespace {

Napi::Value watch_event_fd(const Napi::CallbackInfo& info) {
  Arguments args(info);
  auto* file = args.object<PlainFile>();
  Napi::Function callback = args.function();
  if (!args.ok()) return {};
  Environment& environment = *env_data(info.Env());
  EventWatch* watch = nullptr;
  if (Result error = EventWatch::start(info.Env(), *file, callback, &watch)) {
    return to_value(info.Env(), error);
  }
  uint32_t number = ++environment.last_watch;
  environment.watches[number] = watch;
  return to_value(info.Env(), number);
}

Napi::Value unwatch_event_fd(const Napi::CallbackInfo& info) {
  Arguments args(info);
  uint32_t number = args.u32();
  if (!args.ok()) return {};
  auto& watches = env_data(info.Env())->watches;
  auto found = watches.find(number);
  if (found != watches.end()) {
    found->second->stop();
    watches.erase(found);
  }
  return info.Env().Undefined();
}

Napi::Value ref_event_fd(const Napi::CallbackInfo& info) {
  Arguments args(info);
  uint32_t number = args.u32();
  bool on = args.number(1) != 0;
  if (!args.ok()) return {};
  auto& watches = env_data(info.Env())->watches;
  auto found = watches.find(number);
  if (found != watches.end()) found->second->set_ref(on);
  return info.Env().Undefined();
}

// They end with the environment that began them.
void end_relays(void* environment) {
  for (uint32_t number : static_cast<Environment*>(environment)->relays) {
    EventRelays::instance().remove(number);
  }
}

Napi::Value relay_event_fd(const Napi::CallbackInfo& info) {
  Arguments args(info);
  auto* source = args.object<PlainFile>();
  auto* target = args.object<PlainFile>();
  if (!args.ok()) return {};
  Result number = EventRelays::instance().add(Ref<PlainFile>(source), Ref<PlainFile>(target));
  if (number > 0) env_data(info.Env())->relays.insert(static_cast<uint32_t>(number));
  return to_value(info.Env(), number);
}

Napi::Value end_event_fd_relay(const Napi::CallbackInfo& info) {
  Arguments args(info);
  uint32_t number = args.u32();
  if (!args.ok()) return {};
  // Of this environment's only.
  if (env_data(info.Env())->relays.erase(number) != 0) EventRelays::instance().remove(number);
  return info.Env().Undefined();
}

}  // namespace

void add_eventfd_functions(Napi::Env env, Napi::Object exports) {
  exports.Set("watchEventFd", Napi::Function::New(env, watch_event_fd, "watchEventFd"));
  exports.Set("unwatchEventFd", Napi::Function::New(env, unwatch_event_fd, "unwatchEventFd"));
  exports.Set("refEventFd", Napi::Function::New(env, ref_event_fd, "refEventFd"));
  exports.Set("relayEventFd", Napi::Function::New(env, relay_event_fd, "relayEventFd"));
  napi_add_env_cleanup_hook(env, end_relays, env_data(env));
  exports.Set("endEventFdRelay", Napi::Function::New(env, end_event_fd_relay, "endEventFdRelay"));
}

}  // namespace node_kvm
