#define _GNU_SOURCE
#include "handoff.h"

#include <errno.h>
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static double now_ns(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec * 1e9 + (double)now.tv_nsec;
}

static void futex_wait(atomic_uint *word, unsigned value) {
  syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, value, NULL, NULL, 0);
}

static void futex_wake(atomic_uint *word) {
  syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

struct exchange {
  struct guest *guest;
  uint32_t count;
  double *times;
  atomic_uint asked;     // exits so far
  atomic_uint answered;  // of them
  int result;
};

static void *run_vcpu(void *data) {
  struct exchange *exchange = data;
  for (uint32_t i = 0; i < exchange->count; i++) {
    int result = ioctl(exchange->guest->vcpu_fd, KVM_RUN, 0);
    double exited = now_ns();
    if (result != 0) exchange->result = -1;
    atomic_store(&exchange->asked, i + 1);
    futex_wake(&exchange->asked);
    while (atomic_load(&exchange->answered) == i) futex_wait(&exchange->answered, i);
    exchange->times[i] = now_ns() - exited;
  }
  return NULL;
}

int handoff(struct guest *guest, uint32_t count, bool busy, double *times) {
  struct exchange exchange = {.guest = guest, .count = count, .times = times};
  pthread_t thread;
  if ((errno = pthread_create(&thread, NULL, run_vcpu, &exchange)) != 0) return -1;
  for (uint32_t i = 0; i < count; i++) {
    while (atomic_load(&exchange.asked) == i) {
      if (!busy) futex_wait(&exchange.asked, i);
    }
    if (guest->run->exit_reason != KVM_EXIT_IO) exchange.result = -1;
    atomic_store(&exchange.answered, i + 1);
    futex_wake(&exchange.answered);
  }
  pthread_join(thread, NULL);
  return exchange.result;
}

// The words and ports of DOORBELL.
#define RINGS 0x500
#define ANSWER 0x504
#define BELL_PORT 0x10

static void *run_to_exit(void *data) {
  struct exchange *exchange = data;
  exchange->result = ioctl(exchange->guest->vcpu_fd, KVM_RUN, 0);
  return NULL;
}

static int answer_rings(int event, struct guest *guest, uint32_t count, bool busy, double *times) {
  atomic_ushort *answer = (atomic_ushort *)(guest->ram + ANSWER);
  struct pollfd poll_event = {.fd = event, .events = POLLIN};
  double before = now_ns();
  for (uint32_t i = 0; i < count; i++) {
    uint64_t rings;
    while (read(event, &rings, sizeof rings) < 0) {
      if (errno != EAGAIN || poll(&poll_event, 1, busy ? 0 : 1000) < 0) return -1;
    }
    double at = now_ns();
    times[i] = at - before;
    before = at;
    atomic_fetch_add(answer, 1);
  }
  return 0;
}

int doorbell(struct guest *guest, uint32_t count, bool busy, double *times) {
  int event = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
  if (event < 0) return -1;
  struct kvm_ioeventfd bell = {
      .addr = BELL_PORT, .len = 1, .fd = event, .flags = KVM_IOEVENTFD_FLAG_PIO};
  int result = ioctl(guest->vm_fd, KVM_IOEVENTFD, &bell);
  if (result == 0) {
    *(uint16_t *)(guest->ram + RINGS) = (uint16_t)count;
    struct exchange exchange = {.guest = guest};
    pthread_t thread;
    if ((errno = pthread_create(&thread, NULL, run_to_exit, &exchange)) == 0) {
      result = answer_rings(event, guest, count, busy, times);
      pthread_join(thread, NULL);
      if (exchange.result != 0) result = -1;
    } else {
      result = -1;
    }
    bell.flags |= KVM_IOEVENTFD_FLAG_DEASSIGN;
    ioctl(guest->vm_fd, KVM_IOEVENTFD, &bell);
  }
  close(event);
  return result;
}
