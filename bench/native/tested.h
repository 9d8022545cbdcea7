// A test guest made with raw ioctls: the same that `guest()` of node-kvm/testing makes.
#pragma once

#include <linux/kvm.h>
#include <stddef.h>
#include <stdint.h>

// What the library's guest begins with.
struct tested_state {
  const uint8_t *ram;
  size_t ram_size;
  const struct kvm_cpuid2 *cpuid;
  const struct kvm_sregs *sregs;
  const struct kvm_regs *regs;
};

struct tested {
  struct tested_state state;
  int system_fd;
  int vm_fd;
  int vcpu_fd;
  uint8_t *ram;
  struct kvm_run *run;
  size_t run_size;
};

// From nothing to a vCPU that stands at the code's beginning. -1 with errno on failure.
int tested_create(struct tested *tested, const struct tested_state *state);
// Runs from the beginning with `count` in RCX until the code says that it is done.
int tested_run(struct tested *tested, uint64_t count);
// RAM and registers as they were.
int tested_reset(struct tested *tested);
void tested_destroy(struct tested *tested);
