#define _GNU_SOURCE
#include "guest.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

// RAM as the library makes it (shared memory of a memfd), so that both sides cost the kernel the same.
static uint8_t *create_ram(void) {
  int fd = memfd_create("bench", MFD_CLOEXEC);
  if (fd < 0) return NULL;
  void *ram = MAP_FAILED;
  if (ftruncate(fd, GUEST_RAM_SIZE) == 0) {
    ram = mmap(NULL, GUEST_RAM_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0);
  }
  close(fd);
  return ram == MAP_FAILED ? NULL : ram;
}

static int enter_real_mode(int vcpu_fd) {
  struct kvm_sregs sregs;
  if (ioctl(vcpu_fd, KVM_GET_SREGS, &sregs) < 0) return -1;
  sregs.cs.base = 0;
  sregs.cs.selector = 0;
  if (ioctl(vcpu_fd, KVM_SET_SREGS, &sregs) < 0) return -1;
  struct kvm_regs regs = {.rip = GUEST_ENTRY, .rflags = 2};
  return ioctl(vcpu_fd, KVM_SET_REGS, &regs);
}

static int create_irqchip(int vm_fd) {
  struct kvm_enable_cap wide_ids = {
      .cap = KVM_CAP_X2APIC_API,
      .args = {KVM_X2APIC_API_USE_32BIT_IDS | KVM_X2APIC_API_DISABLE_BROADCAST_QUIRK}};
  if (ioctl(vm_fd, KVM_ENABLE_CAP, &wide_ids) < 0) return -1;
  return ioctl(vm_fd, KVM_CREATE_IRQCHIP, 0);
}

static int set_up(struct guest *guest, const uint8_t *code, size_t size, bool smp,
                  const char **step) {
  *step = "/dev/kvm";
  if ((guest->system_fd = open("/dev/kvm", O_RDWR | O_CLOEXEC)) < 0) return -1;
  *step = "KVM_CREATE_VM";
  if ((guest->vm_fd = ioctl(guest->system_fd, KVM_CREATE_VM, 0)) < 0) return -1;
  *step = "memory";
  if ((guest->ram = create_ram()) == NULL) return -1;
  memcpy(guest->ram + GUEST_ENTRY, code, size);
  struct kvm_userspace_memory_region region = {
      .memory_size = GUEST_RAM_SIZE,
      .userspace_addr = (uintptr_t)guest->ram,
  };
  *step = "KVM_SET_USER_MEMORY_REGION";
  if (ioctl(guest->vm_fd, KVM_SET_USER_MEMORY_REGION, &region) < 0) return -1;
  *step = "KVM_CREATE_IRQCHIP";
  if (smp && create_irqchip(guest->vm_fd) < 0) return -1;
  *step = "KVM_CREATE_VCPU";
  if ((guest->vcpu_fd = ioctl(guest->vm_fd, KVM_CREATE_VCPU, 0)) < 0) return -1;
  *step = "kvm_run";
  int run_size = ioctl(guest->system_fd, KVM_GET_VCPU_MMAP_SIZE, 0);
  if (run_size < 0) return -1;
  void *run = mmap(NULL, run_size, PROT_READ | PROT_WRITE, MAP_SHARED, guest->vcpu_fd, 0);
  if (run == MAP_FAILED) return -1;
  guest->run = run;
  guest->run_size = run_size;
  *step = "registers";
  return enter_real_mode(guest->vcpu_fd);
}

static int create(struct guest *guest, const uint8_t *code, size_t size, bool smp,
                  const char **step) {
  *guest = (struct guest){.system_fd = -1, .vm_fd = -1, .vcpu_fd = -1};
  *step = "code";
  if (size > GUEST_RAM_SIZE - GUEST_ENTRY) {
    errno = EFBIG;
    return -1;
  }
  if (set_up(guest, code, size, smp, step) == 0) return 0;
  int error = errno;
  guest_destroy(guest);
  errno = error;
  return -1;
}

int guest_create(struct guest *guest, const uint8_t *code, size_t size, const char **step) {
  return create(guest, code, size, false, step);
}

int guest_create_smp(struct guest *guest, const uint8_t *code, size_t size, const char **step) {
  return create(guest, code, size, true, step);
}

void guest_destroy(struct guest *guest) {
  if (guest->run != NULL) munmap(guest->run, guest->run_size);
  if (guest->ram != NULL) munmap(guest->ram, GUEST_RAM_SIZE);
  if (guest->vcpu_fd >= 0) close(guest->vcpu_fd);
  if (guest->vm_fd >= 0) close(guest->vm_fd);
  if (guest->system_fd >= 0) close(guest->system_fd);
  *guest = (struct guest){.system_fd = -1, .vm_fd = -1, .vcpu_fd = -1};
}
