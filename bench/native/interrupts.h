// Interrupts into and out of a virtual machine made with raw ioctls, as a VMM in C would send them.
#pragma once

#include <linux/kvm.h>
#include <pthread.h>
#include <stddef.h>
#include <stdint.h>

#include "guest.h"

// A GSI that leads to a message with this vector, the port that is a doorbell: bench/guests.ts.
#define MSI_GSI 24
#define MSI_VECTOR 0x40
#define DOORBELL_PORT 0x50

struct interrupted {
  struct guest guest;
  int irqfd;
  int doorbell;
  pthread_t thread;
  int running;
};

// The guest with the handler at `handler`, LAPICs in the kernel, an irqfd and an ioeventfd.
int interrupted_create(struct interrupted *vm, const uint8_t *code, size_t size, uint16_t handler,
                       const char **step);
void interrupted_destroy(struct interrupted *vm);

// From the write to the irqfd to the doorbell of the guest's handler, in nanoseconds, `count` times.
// The vCPU runs on a thread of its own from the first call on.
int interrupt_trips(struct interrupted *vm, double *nanoseconds, size_t count);

// As many KVM_SIGNAL_MSI, or KVM_IRQ_LINE with the level going up and down.
int signal_msi(struct interrupted *vm, uint32_t count);
int irq_line(struct interrupted *vm, uint32_t count);
