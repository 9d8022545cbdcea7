#define _GNU_SOURCE
#include "smp.h"

#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "guest.h"

// The addresses of bench/guests.ts.
#define AP_ENTRY 0x9000
#define AP_TICK 0x9800
#define AP_TICK_VECTOR 0x40
#define EXPECTED 0x500
#define MAX_CPUID 256
#define KICK_SIGNAL (SIGRTMIN + 3)

struct processor {
  struct smp *smp;
  int fd;
  struct kvm_run *run;
  pthread_t thread;
};

struct smp {
  struct guest guest;  // with the first processor
  uint32_t count;
  struct processor *processors;
  sem_t counting;
  atomic_bool stopping;
  int error;
};

static double now_ns(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec * 1e9 + (double)now.tv_nsec;
}

static void on_kick(int signal) {}

static void *run_processor(void *data) {
  struct processor *self = data;
  struct smp *smp = self->smp;
  while (!atomic_load(&smp->stopping)) {
    int result = ioctl(self->fd, KVM_RUN, 0);
    if (result == 0 && self->run->exit_reason == KVM_EXIT_IO) {
      sem_post(&smp->counting);
    } else if (result == 0 || (errno != EINTR && errno != EAGAIN)) {
      smp->error = result == 0 ? EPROTO : errno;
      sem_post(&smp->counting);
      break;
    }
  }
  return NULL;
}

static int set_cpuid(struct smp *smp, struct kvm_cpuid2 *cpuid) {
  for (uint32_t i = 0; i < smp->count; i++) {
    if (ioctl(smp->processors[i].fd, KVM_SET_CPUID2, cpuid) < 0) return -1;
  }
  return 0;
}

static int add_processors(struct smp *smp, const char **step) {
  smp->processors[0] = (struct processor){.fd = smp->guest.vcpu_fd, .run = smp->guest.run};
  for (uint32_t i = 0; i < smp->count; i++) {
    struct processor *processor = &smp->processors[i];
    processor->smp = smp;
    if (i == 0) continue;
    *step = "KVM_CREATE_VCPU";
    processor->fd = ioctl(smp->guest.vm_fd, KVM_CREATE_VCPU, i);
    if (processor->fd < 0) return -1;
    *step = "kvm_run";
    processor->run =
        mmap(NULL, smp->guest.run_size, PROT_READ | PROT_WRITE, MAP_SHARED, processor->fd, 0);
    if (processor->run == MAP_FAILED) return -1;
  }
  *step = "KVM_SET_CPUID2";
  struct kvm_cpuid2 *cpuid = calloc(1, sizeof *cpuid + MAX_CPUID * sizeof cpuid->entries[0]);
  cpuid->nent = MAX_CPUID;
  int result = ioctl(smp->guest.system_fd, KVM_GET_SUPPORTED_CPUID, cpuid);
  for (uint32_t i = 0; i < cpuid->nent; i++) {
    if (cpuid->entries[i].function == 1) cpuid->entries[i].ecx |= 1 << 21;  // x2APIC
  }
  if (result == 0) result = set_cpuid(smp, cpuid);
  free(cpuid);
  return result;
}

static int start(struct smp *smp) {
  // The first, which wakes the others, comes last.
  for (uint32_t i = smp->count; i-- > 0;) {
    struct processor *processor = &smp->processors[i];
    errno = pthread_create(&processor->thread, NULL, run_processor, processor);
    if (errno != 0) return -1;
  }
  while (sem_wait(&smp->counting) != 0) continue;
  errno = smp->error;
  return errno == 0 ? 0 : -1;
}

static void stop(struct smp *smp) {
  atomic_store(&smp->stopping, true);
  for (uint32_t i = 0; i < smp->count; i++) {
    smp->processors[i].run->immediate_exit = 1;
    pthread_kill(smp->processors[i].thread, KICK_SIGNAL);
  }
  for (uint32_t i = 0; i < smp->count; i++) pthread_join(smp->processors[i].thread, NULL);
}

int smp_run(uint32_t processors, const uint8_t *boot, size_t boot_size, const uint8_t *ap,
            size_t ap_size, struct smp_times *times, const char **step) {
  struct sigaction action = {.sa_handler = on_kick, .sa_flags = SA_RESTART};
  sigaction(KICK_SIGNAL, &action, NULL);
  double began = now_ns();
  struct smp smp = {.count = processors};
  smp.processors = calloc(processors, sizeof *smp.processors);
  sem_init(&smp.counting, 0, 0);
  int result = guest_create_smp(&smp.guest, boot, boot_size, step);
  if (result == 0) {
    memcpy(smp.guest.ram + AP_ENTRY, ap, ap_size);
    *(uint32_t *)(smp.guest.ram + AP_TICK_VECTOR * 4) = AP_TICK;
    *(uint16_t *)(smp.guest.ram + EXPECTED) = (uint16_t)(processors - 1);
    result = add_processors(&smp, step);
  }
  double created = now_ns();
  if (result == 0) {
    *step = "start";
    result = start(&smp);
  }
  double started = now_ns();
  if (result == 0) stop(&smp);
  double stopped = now_ns();
  for (uint32_t i = 1; i < processors; i++) {
    if (smp.processors[i].run != NULL) munmap(smp.processors[i].run, smp.guest.run_size);
    if (smp.processors[i].fd > 0) close(smp.processors[i].fd);
  }
  int error = errno;
  guest_destroy(&smp.guest);
  sem_destroy(&smp.counting);
  free(smp.processors);
  errno = error;
  *times = (struct smp_times){created - began, started - created, stopped - started,
                              now_ns() - stopped};
  return result;
}
