// Both ends of a split virtqueue without a guest: a driver, and the device as a plain C program would have
// it, which believes what the driver writes.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// As bench/queues.ts has them.
#define QUEUE_SIZE 256
#define QUEUE_AREA 0x100000
#define QUEUE_SLOT 0x20000

// What a request is, and what the C device does with it.
enum queue_work {
  QUEUE_SEND,     // a frame: writev to a TAP
  QUEUE_RECEIVE,  // a buffer: readv from a TAP, to which the driver has frames sent
  QUEUE_READ,     // of a disk: preadv
  QUEUE_WRITE,    // of a disk: pwritev
};

struct queue {
  enum queue_work work;
  uint8_t *ram;   // guest-physical addresses are offsets in it
  uint64_t gpa;   // of the ring: descriptors, available and used ring in a page each
  int kick, call; // eventfds
  int file;       // the C device's TAP or file
  int sender;     // a UDP socket that reaches the TAP, for QUEUE_RECEIVE
};

struct queue_load {
  uint32_t count, depth;
  uint32_t length;  // of a frame to send, a datagram to receive, or a disk's request
  uint64_t size;    // of the disk
};

// Nanoseconds for all of it: by the wall clock, and CPU time of all threads but this one.
struct queue_times {
  double wall, others;
};

// The device, on a thread of its own, until queue_device_stop().
struct queue_device;
struct queue_device *queue_device_start(const struct queue *queue);
void queue_device_stop(struct queue_device *device);

// A fresh ring, with its descriptors for `depth` requests at once.
void queue_clear(const struct queue *queue, const struct queue_load *load);
// So many requests, as many at once, to whoever serves the ring. -1 with errno when nobody does.
int queue_drive(const struct queue *queue, const struct queue_load *load, struct queue_times *times);
