// What bench/testing.ts calls, through plain Node-API.
#include "tested_addon.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tested.h"

// A guest with the blocks that it was made of, which it refers to.
struct held {
  struct tested tested;
  napi_ref blocks;
};

static napi_value failure(napi_env env) {
  napi_throw_error(env, NULL, strerror(errno));
  return NULL;
}

static int block_of(napi_env env, napi_value blocks, const char *name, const void **data,
                    size_t *size) {
  napi_value value;
  return napi_get_named_property(env, blocks, name, &value) == napi_ok &&
         napi_get_typedarray_info(env, value, NULL, size, (void **)data, NULL, NULL) == napi_ok;
}

static int state_of(napi_env env, napi_value blocks, struct tested_state *state) {
  size_t size;
  return block_of(env, blocks, "ram", (const void **)&state->ram, &state->ram_size) &&
         block_of(env, blocks, "cpuid", (const void **)&state->cpuid, &size) &&
         block_of(env, blocks, "sregs", (const void **)&state->sregs, &size) &&
         block_of(env, blocks, "regs", (const void **)&state->regs, &size);
}

static napi_value argument(napi_env env, napi_callback_info info) {
  size_t argc = 1;
  napi_value value = NULL;
  napi_get_cb_info(env, info, &argc, &value, NULL, NULL);
  return value;
}

// testedFirst(blocks): a guest from nothing to its first result, and away.
static napi_value first(napi_env env, napi_callback_info info) {
  struct tested tested;
  struct tested_state state;
  errno = EINVAL;
  if (!state_of(env, argument(env, info), &state) || tested_create(&tested, &state) != 0 ||
      tested_run(&tested, 1) != 0) {
    return failure(env);
  }
  tested_destroy(&tested);
  return NULL;
}

static void destroy(napi_env env, void *data, void *hint) {
  struct held *held = data;
  tested_destroy(&held->tested);
  napi_delete_reference(env, held->blocks);
  free(held);
}

static napi_value create(napi_env env, napi_callback_info info) {
  napi_value blocks = argument(env, info), result = NULL;
  struct tested_state state;
  struct held *held = malloc(sizeof *held);
  errno = EINVAL;
  if (held == NULL || !state_of(env, blocks, &state) || tested_create(&held->tested, &state) != 0) {
    free(held);
    return failure(env);
  }
  napi_create_reference(env, blocks, 1, &held->blocks);
  napi_create_external(env, held, destroy, NULL, &result);
  return result;
}

// testedRun(guest, count)
static napi_value run(napi_env env, napi_callback_info info) {
  size_t argc = 2;
  napi_value argv[2];
  void *held = NULL;
  uint32_t count = 0;
  napi_get_cb_info(env, info, &argc, argv, NULL, NULL);
  napi_get_value_external(env, argv[0], &held);
  napi_get_value_uint32(env, argv[1], &count);
  errno = EINVAL;
  if (held == NULL || tested_run(&((struct held *)held)->tested, count) != 0) return failure(env);
  return NULL;
}

static napi_value reset(napi_env env, napi_callback_info info) {
  void *held = NULL;
  napi_get_value_external(env, argument(env, info), &held);
  errno = EINVAL;
  if (held == NULL || tested_reset(&((struct held *)held)->tested) != 0) return failure(env);
  return NULL;
}

void add_tested_functions(napi_env env, napi_value exports) {
  const struct {
    const char *name;
    napi_callback function;
  } exported[] = {{"testedFirst", first},
                  {"createTested", create},
                  {"testedRun", run},
                  {"testedReset", reset}};
  for (size_t i = 0; i < sizeof exported / sizeof *exported; i++) {
    napi_value function = NULL;
    napi_create_function(env, exported[i].name, NAPI_AUTO_LENGTH, exported[i].function, NULL,
                         &function);
    napi_set_named_property(env, exports, exported[i].name, function);
  }
}
