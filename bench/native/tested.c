#define _GNU_SOURCE
#include "tested.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

// The ports of src/testing/layout.ts.
enum { PORT_DONE = 0xe0, PORT_VALUE = 0xe2, PORT_CALL = 0xe3 };

static uint8_t *create_ram(size_t size) {
  int fd = memfd_create("bench", MFD_CLOEXEC);
  if (fd < 0) return NULL;
  void *ram = MAP_FAILED;
  if (ftruncate(fd, size) == 0) {
    ram = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0);
  }
  close(fd);
  return ram == MAP_FAILED ? NULL : ram;
}

static int create_vcpu(struct tested *tested) {
  if ((tested->vcpu_fd = ioctl(tested->vm_fd, KVM_CREATE_VCPU, 0)) < 0) return -1;
  int run_size = ioctl(tested->system_fd, KVM_GET_VCPU_MMAP_SIZE, 0);
  if (run_size < 0) return -1;
  void *run = mmap(NULL, run_size, PROT_READ | PROT_WRITE, MAP_SHARED, tested->vcpu_fd, 0);
  if (run == MAP_FAILED) return -1;
  tested->run = run;
  tested->run_size = run_size;
  return ioctl(tested->vcpu_fd, KVM_SET_CPUID2, tested->state.cpuid);
}

static int set_up(struct tested *tested) {
  const struct tested_state *state = &tested->state;
  if ((tested->system_fd = open("/dev/kvm", O_RDWR | O_CLOEXEC)) < 0) return -1;
  if ((tested->vm_fd = ioctl(tested->system_fd, KVM_CREATE_VM, 0)) < 0) return -1;
  if ((tested->ram = create_ram(state->ram_size)) == NULL) return -1;
  memcpy(tested->ram, state->ram, state->ram_size);
  struct kvm_userspace_memory_region region = {.memory_size = state->ram_size,
                                               .userspace_addr = (uintptr_t)tested->ram};
  if (ioctl(tested->vm_fd, KVM_SET_USER_MEMORY_REGION, &region) < 0) return -1;
  return create_vcpu(tested);
}

int tested_create(struct tested *tested, const struct tested_state *state) {
  *tested = (struct tested){.state = *state, .system_fd = -1, .vm_fd = -1, .vcpu_fd = -1};
  if (set_up(tested) == 0) return 0;
  int error = errno;
  tested_destroy(tested);
  errno = error;
  return -1;
}

int tested_run(struct tested *tested, uint64_t count) {
  struct kvm_regs regs = *tested->state.regs;
  regs.rcx = count;
  if (ioctl(tested->vcpu_fd, KVM_SET_SREGS, tested->state.sregs) < 0) return -1;
  if (ioctl(tested->vcpu_fd, KVM_SET_REGS, &regs) < 0) return -1;
  for (;;) {
    if (ioctl(tested->vcpu_fd, KVM_RUN, 0) < 0) {
      if (errno == EINTR) continue;
      return -1;
    }
    errno = EPROTO;
    if (tested->run->exit_reason != KVM_EXIT_IO) return -1;
    if (tested->run->io.port == PORT_DONE) return 0;
    if (tested->run->io.port != PORT_VALUE && tested->run->io.port != PORT_CALL) return -1;
  }
}

int tested_reset(struct tested *tested) {
  memcpy(tested->ram, tested->state.ram, tested->state.ram_size);
  if (ioctl(tested->vcpu_fd, KVM_SET_SREGS, tested->state.sregs) < 0) return -1;
  return ioctl(tested->vcpu_fd, KVM_SET_REGS, tested->state.regs);
}

void tested_destroy(struct tested *tested) {
  if (tested->run != NULL) munmap(tested->run, tested->run_size);
  if (tested->vcpu_fd >= 0) close(tested->vcpu_fd);
  if (tested->vm_fd >= 0) close(tested->vm_fd);
  if (tested->ram != NULL) munmap(tested->ram, tested->state.ram_size);
  if (tested->system_fd >= 0) close(tested->system_fd);
  *tested = (struct tested){.system_fd = -1, .vm_fd = -1, .vcpu_fd = -1};
}
