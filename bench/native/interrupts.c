#define _GNU_SOURCE
#include "interrupts.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#define LAPIC_SVR 0xf0
#define APIC_X2APIC 0xc00
#define CPUID_X2APIC (1u << 21)
#define MSI_ADDRESS 0xfee00000
#define LINE 20

static int enable_x2apic_cpuid(const struct guest *guest) {
  const int leaves = 256;
  struct kvm_cpuid2 *cpuid = calloc(1, sizeof *cpuid + leaves * sizeof *cpuid->entries);
  if (cpuid == NULL) return -1;
  cpuid->nent = leaves;
  int result = ioctl(guest->system_fd, KVM_GET_SUPPORTED_CPUID, cpuid);
  for (uint32_t i = 0; result == 0 && i < cpuid->nent; i++) {
    if (cpuid->entries[i].function == 1) cpuid->entries[i].ecx |= CPUID_X2APIC;
  }
  if (result == 0) result = ioctl(guest->vcpu_fd, KVM_SET_CPUID2, cpuid);
  free(cpuid);
  return result;
}

static int enable_lapic(const struct guest *guest) {
  struct kvm_sregs sregs;
  struct kvm_lapic_state lapic;
  if (enable_x2apic_cpuid(guest) < 0) return -1;
  if (ioctl(guest->vcpu_fd, KVM_GET_SREGS, &sregs) < 0) return -1;
  sregs.apic_base |= APIC_X2APIC;
  if (ioctl(guest->vcpu_fd, KVM_SET_SREGS, &sregs) < 0) return -1;
  if (ioctl(guest->vcpu_fd, KVM_GET_LAPIC, &lapic) < 0) return -1;
  const uint32_t enabled = 0x1ff;
  memcpy(lapic.regs + LAPIC_SVR, &enabled, sizeof enabled);
  return ioctl(guest->vcpu_fd, KVM_SET_LAPIC, &lapic);
}

static int route(const struct guest *guest) {
  struct {
    struct kvm_irq_routing head;
    struct kvm_irq_routing_entry entries[2];
  } table = {.head.nr = 2};
  table.entries[0] = (struct kvm_irq_routing_entry){.gsi = MSI_GSI, .type = KVM_IRQ_ROUTING_MSI};
  table.entries[0].u.msi.address_lo = MSI_ADDRESS;
  table.entries[0].u.msi.data = MSI_VECTOR;
  table.entries[1] = (struct kvm_irq_routing_entry){.gsi = LINE, .type = KVM_IRQ_ROUTING_IRQCHIP};
  table.entries[1].u.irqchip.irqchip = KVM_IRQCHIP_IOAPIC;
  table.entries[1].u.irqchip.pin = LINE;
  return ioctl(guest->vm_fd, KVM_SET_GSI_ROUTING, &table);
}

static void on_signal(int number) {}

static void *run(void *argument) {
  const struct interrupted *vm = argument;
  while (ioctl(vm->guest.vcpu_fd, KVM_RUN, 0) == 0) continue;
  return NULL;
}

static int set_up(struct interrupted *vm, uint16_t handler, const char **step) {
  const struct guest *guest = &vm->guest;
  const uint16_t vector[2] = {handler, 0};
  memcpy(guest->ram + MSI_VECTOR * sizeof vector, vector, sizeof vector);
  *step = "LAPIC";
  if (enable_lapic(guest) < 0) return -1;
  *step = "KVM_SET_GSI_ROUTING";
  if (route(guest) < 0) return -1;
  *step = "KVM_IRQFD";
  if ((vm->irqfd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) < 0) return -1;
  struct kvm_irqfd irqfd = {.fd = vm->irqfd, .gsi = MSI_GSI};
  if (ioctl(guest->vm_fd, KVM_IRQFD, &irqfd) < 0) return -1;
  *step = "KVM_IOEVENTFD";
  if ((vm->doorbell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) < 0) return -1;
  struct kvm_ioeventfd doorbell = {
      .fd = vm->doorbell, .addr = DOORBELL_PORT, .len = 1, .flags = KVM_IOEVENTFD_FLAG_PIO};
  if (ioctl(guest->vm_fd, KVM_IOEVENTFD, &doorbell) < 0) return -1;
  return 0;
}

static int start(struct interrupted *vm) {
  struct sigaction action = {.sa_handler = on_signal};
  sigaction(SIGUSR2, &action, NULL);
  if ((errno = pthread_create(&vm->thread, NULL, run, vm)) != 0) return -1;
  vm->running = 1;
  return 0;
}

int interrupted_create(struct interrupted *vm, const uint8_t *code, size_t size, uint16_t handler,
                       const char **step) {
  *vm = (struct interrupted){.irqfd = -1, .doorbell = -1};
  if (guest_create_smp(&vm->guest, code, size, step) != 0) return -1;
  if (set_up(vm, handler, step) == 0) return 0;
  int error = errno;
  interrupted_destroy(vm);
  errno = error;
  return -1;
}

void interrupted_destroy(struct interrupted *vm) {
  if (vm->running) {
    // The guest waits for an interrupt in the kernel; a thread that is between two runs sees the flag.
    vm->guest.run->immediate_exit = 1;
    pthread_kill(vm->thread, SIGUSR2);
    pthread_join(vm->thread, NULL);
  }
  guest_destroy(&vm->guest);
  if (vm->irqfd >= 0) close(vm->irqfd);
  if (vm->doorbell >= 0) close(vm->doorbell);
}

static double now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (double)time.tv_sec * 1e9 + (double)time.tv_nsec;
}

int interrupt_trips(struct interrupted *vm, double *nanoseconds, size_t count) {
  if (!vm->running && start(vm) != 0) return -1;
  struct pollfd doorbell = {.fd = vm->doorbell, .events = POLLIN};
  for (size_t i = 0; i < count; i++) {
    uint64_t value = 1;
    double start = now();
    if (write(vm->irqfd, &value, sizeof value) != sizeof value) return -1;
    if (poll(&doorbell, 1, 5000) != 1) return -1;
    if (read(vm->doorbell, &value, sizeof value) != sizeof value) return -1;
    nanoseconds[i] = now() - start;
  }
  return 0;
}

int signal_msi(struct interrupted *vm, uint32_t count) {
  for (uint32_t i = 0; i < count; i++) {
    struct kvm_msi msi = {.address_lo = MSI_ADDRESS, .data = MSI_VECTOR};
    if (ioctl(vm->guest.vm_fd, KVM_SIGNAL_MSI, &msi) < 0) return -1;
  }
  return 0;
}

int irq_line(struct interrupted *vm, uint32_t count) {
  for (uint32_t i = 0; i < count; i++) {
    struct kvm_irq_level line = {.irq = LINE, .level = i & 1};
    if (ioctl(vm->guest.vm_fd, KVM_IRQ_LINE, &line) < 0) return -1;
  }
  return 0;
}
