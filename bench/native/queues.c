#define _GNU_SOURCE
#include "queues.h"

#include <errno.h>
#include <linux/virtio_ring.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define MASK (QUEUE_SIZE - 1)
#define PER_SLOT 3
#define HEADER 12
#define UDP_HEADERS 42
#define SECTOR 512
#define BUDGET 64
#define SEND_BATCH 32

struct disk_header {
  uint32_t type, reserved;
  uint64_t sector;
};

struct rings {
  struct vring_desc *descriptors;
  struct vring_avail *available;
  struct vring_used *used;
  _Atomic uint16_t *used_event;   // the driver's: interrupt behind this one
  _Atomic uint16_t *avail_event;  // the device's: notify behind this one
};

static struct rings rings_of(const struct queue *queue) {
  uint8_t *at = queue->ram + queue->gpa;
  struct rings rings = {(void *)at, (void *)(at + 0x1000), (void *)(at + 0x2000), NULL, NULL};
  rings.used_event = (void *)&rings.available->ring[QUEUE_SIZE];
  rings.avail_event = (void *)&rings.used->ring[QUEUE_SIZE];
  return rings;
}

static uint16_t load_index(const uint16_t *index) {
  return atomic_load_explicit((_Atomic uint16_t *)index, memory_order_acquire);
}

static void store_index(uint16_t *index, uint16_t value) {
  atomic_store_explicit((_Atomic uint16_t *)index, value, memory_order_release);
}

static void signal_event(int fd) {
  const uint64_t one = 1;
  if (write(fd, &one, sizeof one) < 0) return;
}

static int wait_event(int fd, int milliseconds) {
  struct pollfd event = {fd, POLLIN, 0};
  uint64_t count;
  if (poll(&event, 1, milliseconds) <= 0) return -1;
  return read(fd, &count, sizeof count) < 0 ? -1 : 0;
}

// The device.

struct queue_device {
  struct queue queue;
  pthread_t thread;
  atomic_bool stopping;
  uint16_t next, used, told;
};

static uint32_t disk_request(const struct queue *queue, const struct iovec *parts, size_t count) {
  const struct disk_header *header = parts[0].iov_base;
  const off_t offset = (off_t)(header->sector * SECTOR);
  const int data = (int)count - 2;
  ssize_t done = queue->work == QUEUE_READ ? preadv(queue->file, parts + 1, data, offset)
                                           : pwritev(queue->file, parts + 1, data, offset);
  *(uint8_t *)parts[count - 1].iov_base = done < 0;
  return queue->work == QUEUE_READ ? (uint32_t)done + 1 : 1;
}

// Whether it was done; else the TAP has nothing.
static bool perform(const struct queue *queue, uint16_t head, uint32_t *written) {
  const struct rings rings = rings_of(queue);
  struct iovec parts[PER_SLOT];
  size_t count = 0;
  for (uint16_t i = head;; i = rings.descriptors[i].next) {
    const struct vring_desc *each = &rings.descriptors[i];
    parts[count++] = (struct iovec){queue->ram + each->addr, each->len};
    if (!(each->flags & VRING_DESC_F_NEXT)) break;
  }
  ssize_t done = 0;
  switch (queue->work) {
    case QUEUE_SEND:
      if (writev(queue->file, parts, (int)count) < 0) return errno != EAGAIN;
      break;
    case QUEUE_RECEIVE:
      done = readv(queue->file, parts, (int)count);
      if (done < 0) return false;
      *written = (uint32_t)done;
      break;
    default:
      *written = disk_request(queue, parts, count);
  }
  return true;
}

static void interrupt(struct queue_device *device, const struct rings *rings) {
  if (device->told == device->used) return;
  atomic_thread_fence(memory_order_seq_cst);
  if (vring_need_event(*rings->used_event, device->used, device->told)) {
    signal_event(device->queue.call);
  }
  device->told = device->used;
}

// Whether there is nothing more to do until somebody says so.
static bool serve_some(struct queue_device *device, const struct rings *rings) {
  for (int i = 0; i < BUDGET; i++) {
    if (device->next == load_index(&rings->available->idx)) {
      *rings->avail_event = device->next;
      atomic_thread_fence(memory_order_seq_cst);
      if (device->next == load_index(&rings->available->idx)) return true;
    }
    const uint16_t head = rings->available->ring[device->next & MASK];
    uint32_t written = 0;
    if (!perform(&device->queue, head, &written)) return true;
    device->next++;
    rings->used->ring[device->used & MASK] = (struct vring_used_elem){head, written};
    store_index(&rings->used->idx, ++device->used);
  }
  return false;
}

static void *serve(void *argument) {
  struct queue_device *device = argument;
  const struct queue *queue = &device->queue;
  const struct rings rings = rings_of(queue);
  const int files = queue->work == QUEUE_RECEIVE ? 2 : 1;
  struct pollfd events[2] = {{queue->kick, POLLIN, 0}, {queue->file, POLLIN, 0}};
  while (!device->stopping) {
    const bool idle = serve_some(device, &rings);
    interrupt(device, &rings);
    if (!idle) continue;
    poll(events, (nfds_t)files, -1);
    if (events[0].revents) wait_event(queue->kick, 0);
  }
  return NULL;
}

struct queue_device *queue_device_start(const struct queue *queue) {
  struct queue_device *device = calloc(1, sizeof *device);
  if (device == NULL) return NULL;
  device->queue = *queue;
  if ((errno = pthread_create(&device->thread, NULL, serve, device)) == 0) return device;
  free(device);
  return NULL;
}

void queue_device_stop(struct queue_device *device) {
  device->stopping = true;
  signal_event(device->queue.kick);
  pthread_join(device->thread, NULL);
  free(device);
}

// The driver. Slot i has descriptors from PER_SLOT * i on, and memory of its own.

static uint64_t memory_of(const struct queue *queue, uint32_t slot) {
  return queue->gpa + QUEUE_AREA + (uint64_t)slot * QUEUE_SLOT * 2;
}

static bool is_disk(const struct queue *queue) { return queue->work >= QUEUE_READ; }

static void describe(const struct queue *queue, uint32_t slot, uint32_t length) {
  struct vring_desc *at = rings_of(queue).descriptors + slot * PER_SLOT;
  const uint64_t memory = memory_of(queue, slot);
  const uint16_t next = (uint16_t)(slot * PER_SLOT + 1);
  const uint16_t device_writes =
      queue->work == QUEUE_RECEIVE || queue->work == QUEUE_READ ? VRING_DESC_F_WRITE : 0;
  if (!is_disk(queue)) {
    // The frame goes to nobody's address: the host drops it as early as it can.
    const uint32_t size = HEADER + length + (device_writes ? UDP_HEADERS : 0);
    memset(queue->ram + memory, 2, size);
    memset(queue->ram + memory, 0, HEADER);
    at[0] = (struct vring_desc){memory, size, device_writes, 0};
    return;
  }
  struct disk_header *header = (void *)(queue->ram + memory);
  *header = (struct disk_header){.type = queue->work == QUEUE_WRITE};
  at[0] = (struct vring_desc){memory, sizeof *header, VRING_DESC_F_NEXT, next};
  at[1] = (struct vring_desc){memory + 0x1000, length, VRING_DESC_F_NEXT | device_writes,
                              (uint16_t)(next + 1)};
  at[2] = (struct vring_desc){memory + 0x800, 1, VRING_DESC_F_WRITE, 0};
}

void queue_clear(const struct queue *queue, const struct queue_load *load) {
  memset(queue->ram + queue->gpa, 0, 0x3000);
  for (uint32_t i = 0; i < load->depth; i++) describe(queue, i, load->length);
  while (wait_event(queue->kick, 0) == 0 || wait_event(queue->call, 0) == 0) continue;
}

static double clock_ns(clockid_t id) {
  struct timespec now;
  clock_gettime(id, &now);
  return (double)now.tv_sec * 1e9 + (double)now.tv_nsec;
}

static int send_frames(const struct queue *queue, uint32_t count, uint32_t length) {
  struct iovec part = {queue->ram + memory_of(queue, QUEUE_SIZE / PER_SLOT), length};
  struct mmsghdr messages[SEND_BATCH];
  for (int i = 0; i < SEND_BATCH; i++) {
    messages[i].msg_hdr = (struct msghdr){.msg_iov = &part, .msg_iovlen = 1};
  }
  while (count > 0) {
    const int sent =
        sendmmsg(queue->sender, messages, count < SEND_BATCH ? count : SEND_BATCH, 0);
    if (sent < 0) return -1;
    count -= (uint32_t)sent;
  }
  return 0;
}

struct driver {
  const struct queue *queue;
  const struct queue_load *load;
  struct rings rings;
  uint16_t free[QUEUE_SIZE];
  uint32_t free_count, started, done;
  uint16_t available, kicked, used;
  uint64_t random;
};

static void place_request(struct driver *driver, uint32_t slot) {
  const struct queue_load *load = driver->load;
  const uint64_t blocks = load->size / load->length;
  struct disk_header *header = (void *)(driver->queue->ram + memory_of(driver->queue, slot));
  // Small ones anywhere, large ones in a row.
  driver->random ^= driver->random << 13;
  driver->random ^= driver->random >> 7;
  driver->random ^= driver->random << 17;
  const uint64_t block = load->length <= 4096 ? driver->random : driver->started;
  header->sector = block % blocks * (load->length / SECTOR);
}

static int start_requests(struct driver *driver) {
  const uint32_t before = driver->started;
  while (driver->free_count > 0 && driver->started < driver->load->count) {
    const uint16_t slot = driver->free[--driver->free_count];
    if (is_disk(driver->queue)) place_request(driver, slot);
    driver->rings.available->ring[driver->available++ & MASK] = (uint16_t)(slot * PER_SLOT);
    driver->started++;
  }
  if (driver->started == before) return 0;
  store_index(&driver->rings.available->idx, driver->available);
  atomic_thread_fence(memory_order_seq_cst);
  if (vring_need_event(*driver->rings.avail_event, driver->available, driver->kicked)) {
    signal_event(driver->queue->kick);
  }
  driver->kicked = driver->available;
  if (driver->queue->work != QUEUE_RECEIVE) return 0;
  return send_frames(driver->queue, driver->started - before, driver->load->length);
}

static void take_used(struct driver *driver) {
  while (driver->used != load_index(&driver->rings.used->idx)) {
    const uint32_t head = driver->rings.used->ring[driver->used++ & MASK].id;
    driver->free[driver->free_count++] = (uint16_t)(head / PER_SLOT);
    driver->done++;
  }
}

int queue_drive(const struct queue *queue, const struct queue_load *load,
                struct queue_times *times) {
  struct driver driver = {.queue = queue, .load = load, .rings = rings_of(queue)};
  driver.random = 88172645463325252ull;
  driver.used = driver.rings.used->idx;
  driver.available = driver.kicked = driver.rings.available->idx;
  for (uint32_t i = 0; i < load->depth; i++) driver.free[driver.free_count++] = (uint16_t)i;
  const double wall = clock_ns(CLOCK_MONOTONIC);
  const double process = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
  const double own = clock_ns(CLOCK_THREAD_CPUTIME_ID);
  while (driver.done < load->count) {
    if (start_requests(&driver) != 0) return -1;
    *driver.rings.used_event = driver.used;
    atomic_thread_fence(memory_order_seq_cst);
    if (driver.used == load_index(&driver.rings.used->idx) && wait_event(queue->call, 2000) != 0) {
      errno = ETIMEDOUT;
      return -1;
    }
    take_used(&driver);
  }
  times->wall = clock_ns(CLOCK_MONOTONIC) - wall;
  times->others = clock_ns(CLOCK_PROCESS_CPUTIME_ID) - process -
                  (clock_ns(CLOCK_THREAD_CPUTIME_ID) - own);
  return 0;
}
