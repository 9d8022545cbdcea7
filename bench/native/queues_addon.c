// What bench/queues.ts calls, through plain Node-API.
#define _GNU_SOURCE
#include "queues_addon.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "queues.h"

#define NUMBERS 10

static napi_value failure(napi_env env, const char *step) {
  char message[128];
  snprintf(message, sizeof message, "in C: %s: %s", step, strerror(errno));
  napi_throw_error(env, NULL, message);
  return NULL;
}

static napi_value number(napi_env env, double value) {
  napi_value result = NULL;
  napi_create_double(env, value, &result);
  return result;
}

static napi_value file(napi_env env, int fd, const char *what) {
  return fd < 0 ? failure(env, what) : number(env, fd);
}

struct arguments {
  struct queue queue;
  struct queue_load load;
  double *times;
};

// (RAM, numbers in the order of QueueNumbers in bench/queues.ts, times).
static bool read_arguments(napi_env env, napi_callback_info info, struct arguments *to) {
  size_t argc = 3, size = 0, count = 0, times = 0;
  napi_value argv[3];
  void *ram = NULL, *numbers = NULL, *out = NULL;
  napi_get_cb_info(env, info, &argc, argv, NULL, NULL);
  errno = EINVAL;
  if (napi_get_typedarray_info(env, argv[0], NULL, &size, &ram, NULL, NULL) != napi_ok ||
      napi_get_typedarray_info(env, argv[1], NULL, &count, &numbers, NULL, NULL) != napi_ok ||
      napi_get_typedarray_info(env, argv[2], NULL, &times, &out, NULL, NULL) != napi_ok ||
      count != NUMBERS || times != 2) {
    failure(env, "arguments");
    return false;
  }
  const double *from = numbers;
  to->queue = (struct queue){(enum queue_work)from[0], ram,          (uint64_t)from[1],
                             (int)from[2],             (int)from[3], (int)from[4],
                             (int)from[5]};
  to->load = (struct queue_load){(uint32_t)from[6], (uint32_t)from[7], (uint32_t)from[8],
                                 (uint64_t)from[9]};
  to->times = out;
  return true;
}

static napi_value bound_clear(napi_env env, napi_callback_info info) {
  struct arguments arguments;
  if (read_arguments(env, info, &arguments)) queue_clear(&arguments.queue, &arguments.load);
  return NULL;
}

static napi_value bound_drive(napi_env env, napi_callback_info info) {
  struct arguments arguments;
  if (!read_arguments(env, info, &arguments)) return NULL;
  struct queue_times times;
  if (queue_drive(&arguments.queue, &arguments.load, &times) != 0) return failure(env, "a queue");
  arguments.times[0] = times.wall;
  arguments.times[1] = times.others;
  return NULL;
}

static napi_value bound_start(napi_env env, napi_callback_info info) {
  struct arguments arguments;
  if (!read_arguments(env, info, &arguments)) return NULL;
  struct queue_device *device = queue_device_start(&arguments.queue);
  napi_value result = NULL;
  if (device == NULL) return failure(env, "a thread");
  napi_create_external(env, device, NULL, NULL, &result);
  return result;
}

static napi_value bound_stop(napi_env env, napi_callback_info info) {
  size_t argc = 1;
  napi_value value;
  void *device = NULL;
  napi_get_cb_info(env, info, &argc, &value, NULL, NULL);
  if (napi_get_value_external(env, value, &device) == napi_ok) queue_device_stop(device);
  return NULL;
}

static napi_value bound_eventfd(napi_env env, napi_callback_info info) {
  return file(env, eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), "eventfd");
}

static bool read_text(napi_env env, napi_callback_info info, char *text, size_t size) {
  size_t argc = 1, length = 0;
  napi_value value;
  napi_get_cb_info(env, info, &argc, &value, NULL, NULL);
  return napi_get_value_string_utf8(env, value, text, size, &length) == napi_ok;
}

// The TAP of that name, as both sides need it.
static napi_value bound_open_tap(napi_env env, napi_callback_info info) {
  struct ifreq request = {.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR};
  const int header = 12;
  int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0 || !read_text(env, info, request.ifr_name, sizeof request.ifr_name) ||
      ioctl(fd, TUNSETIFF, &request) < 0 || ioctl(fd, TUNSETVNETHDRSZ, &header) < 0) {
    if (fd >= 0) close(fd);
    return failure(env, "the TAP");
  }
  return number(env, fd);
}

// A UDP socket to that address.
static napi_value bound_open_udp(napi_env env, napi_callback_info info) {
  char address[16];
  struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(9)};
  int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0 || !read_text(env, info, address, sizeof address) ||
      inet_aton(address, &to.sin_addr) == 0 || connect(fd, (void *)&to, sizeof to) != 0) {
    if (fd >= 0) close(fd);
    return failure(env, "a socket");
  }
  return number(env, fd);
}

void add_queue_functions(napi_env env, napi_value exports) {
  const struct {
    const char *name;
    napi_callback function;
  } exported[] = {
      {"queueClear", bound_clear}, {"queueDrive", bound_drive},  {"queueDeviceStart", bound_start},
      {"queueDeviceStop", bound_stop}, {"eventfd", bound_eventfd}, {"openTap", bound_open_tap},
      {"openUdp", bound_open_udp},
  };
  for (size_t i = 0; i < sizeof exported / sizeof *exported; i++) {
    napi_value function = NULL;
    napi_create_function(env, exported[i].name, NAPI_AUTO_LENGTH, exported[i].function, NULL,
                         &function);
    napi_set_named_property(env, exports, exported[i].name, function);
  }
}
