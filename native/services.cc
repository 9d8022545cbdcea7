#include "services.h"

#include "convert.h"

namespace node_kvm {
namespace {

void on_environment_end(void* data) {
  auto* environment = static_cast<Environment*>(data);
  for (Object* service : environment->services) {
    service->close();
    service->release();
  }
  environment->services.clear();
}

}  // namespace

void close_with_environment(Napi::Env env, const Ref<Object>& object) {
  Environment& environment = *env_data(env);
  if (!environment.has_services) {
    environment.has_services = true;
    napi_add_env_cleanup_hook(env, on_environment_end, &environment);
  }
  object->retain();
  environment.services.insert(object.get());
}

void forget_with_environment(Napi::Env env, Object* object) {
  if (env_data(env)->services.erase(object) != 0) object->release();
}

}  // namespace node_kvm
