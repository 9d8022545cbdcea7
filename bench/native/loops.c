#include "loops.h"

#include <string.h>
#include <sys/ioctl.h>

typedef void (*write_handler)(uint32_t value);

static int64_t sum;

static void add(uint32_t value) { sum += value; }
static void add_twice(uint32_t value) { sum += 2 * (int64_t)value; }
static void subtract(uint32_t value) { sum -= value; }
static void count_one(uint32_t value) { sum += 1; }

// The ports and the addresses of bench/guests.ts.
static const write_handler port_handlers[0x10000] = {
    [0x10] = add, [0x20] = add_twice, [0x80] = subtract, [0x3f8] = count_one};
#define MMIO_BASE 0xd0000
#define MMIO_SIZE 0x100
static const write_handler mmio_handlers[MMIO_SIZE] = {
    [0x00] = add, [0x10] = add_twice, [0x20] = subtract, [0x30] = count_one};

// The ports of READ_LOOP: a constant, and registers in memory that another thread may write.
typedef uint32_t (*read_handler)(void);
static uint32_t registers = 0x5a5a5a5a;
static uint32_t read_constant(void) { return 0x12345678; }
static uint32_t read_register(void) { return __atomic_load_n(&registers, __ATOMIC_RELAXED); }
static const read_handler port_readers[0x10000] = {
    [0x10] = read_constant, [0x20] = read_register, [0x80] = read_constant, [0x3f8] = read_register};

static void store(uint8_t *data, uint32_t size, uint32_t value) {
  switch (size) {
    case 1:
      *data = value;
      break;
    case 2:
      *(uint16_t *)data = value;
      break;
    default:
      *(uint32_t *)data = value;
  }
}

static uint32_t load(const uint8_t *data, uint32_t size) {
  switch (size) {
    case 1:
      return *data;
    case 2:
      return *(const uint16_t *)data;
    default:
      return *(const uint32_t *)data;
  }
}

static int handle_io(struct kvm_run *run) {
  if (run->io.direction == KVM_EXIT_IO_IN) {
    read_handler reader = port_readers[run->io.port];
    if (reader == NULL) return -1;
    store((uint8_t *)run + run->io.data_offset, run->io.size, reader());
    return 0;
  }
  write_handler handler = port_handlers[run->io.port];
  if (handler == NULL) return -1;
  handler(load((const uint8_t *)run + run->io.data_offset, run->io.size));
  return 0;
}

static int handle_mmio(const struct kvm_run *run) {
  uint64_t offset = run->mmio.phys_addr - MMIO_BASE;
  write_handler handler = offset < MMIO_SIZE ? mmio_handlers[offset] : NULL;
  if (handler == NULL || !run->mmio.is_write) return -1;
  handler(load(run->mmio.data, run->mmio.len));
  return 0;
}

int64_t exit_loop(struct guest *guest, unsigned long request, uint32_t count) {
  // The kernel writes the page behind the compiler's back, in ioctl(), which it must not see through.
  struct kvm_run *run = guest->run;
  sum = 0;
  for (uint32_t i = 0; i < count; i++) {
    if (ioctl(guest->vcpu_fd, request, 0) != 0 && request == KVM_RUN) return -1;
    int result = -1;
    switch (run->exit_reason) {
      case KVM_EXIT_IO:
        result = handle_io(run);
        break;
      case KVM_EXIT_MMIO:
        result = handle_mmio(run);
        break;
    }
    if (result != 0) return -1;
  }
  return sum;
}

// Keeps the compiler from merging or dropping what one round loads and stores.
static inline void forget_memory(void) { __asm__ volatile("" ::: "memory"); }

void copy_regs(struct guest *guest, uint32_t count) {
  struct kvm_run *run = guest->run;
  for (uint32_t i = 0; i < count; i++) {
    struct kvm_regs regs = run->s.regs.regs;
    __asm__ volatile("" : "+m"(regs));
    run->s.regs.regs = regs;
    run->kvm_dirty_regs |= KVM_SYNC_X86_REGS;
    forget_memory();
  }
}

void copy_sregs(struct guest *guest, uint32_t count) {
  struct kvm_run *run = guest->run;
  for (uint32_t i = 0; i < count; i++) {
    struct kvm_sregs sregs = run->s.regs.sregs;
    __asm__ volatile("" : "+m"(sregs));
    run->s.regs.sregs = sregs;
    run->kvm_dirty_regs |= KVM_SYNC_X86_SREGS;
    forget_memory();
  }
}

int ioctl_loop(struct guest *guest, unsigned long request, void *argument, uint32_t count) {
  for (uint32_t i = 0; i < count; i++) {
    if (ioctl(guest->vcpu_fd, request, argument) < 0 && request != BARE_REQUEST) return -1;
  }
  return 0;
}
