// What bench/memory.ts calls, through plain Node-API.
#include "tracked_addon.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tracked.h"

static napi_value number(napi_env env, double value) {
  napi_value result = NULL;
  napi_create_double(env, value, &result);
  return result;
}

static napi_value failure(napi_env env, const char *step) {
  char message[128];
  snprintf(message, sizeof message, "in C: %s: %s", step, strerror(errno));
  napi_throw_error(env, NULL, message);
  return NULL;
}

static int bytes_of(napi_env env, napi_value value, void **data, size_t *size) {
  return napi_get_typedarray_info(env, value, NULL, size, data, NULL, NULL) == napi_ok;
}

static void destroy(napi_env env, void *data, void *hint) {
  tracked_destroy(data);
  free(data);
}

// createTracked(method, low): a guest whose first memory is `low`.
static napi_value create_tracked(napi_env env, napi_callback_info info) {
  size_t argc = 2, size = 0;
  napi_value argv[2], result = NULL;
  void *low = NULL;
  uint32_t method = 0;
  napi_get_cb_info(env, info, &argc, argv, NULL, NULL);
  errno = EINVAL;
  if (napi_get_value_uint32(env, argv[0], &method) != napi_ok || method > TRACKED_RING ||
      !bytes_of(env, argv[1], &low, &size)) {
    return failure(env, "arguments");
  }
  struct tracked *tracked = malloc(sizeof *tracked);
  const char *step = "memory";
  if (tracked == NULL || tracked_create(tracked, method, low, size, &step) != 0) {
    free(tracked);
    return failure(env, step);
  }
  napi_create_external(env, tracked, destroy, NULL, &result);
  return result;
}

static struct tracked *tracked_of(napi_env env, napi_callback_info info) {
  size_t argc = 1;
  napi_value value;
  void *tracked = NULL;
  napi_get_cb_info(env, info, &argc, &value, NULL, NULL);
  napi_get_value_external(env, value, &tracked);
  return tracked;
}

static napi_value bound_low(napi_env env, napi_callback_info info) {
  struct tracked *tracked = tracked_of(env, info);
  napi_value result = NULL;
  if (tracked != NULL)
    napi_create_external_arraybuffer(env, tracked->low, 0x10000, NULL, NULL, &result);
  return result;
}

static napi_value bound_write(napi_env env, napi_callback_info info) {
  struct tracked *tracked = tracked_of(env, info);
  if (tracked == NULL || tracked_write(tracked) != 0) return failure(env, "KVM_RUN");
  return NULL;
}

static napi_value bound_collect(napi_env env, napi_callback_info info) {
  struct tracked *tracked = tracked_of(env, info);
  int64_t pages = tracked == NULL ? -1 : tracked_collect(tracked);
  if (pages < 0) return failure(env, "the collection");
  return number(env, (double)pages);
}

static napi_value bound_use_cpu(napi_env env, napi_callback_info info) {
  size_t argc = 1;
  napi_value value;
  int32_t cpu = 0;
  napi_get_cb_info(env, info, &argc, &value, NULL, NULL);
  if (napi_get_value_int32(env, value, &cpu) != napi_ok) return failure(env, "a CPU");
  use_cpu(cpu);
  return NULL;
}

// copyBytes(to, from, count): memcpy, so many times.
static napi_value copy_bytes(napi_env env, napi_callback_info info) {
  size_t argc = 3, to_size = 0, from_size = 0;
  napi_value argv[3];
  void *to = NULL, *from = NULL;
  uint32_t count = 0;
  napi_get_cb_info(env, info, &argc, argv, NULL, NULL);
  errno = EINVAL;
  if (!bytes_of(env, argv[0], &to, &to_size) || !bytes_of(env, argv[1], &from, &from_size) ||
      napi_get_value_uint32(env, argv[2], &count) != napi_ok || to_size != from_size) {
    return failure(env, "arguments");
  }
  for (uint32_t i = 0; i < count; i++) {
    memcpy(to, from, to_size);
    __asm__ volatile("" ::: "memory");
  }
  return NULL;
}

static napi_value bound_create_vm(napi_env env, napi_callback_info info) {
  size_t argc = 1;
  napi_value value;
  double size = 0;
  napi_get_cb_info(env, info, &argc, &value, NULL, NULL);
  if (napi_get_value_double(env, value, &size) != napi_ok || create_vm((uint64_t)size) != 0) {
    return failure(env, "a VM");
  }
  return NULL;
}

void add_tracked_functions(napi_env env, napi_value exports) {
  const struct {
    const char *name;
    napi_callback function;
  } exported[] = {
      {"createTracked", create_tracked}, {"trackedLow", bound_low}, {"trackedWrite", bound_write},
      {"trackedCollect", bound_collect}, {"copyBytes", copy_bytes}, {"createVm", bound_create_vm},
      {"useCpu", bound_use_cpu},
  };
  for (size_t i = 0; i < sizeof exported / sizeof *exported; i++) {
    napi_value function = NULL;
    napi_create_function(env, exported[i].name, NAPI_AUTO_LENGTH, exported[i].function, NULL,
                         &function);
    napi_set_named_property(env, exports, exported[i].name, function);
  }
}
