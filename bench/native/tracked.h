// A virtual machine with 1 GiB of RAM whose vCPUs write to pages by command, and the collection of
// those pages as a VMM in C would do it.
#pragma once

#include <linux/kvm.h>
#include <stddef.h>
#include <stdint.h>

// As bench/tracked.ts has them.
#define TRACKED_VCPUS 5
#define TRACKED_GPA 0x40000000ull
#define TRACKED_SIZE 0x40000000ull
#define RING_ENTRIES 0x10000
#define TRACKED_VCPU_CPU 1

enum tracked_method { TRACKED_LOG, TRACKED_MANUAL, TRACKED_RING };

struct tracked {
  enum tracked_method method;
  int system_fd, vm_fd;
  int vcpu_fds[TRACKED_VCPUS];
  struct kvm_run *runs[TRACKED_VCPUS];
  struct kvm_dirty_gfn *rings[TRACKED_VCPUS];
  uint32_t next[TRACKED_VCPUS];
  size_t run_size;
  uint8_t *low, *ram;
  uint64_t *bitmap;
};

int tracked_create(struct tracked *tracked, enum tracked_method method, const uint8_t *low,
                   size_t low_size, const char **step);
void tracked_destroy(struct tracked *tracked);
// Lets each vCPU carry out the command in its mailbox, on another thread than the caller's.
int tracked_write(struct tracked *tracked);
// The pages written since the last time, handed out as ranges; how many. -1 with errno.
int64_t tracked_collect(struct tracked *tracked);
// Restricts the calling thread to one CPU.
void use_cpu(int cpu);
// Makes a VM with so much RAM at 0, and closes it.
int create_vm(uint64_t size);
