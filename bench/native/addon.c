// The C loops and a thread's clocks for the benchmarks, through plain Node-API.
#include <errno.h>
#include <node_api.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "handoff.h"
#include "interrupts.h"
#include "loops.h"
#include "queues_addon.h"
#include "smp.h"
#include "tested_addon.h"
#include "tracked_addon.h"

static napi_value number(napi_env env, double value) {
  napi_value result = NULL;
  napi_create_double(env, value, &result);
  return result;
}

static napi_value clock_value(napi_env env, clockid_t id) {
  struct timespec now;
  clock_gettime(id, &now);
  return number(env, (double)now.tv_sec * 1e9 + (double)now.tv_nsec);
}

static napi_value cpu_time(napi_env env, napi_callback_info info) {
  return clock_value(env, CLOCK_THREAD_CPUTIME_ID);
}

static napi_value wall_time(napi_env env, napi_callback_info info) {
  return clock_value(env, CLOCK_MONOTONIC);
}

static void destroy_guest(napi_env env, void *data, void *hint) {
  guest_destroy(data);
  free(data);
}

static napi_value create_guest(napi_env env, napi_callback_info info) {
  size_t argc = 1, size = 0;
  napi_value code, result = NULL;
  void *bytes = NULL;
  napi_get_cb_info(env, info, &argc, &code, NULL, NULL);
  if (napi_get_typedarray_info(env, code, NULL, &size, &bytes, NULL, NULL) != napi_ok) {
    napi_throw_type_error(env, NULL, "the guest's code must be a Uint8Array");
    return NULL;
  }
  struct guest *guest = malloc(sizeof *guest);
  const char *step = "memory";
  if (guest == NULL || guest_create(guest, bytes, size, &step) != 0) {
    char message[128];
    snprintf(message, sizeof message, "the C loop's guest: %s: %s", step, strerror(errno));
    free(guest);
    napi_throw_error(env, NULL, message);
    return NULL;
  }
  napi_create_external(env, guest, destroy_guest, NULL, &result);
  return result;
}

struct arguments {
  struct guest *guest;
  uint32_t count;
};

static struct arguments arguments_of(napi_env env, napi_callback_info info) {
  size_t argc = 2;
  napi_value argv[2];
  struct arguments arguments = {NULL, 0};
  napi_get_cb_info(env, info, &argc, argv, NULL, NULL);
  void *guest = NULL;
  if (napi_get_value_external(env, argv[0], &guest) == napi_ok &&
      napi_get_value_uint32(env, argv[1], &arguments.count) == napi_ok) {
    arguments.guest = guest;
  } else {
    napi_throw_type_error(env, NULL, "expected a guest and a count");
  }
  return arguments;
}

static napi_value run_loop(napi_env env, napi_callback_info info, unsigned long request) {
  struct arguments arguments = arguments_of(env, info);
  if (arguments.guest == NULL) return NULL;
  return number(env, (double)exit_loop(arguments.guest, request, arguments.count));
}

static napi_value bound_exit_loop(napi_env env, napi_callback_info info) {
  return run_loop(env, info, KVM_RUN);
}

static napi_value bound_bare_loop(napi_env env, napi_callback_info info) {
  return run_loop(env, info, BARE_REQUEST);
}

static napi_value bound_copy_regs(napi_env env, napi_callback_info info) {
  struct arguments arguments = arguments_of(env, info);
  if (arguments.guest != NULL) copy_regs(arguments.guest, arguments.count);
  return NULL;
}

static napi_value bound_copy_sregs(napi_env env, napi_callback_info info) {
  struct arguments arguments = arguments_of(env, info);
  if (arguments.guest != NULL) copy_sregs(arguments.guest, arguments.count);
  return NULL;
}

// (guest, busy, times): as many exits as there is room for in the Float64Array.
static napi_value measure(napi_env env, napi_callback_info info,
                          int (*function)(struct guest *, uint32_t, bool, double *)) {
  size_t argc = 3, length = 0;
  napi_value argv[3];
  void *guest = NULL, *times = NULL;
  bool busy = false;
  napi_get_cb_info(env, info, &argc, argv, NULL, NULL);
  if (napi_get_value_external(env, argv[0], &guest) != napi_ok ||
      napi_get_value_bool(env, argv[1], &busy) != napi_ok ||
      napi_get_typedarray_info(env, argv[2], NULL, &length, &times, NULL, NULL) != napi_ok) {
    napi_throw_type_error(env, NULL, "expected a guest, a boolean and a Float64Array");
  } else if (function(guest, (uint32_t)length, busy, times) != 0) {
    napi_throw_error(env, NULL, strerror(errno));
  }
  return NULL;
}

static napi_value bound_ioctl_loop(napi_env env, napi_callback_info info) {
  size_t argc = 4, length = 0;
  napi_value argv[4];
  void *guest = NULL, *bytes = NULL;
  uint32_t request = 0, count = 0;
  napi_get_cb_info(env, info, &argc, argv, NULL, NULL);
  if (napi_get_value_external(env, argv[0], &guest) != napi_ok ||
      napi_get_value_uint32(env, argv[1], &request) != napi_ok ||
      napi_get_arraybuffer_info(env, argv[2], &bytes, &length) != napi_ok ||
      napi_get_value_uint32(env, argv[3], &count) != napi_ok) {
    napi_throw_type_error(env, NULL, "expected a guest, a request, an ArrayBuffer and a count");
  } else if (ioctl_loop(guest, request, bytes, count) != 0) {
    napi_throw_error(env, NULL, strerror(errno));
  }
  return NULL;
}

static napi_value bound_handoff(napi_env env, napi_callback_info info) {
  return measure(env, info, handoff);
}

static napi_value bound_doorbell(napi_env env, napi_callback_info info) {
  return measure(env, info, doorbell);
}

// (processors, boot code, code of the others, times): fills the Float64Array of four.
static napi_value bound_smp(napi_env env, napi_callback_info info) {
  size_t argc = 4, sizes[3];
  napi_value argv[4];
  void *data[3];
  uint32_t processors = 0;
  napi_get_cb_info(env, info, &argc, argv, NULL, NULL);
  bool ok = napi_get_value_uint32(env, argv[0], &processors) == napi_ok;
  for (int i = 0; i < 3 && ok; i++) {
    ok = napi_get_typedarray_info(env, argv[i + 1], NULL, &sizes[i], &data[i], NULL, NULL) ==
         napi_ok;
  }
  struct smp_times times;
  const char *step = "arguments";
  errno = EINVAL;
  if (ok && sizes[2] == 4 &&
      smp_run(processors, data[0], sizes[0], data[1], sizes[1], &times, &step) == 0) {
    memcpy(data[2], &times, sizeof times);
    return NULL;
  }
  char message[128];
  snprintf(message, sizeof message, "%u processors in C: %s: %s", processors, step,
           strerror(errno));
  napi_throw_error(env, NULL, message);
  return NULL;
}

static void destroy_interrupted(napi_env env, void *data, void *hint) {
  interrupted_destroy(data);
  free(data);
}

static napi_value create_interrupted(napi_env env, napi_callback_info info) {
  size_t argc = 2, size = 0;
  napi_value argv[2], result = NULL;
  void *bytes = NULL;
  uint32_t handler = 0;
  napi_get_cb_info(env, info, &argc, argv, NULL, NULL);
  if (napi_get_typedarray_info(env, argv[0], NULL, &size, &bytes, NULL, NULL) != napi_ok ||
      napi_get_value_uint32(env, argv[1], &handler) != napi_ok) {
    napi_throw_type_error(env, NULL, "expected the guest's code and its handler's address");
    return NULL;
  }
  struct interrupted *vm = malloc(sizeof *vm);
  const char *step = "memory";
  if (vm == NULL || interrupted_create(vm, bytes, size, (uint16_t)handler, &step) != 0) {
    char message[128];
    snprintf(message, sizeof message, "the C side's guest: %s: %s", step, strerror(errno));
    free(vm);
    napi_throw_error(env, NULL, message);
    return NULL;
  }
  napi_create_external(env, vm, destroy_interrupted, NULL, &result);
  return result;
}

static napi_value bound_interrupt_trips(napi_env env, napi_callback_info info) {
  size_t argc = 2, count = 0;
  napi_value argv[2];
  void *vm = NULL, *times = NULL;
  napi_get_cb_info(env, info, &argc, argv, NULL, NULL);
  if (napi_get_value_external(env, argv[0], &vm) != napi_ok ||
      napi_get_typedarray_info(env, argv[1], NULL, &count, &times, NULL, NULL) != napi_ok) {
    napi_throw_type_error(env, NULL, "expected a guest and a Float64Array");
  } else if (interrupt_trips(vm, times, count) != 0) {
    napi_throw_error(env, NULL, "the guest does not answer");
  }
  return NULL;
}

static napi_value interrupts(napi_env env, napi_callback_info info,
                             int (*raise)(struct interrupted *, uint32_t)) {
  struct arguments arguments = arguments_of(env, info);
  if (arguments.guest != NULL && raise((void *)arguments.guest, arguments.count) != 0) {
    napi_throw_error(env, NULL, strerror(errno));
  }
  return NULL;
}

static napi_value bound_signal_msi(napi_env env, napi_callback_info info) {
  return interrupts(env, info, signal_msi);
}

static napi_value bound_irq_line(napi_env env, napi_callback_info info) {
  return interrupts(env, info, irq_line);
}

NAPI_MODULE_INIT() {
  const struct {
    const char *name;
    napi_callback function;
  } exported[] = {
      {"cpuTime", cpu_time},
      {"wallTime", wall_time},
      {"createGuest", create_guest},
      {"exitLoop", bound_exit_loop},
      {"bareLoop", bound_bare_loop},
      {"copyRegs", bound_copy_regs},
      {"copySregs", bound_copy_sregs},
      {"handoff", bound_handoff},
      {"doorbell", bound_doorbell},
      {"ioctlLoop", bound_ioctl_loop},
      {"smp", bound_smp},
      {"createInterrupted", create_interrupted},
      {"interruptTrips", bound_interrupt_trips},
      {"signalMsi", bound_signal_msi},
      {"irqLine", bound_irq_line},
  };
  for (size_t i = 0; i < sizeof exported / sizeof *exported; i++) {
    napi_value function = NULL;
    napi_create_function(env, exported[i].name, NAPI_AUTO_LENGTH, exported[i].function, NULL,
                         &function);
    napi_set_named_property(env, exports, exported[i].name, function);
  }
  add_queue_functions(env, exports);
  add_tracked_functions(env, exports);
  add_tested_functions(env, exports);
  return exports;
}
