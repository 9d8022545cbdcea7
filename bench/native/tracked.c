#define _GNU_SOURCE
#include "tracked.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#define LOW_SIZE 0x10000
#define CODE 0x8000
#define MAILBOXES 0x9000
#define TABLES 0x1000
#define SLOT 1
#define PAGE 4096
#define PAGES (TRACKED_SIZE / PAGE)
#define WORDS (PAGES / 64)

typedef void (*range_handler)(uint64_t first, uint64_t end);

static int64_t pages_seen;
static int64_t ranges_seen;

static void count_range(uint64_t first, uint64_t end) {
  pages_seen += (int64_t)(end - first);
  ranges_seen++;
}

// Behind a pointer, as a VMM's own function would be.
static volatile range_handler handler = count_range;

static void *shared_memory(uint64_t size) {
  int fd = memfd_create("bench", MFD_CLOEXEC);
  if (fd < 0) return MAP_FAILED;
  void *data = MAP_FAILED;
  if (ftruncate(fd, (off_t)size) == 0) {
    data = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0);
  }
  close(fd);
  return data;
}

static int map_slot(int vm_fd, uint32_t slot, uint32_t flags, uint64_t gpa, uint64_t size,
                    void *data) {
  struct kvm_userspace_memory_region region = {
      .slot = slot,
      .flags = flags,
      .guest_phys_addr = gpa,
      .memory_size = size,
      .userspace_addr = (uintptr_t)data,
  };
  return ioctl(vm_fd, KVM_SET_USER_MEMORY_REGION, &region);
}

static int enter_long_mode(int vcpu_fd, uint32_t id) {
  struct kvm_sregs sregs;
  if (ioctl(vcpu_fd, KVM_GET_SREGS, &sregs) < 0) return -1;
  struct kvm_segment data = {.limit = 0xffffffff,
                             .selector = 0x13,
                             .type = 3,
                             .present = 1,
                             .dpl = 3,
                             .db = 1,
                             .s = 1,
                             .g = 1};
  sregs.ds = sregs.es = sregs.fs = sregs.gs = sregs.ss = data;
  sregs.cs = data;
  sregs.cs.selector = 0x1b;
  sregs.cs.type = 11;
  sregs.cs.db = 0;
  sregs.cs.l = 1;
  sregs.cr3 = TABLES;
  sregs.cr4 |= 0x20;
  sregs.cr0 |= 0x80000001;
  sregs.efer |= 0x500;
  if (ioctl(vcpu_fd, KVM_SET_SREGS, &sregs) < 0) return -1;
  struct kvm_regs regs = {.rip = CODE, .rflags = 2, .r15 = MAILBOXES + id * 64};
  return ioctl(vcpu_fd, KVM_SET_REGS, &regs);
}

static int add_vcpu(struct tracked *t, uint32_t id) {
  int fd = t->vcpu_fds[id] = ioctl(t->vm_fd, KVM_CREATE_VCPU, id);
  if (fd < 0) return -1;
  void *run = mmap(NULL, t->run_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (run == MAP_FAILED) return -1;
  t->runs[id] = run;
  if (t->method == TRACKED_RING) {
    void *ring = mmap(NULL, RING_ENTRIES * sizeof(struct kvm_dirty_gfn), PROT_READ | PROT_WRITE,
                      MAP_SHARED, fd, KVM_DIRTY_LOG_PAGE_OFFSET * PAGE);
    if (ring == MAP_FAILED) return -1;
    t->rings[id] = ring;
  }
  return enter_long_mode(fd, id);
}

static int enable(int vm_fd, uint32_t capability, uint64_t argument) {
  struct kvm_enable_cap cap = {.cap = capability, .args = {argument}};
  return ioctl(vm_fd, KVM_ENABLE_CAP, &cap);
}

static int set_up(struct tracked *t, const uint8_t *low, size_t low_size, const char **step) {
  *step = "/dev/kvm";
  if ((t->system_fd = open("/dev/kvm", O_RDWR | O_CLOEXEC)) < 0) return -1;
  *step = "KVM_CREATE_VM";
  if ((t->vm_fd = ioctl(t->system_fd, KVM_CREATE_VM, 0)) < 0) return -1;
  *step = "the tracking";
  if (t->method == TRACKED_MANUAL &&
      enable(t->vm_fd, KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE)) {
    return -1;
  }
  if (t->method == TRACKED_RING &&
      enable(t->vm_fd, KVM_CAP_DIRTY_LOG_RING, RING_ENTRIES * sizeof(struct kvm_dirty_gfn))) {
    return -1;
  }
  *step = "memory";
  void *low_data = shared_memory(LOW_SIZE);
  void *ram = shared_memory(TRACKED_SIZE);
  if (low_data != MAP_FAILED) t->low = low_data;
  if (ram != MAP_FAILED) t->ram = ram;
  t->bitmap = calloc(WORDS, 8);
  if (t->low == NULL || t->ram == NULL || t->bitmap == NULL || low_size > LOW_SIZE) return -1;
  memcpy(t->low, low, low_size);
  if (map_slot(t->vm_fd, 0, 0, 0, LOW_SIZE, t->low) < 0) return -1;
  if (map_slot(t->vm_fd, SLOT, KVM_MEM_LOG_DIRTY_PAGES, TRACKED_GPA, TRACKED_SIZE, t->ram) < 0) {
    return -1;
  }
  *step = "vCPUs";
  int run_size = ioctl(t->system_fd, KVM_GET_VCPU_MMAP_SIZE, 0);
  if (run_size < 0) return -1;
  t->run_size = (size_t)run_size;
  for (uint32_t id = 0; id < TRACKED_VCPUS; id++) {
    if (add_vcpu(t, id) < 0) return -1;
  }
  return 0;
}

int tracked_create(struct tracked *t, enum tracked_method method, const uint8_t *low,
                   size_t low_size, const char **step) {
  *t = (struct tracked){.method = method, .system_fd = -1, .vm_fd = -1};
  for (int i = 0; i < TRACKED_VCPUS; i++) t->vcpu_fds[i] = -1;
  if (set_up(t, low, low_size, step) == 0) return 0;
  int error = errno;
  tracked_destroy(t);
  errno = error;
  return -1;
}

void tracked_destroy(struct tracked *t) {
  for (int i = 0; i < TRACKED_VCPUS; i++) {
    if (t->runs[i] != NULL) munmap(t->runs[i], t->run_size);
    if (t->rings[i] != NULL) munmap(t->rings[i], RING_ENTRIES * sizeof(struct kvm_dirty_gfn));
    if (t->vcpu_fds[i] >= 0) close(t->vcpu_fds[i]);
  }
  if (t->vm_fd >= 0) close(t->vm_fd);
  if (t->system_fd >= 0) close(t->system_fd);
  if (t->low != NULL) munmap(t->low, LOW_SIZE);
  if (t->ram != NULL) munmap(t->ram, TRACKED_SIZE);
  free(t->bitmap);
}

void use_cpu(int cpu) {
  cpu_set_t cpus;
  CPU_ZERO(&cpus);
  CPU_SET(cpu, &cpus);
  // A host without that CPU has no choice to make.
  sched_setaffinity(0, sizeof cpus, &cpus);
}

// Returns an errno.
static void *run_vcpus(void *argument) {
  struct tracked *t = argument;
  use_cpu(TRACKED_VCPU_CPU);
  for (int i = 0; i < TRACKED_VCPUS; i++) {
    if (ioctl(t->vcpu_fds[i], KVM_RUN, 0) < 0) return (void *)(intptr_t)errno;
    if (t->runs[i]->exit_reason != KVM_EXIT_MMIO) return (void *)(intptr_t)EPROTO;
  }
  return NULL;
}

int tracked_write(struct tracked *t) {
  pthread_t thread;
  void *error;
  if ((errno = pthread_create(&thread, NULL, run_vcpus, t)) != 0) return -1;
  pthread_join(thread, &error);
  errno = (int)(intptr_t)error;
  return errno == 0 ? 0 : -1;
}

// Hands out the ranges of the bits, and clears them.
static void hand_out(uint64_t *words) {
  int64_t open = -1;
  for (uint64_t i = 0; i < WORDS; i++) {
    uint64_t word = words[i];
    uint64_t base = i * 64;
    if (word == 0) {
      if (open >= 0) handler((uint64_t)open, base);
      open = -1;
      continue;
    }
    words[i] = 0;
    if (word == UINT64_MAX) {
      if (open < 0) open = (int64_t)base;
      continue;
    }
    uint64_t at = 0;
    while (at < 64) {
      uint64_t rest = word >> at;
      if (open < 0) {
        if (rest == 0) break;
        at += (uint64_t)__builtin_ctzll(rest);
        open = (int64_t)(base + at);
      } else {
        uint64_t ones = ~rest == 0 ? 64 : (uint64_t)__builtin_ctzll(~rest);
        if (at + ones >= 64) break;
        at += ones;
        handler((uint64_t)open, base + at);
        open = -1;
      }
    }
  }
  if (open >= 0) handler((uint64_t)open, PAGES);
}

static void harvest(struct tracked *t, int vcpu) {
  struct kvm_dirty_gfn *ring = t->rings[vcpu];
  for (;;) {
    struct kvm_dirty_gfn *entry = &ring[t->next[vcpu]];
    if (__atomic_load_n(&entry->flags, __ATOMIC_ACQUIRE) != KVM_DIRTY_GFN_F_DIRTY) return;
    if (entry->slot == SLOT && entry->offset < PAGES) {
      t->bitmap[entry->offset / 64] |= UINT64_C(1) << (entry->offset % 64);
    }
    __atomic_store_n(&entry->flags, KVM_DIRTY_GFN_F_RESET, __ATOMIC_RELEASE);
    t->next[vcpu] = (t->next[vcpu] + 1) % RING_ENTRIES;
  }
}

int64_t tracked_collect(struct tracked *t) {
  pages_seen = 0;
  ranges_seen = 0;
  if (t->method == TRACKED_RING) {
    for (int i = 0; i < TRACKED_VCPUS; i++) harvest(t, i);
    if (ioctl(t->vm_fd, KVM_RESET_DIRTY_RINGS, 0) < 0) return -1;
  } else {
    struct kvm_dirty_log log = {.slot = SLOT, .dirty_bitmap = t->bitmap};
    if (ioctl(t->vm_fd, KVM_GET_DIRTY_LOG, &log) < 0) return -1;
  }
  if (t->method == TRACKED_MANUAL) {
    struct kvm_clear_dirty_log clear = {
        .slot = SLOT, .num_pages = PAGES, .dirty_bitmap = t->bitmap};
    if (ioctl(t->vm_fd, KVM_CLEAR_DIRTY_LOG, &clear) < 0) return -1;
  }
  hand_out(t->bitmap);
  return pages_seen;
}

int create_vm(uint64_t size) {
  int system_fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
  int vm_fd = system_fd < 0 ? -1 : ioctl(system_fd, KVM_CREATE_VM, 0);
  void *ram = shared_memory(size);
  int result = -1;
  if (vm_fd >= 0 && ram != MAP_FAILED) result = map_slot(vm_fd, 0, 0, 0, size, ram);
  int error = errno;
  if (vm_fd >= 0) close(vm_fd);
  if (system_fd >= 0) close(system_fd);
  if (ram != MAP_FAILED) munmap(ram, size);
  errno = error;
  return result;
}
