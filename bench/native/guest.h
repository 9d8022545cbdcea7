// A virtual machine made with raw ioctls: the same one that the benchmarks make with the library.
#pragma once

#include <linux/kvm.h>
#include <stddef.h>
#include <stdint.h>

#define GUEST_RAM_SIZE 0x10000
#define GUEST_ENTRY 0x1000

struct guest {
  int system_fd;
  int vm_fd;
  int vcpu_fd;
  uint8_t *ram;
  struct kvm_run *run;
  size_t run_size;
};

// 64 KiB of RAM at 0 with the code at GUEST_ENTRY, one vCPU in real mode about to run it. On failure
// the result is -1 with errno set, and `step` names the call that failed.
int guest_create(struct guest *guest, const uint8_t *code, size_t size, const char **step);
// The same with interrupt controllers in the kernel and APIC ids of 32 bits, for more processors.
int guest_create_smp(struct guest *guest, const uint8_t *code, size_t size, const char **step);
void guest_destroy(struct guest *guest);
