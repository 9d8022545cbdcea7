// The loops that the library is compared with: what a VMM in C would write.
#pragma once

#include "guest.h"

// Not of KVM's type (0xAE), so that the kernel refuses it before it loads the vCPU's state. Must be
// the request that native/vcpu.cc makes when it is built with NODE_KVM_BARE_RUN.
#define BARE_REQUEST 0xff80

// Handles `count` exits and gives the sum of the values seen; -1 for an exit that nobody expects.
// `request` is KVM_RUN or BARE_REQUEST.
int64_t exit_loop(struct guest *guest, unsigned long request, uint32_t count);

// Reads and writes back, `count` times, the registers that travel in the run page.
void copy_regs(struct guest *guest, uint32_t count);
void copy_sregs(struct guest *guest, uint32_t count);

// Issues a request on the guest's vCPU, `count` times with the same argument; 0, or -1 with errno set.
int ioctl_loop(struct guest *guest, unsigned long request, void *argument, uint32_t count);
