// The load of bench/block.ts, a program in the guest: reads and writes of a raw disk, past the guest's
// cache, one or many at a time.
//
//   disk-load DEVICE MILLISECONDS TEST
//
// Prints "begin NAME" before the test, and "end NAME REQUESTS NANOSECONDS" after it.
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <linux/fs.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define MOST_DEPTH 32
#define SEQUENTIAL (128 * 1024)
#define RANDOM 4096
// Until what was printed has reached whoever reads it.
#define SILENCE_US 100000

struct test {
  const char* name;
  int write, random, depth;
};

static const struct test tests[] = {
    {"read-128k-32", 0, 0, 32}, {"write-128k-32", 1, 0, 32}, {"read-4k-1", 0, 1, 1},
    {"read-4k-32", 0, 1, 32},   {"write-4k-1", 1, 1, 1},     {"write-4k-32", 1, 1, 32},
};

static void fail(const char* what) {
  perror(what);
  exit(1);
}

static int64_t now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return time.tv_sec * 1000000000ll + time.tv_nsec;
}

static uint64_t random_state = 88172645463325252ull;
static uint64_t next_random(void) {
  random_state ^= random_state << 13;
  random_state ^= random_state >> 7;
  return random_state ^= random_state << 17;
}

static uint64_t place(const struct test* test, uint64_t blocks, uint64_t count) {
  return (test->random ? next_random() : count) % blocks;
}

static void run(const struct test* test, int fd, uint64_t size, int64_t duration) {
  static char* buffers[MOST_DEPTH];
  size_t length = test->random ? RANDOM : SEQUENTIAL;
  uint64_t blocks = size / length;
  aio_context_t context = 0;
  if (syscall(SYS_io_setup, MOST_DEPTH, &context) != 0) fail("io_setup");
  struct iocb blocks_of[MOST_DEPTH];
  memset(blocks_of, 0, sizeof blocks_of);
  uint64_t started = 0, done = 0;
  struct iocb* list[MOST_DEPTH];
  for (int i = 0; i < test->depth; i++) {
    if (!buffers[i] && posix_memalign((void**)&buffers[i], 4096, SEQUENTIAL)) fail("memory");
    blocks_of[i].aio_fildes = (uint32_t)fd;
    blocks_of[i].aio_lio_opcode = test->write ? IOCB_CMD_PWRITE : IOCB_CMD_PREAD;
    blocks_of[i].aio_buf = (uint64_t)(uintptr_t)buffers[i];
    blocks_of[i].aio_nbytes = length;
    blocks_of[i].aio_offset = (int64_t)(place(test, blocks, started++) * length);
    blocks_of[i].aio_data = (uint64_t)i;
    list[i] = &blocks_of[i];
  }
  printf("begin %s\n", test->name);
  usleep(SILENCE_US);
  int64_t start = now();
  if (syscall(SYS_io_submit, context, test->depth, list) != test->depth) fail("io_submit");
  int in_flight = test->depth;
  while (in_flight > 0) {
    struct io_event events[MOST_DEPTH];
    long count = syscall(SYS_io_getevents, context, 1, MOST_DEPTH, events, NULL);
    if (count < 1) fail("io_getevents");
    int again = now() - start < duration;
    for (long i = 0; i < count; i++) {
      if ((uint64_t)events[i].res != length) fail("a request");
      struct iocb* block = &blocks_of[events[i].data];
      if (again) block->aio_offset = (int64_t)(place(test, blocks, started++) * length);
      list[i] = block;
    }
    done += (uint64_t)count;
    in_flight -= (int)count;
    if (!again) continue;
    if (syscall(SYS_io_submit, context, count, list) != count) fail("io_submit");
    in_flight += (int)count;
  }
  printf("end %s %llu %lld\n", test->name, (unsigned long long)done, (long long)(now() - start));
  syscall(SYS_io_destroy, context);
}

int main(int argc, char** argv) {
  if (argc != 4) return 2;
  setvbuf(stdout, NULL, _IONBF, 0);
  int fd = open(argv[1], O_RDWR | O_DIRECT);
  uint64_t size = 0;
  if (fd < 0 || ioctl(fd, BLKGETSIZE64, &size) != 0) fail(argv[1]);
  for (size_t i = 0; i < sizeof tests / sizeof *tests; i++) {
    if (strcmp(tests[i].name, argv[3]) != 0) continue;
    run(&tests[i], fd, size, atoll(argv[2]) * 1000000);
    return 0;
  }
  return 2;
}
