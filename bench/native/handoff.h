// Exits handed from a vCPU's thread to another thread and back, as a VMM in C would do it, and the
// same for eventfds that a guest's writes raise.
#pragma once

#include <stdbool.h>

#include "guest.h"

// Has `count` exits answered by the calling thread, and stores for each how many nanoseconds the
// vCPU's thread was out of KVM_RUN. Both threads sleep on a futex while they wait; a `busy` calling
// thread never sleeps but looks. -1 with errno set on failure.
int handoff(struct guest *guest, uint32_t count, bool busy, double *times);

// Runs DOORBELL of bench/guests.ts for `count` rings and stores the nanoseconds from each answer to
// the one before. `busy` is as above.
int doorbell(struct guest *guest, uint32_t count, bool busy, double *times);
