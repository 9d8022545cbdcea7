// The load of bench/net.ts: TCP streams and UDP frames of 60 bytes between a guest and its host.
//
//   net-load guest PEER MILLISECONDS TEST   in the guest
//   net-load peer INTERFACE ADDRESS         on the host, for one guest after the other
//
// The guest prints "begin NAME" before the test, and "end NAME OPERATIONS NANOSECONDS" after it. A test
// is a connection to the peer: what the guest wants, then the test, then what the peer has counted.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define PORT 7000
#define CHUNK 65536
#define BATCH 32
// Frames to the guest that it has not acknowledged; fewer than a TAP's queue holds.
#define WINDOW 256
#define ACKNOWLEDGED 64
// Until what was printed has reached whoever reads it.
#define SILENCE_US 100000

enum kind { TCP_OUT, TCP_IN, UDP_OUT, UDP_IN, UDP_ECHO, KINDS };
static const char* const names[KINDS] = {"tcp-out", "tcp-in", "udp-out", "udp-in", "udp-echo"};

struct wish {
  uint32_t kind, milliseconds;
};

// What to listen at: two peers are on one host.
static struct in_addr own = {INADDR_ANY};
static char chunk[CHUNK];
static char payload[BATCH][18];
static struct iovec parts[BATCH];
static struct mmsghdr messages[BATCH];

static void fail(const char* what) {
  perror(what);
  exit(1);
}

static int64_t now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return time.tv_sec * 1000000000ll + time.tv_nsec;
}

static int socket_at(int type, struct in_addr address, int port, int own) {
  struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr = address};
  int fd = socket(AF_INET, type, 0), on = 1;
  if (fd < 0) fail("socket");
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (own) {
    if (bind(fd, (void*)&at, sizeof at) != 0) fail("bind");
  } else if (connect(fd, (void*)&at, sizeof at) != 0) {
    close(fd);
    return -1;
  }
  return fd;
}

static void read_all(int fd, void* to, size_t size) {
  if (recv(fd, to, size, MSG_WAITALL) != (ssize_t)size) fail("the other end");
}

static void write_all(int fd, const void* from, size_t size) {
  if (send(fd, from, size, MSG_NOSIGNAL) != (ssize_t)size) fail("the other end");
}

static uint64_t read_stream(int fd) {
  uint64_t bytes = 0;
  for (ssize_t got; (got = recv(fd, chunk, CHUNK, 0)) > 0;) bytes += (uint64_t)got;
  return bytes;
}

static void write_stream(int fd, int64_t end) {
  while (now() < end && send(fd, chunk, CHUNK, MSG_NOSIGNAL) > 0) continue;
  shutdown(fd, SHUT_WR);
}

// As many datagrams as the socket takes, at most BATCH.
static int send_some(int fd, int flags) {
  int count = sendmmsg(fd, messages, BATCH, flags);
  return count > 0 ? count : 0;
}

static int is_readable(int fd, int milliseconds) {
  struct pollfd it = {fd, POLLIN, 0};
  return poll(&it, 1, milliseconds) > 0;
}

static uint64_t frames_of(const char* interface) {
  char path[128];
  unsigned long long count = 0;
  snprintf(path, sizeof path, "/sys/class/net/%s/statistics/rx_packets", interface);
  FILE* file = fopen(path, "r");
  if (!file || fscanf(file, "%llu", &count) != 1) fail(path);
  fclose(file);
  return count;
}

// What has come through the interface when the guest is done: the socket may lose some of it.
static uint64_t count_frames(int control, const char* interface, uint64_t before) {
  char done;
  read_all(control, &done, 1);
  for (uint64_t last = 0, count;; last = count) {
    count = frames_of(interface);
    if (count == last) return count - before;
    usleep(20000);
  }
}

// Sends no more than WINDOW frames ahead of what the guest has acknowledged, or has lost.
static void send_window(int fd, int64_t end) {
  uint64_t sent = 0, seen = 0;
  while (now() < end) {
    if (sent - seen <= WINDOW - BATCH) {
      sent += (uint64_t)send_some(fd, 0);
    } else if (!is_readable(fd, 20)) {
      seen = sent;
    }
    while (recv(fd, chunk, CHUNK, MSG_DONTWAIT) > 0) seen += ACKNOWLEDGED;
    if (seen > sent) seen = sent;
  }
}

static void echo(int udp, int control) {
  struct pollfd both[2] = {{udp, POLLIN, 0}, {control, POLLIN, 0}};
  while (poll(both, 2, -1) > 0 && !both[1].revents) {
    ssize_t size = recv(udp, chunk, CHUNK, MSG_DONTWAIT);
    if (size > 0) send(udp, chunk, (size_t)size, 0);
  }
}

static void serve(int control, const char* interface) {
  struct wish wish;
  struct sockaddr_in guest;
  socklen_t size = sizeof guest;
  if (recv(control, &wish, sizeof wish, MSG_WAITALL) != sizeof wish) return;
  if (getpeername(control, (void*)&guest, &size) != 0) fail("getpeername");
  int udp = socket_at(SOCK_DGRAM, own, PORT, 1);
  guest.sin_port = htons(PORT);
  if (connect(udp, (void*)&guest, sizeof guest) != 0) fail("connect");
  uint64_t count = frames_of(interface);
  write_all(control, "!", 1);
  if (wish.kind == TCP_OUT) {
    count = read_stream(control);
  } else if (wish.kind == UDP_OUT) {
    count = count_frames(control, interface, count);
  } else if (wish.kind == UDP_ECHO) {
    echo(udp, control);
  } else {
    int64_t end = now() + wish.milliseconds * 1000000ll;
    if (wish.kind == TCP_IN) write_stream(control, end);
    if (wish.kind == UDP_IN) send_window(udp, end);
    close(udp);
    return;
  }
  send(control, &count, sizeof count, MSG_NOSIGNAL);
  close(udp);
}

static uint64_t receive_frames(int udp, int control) {
  struct pollfd both[2] = {{udp, POLLIN, 0}, {control, POLLIN, 0}};
  uint64_t count = 0, acknowledged = 0;
  while (poll(both, 2, -1) > 0) {
    int got = recvmmsg(udp, messages, BATCH, MSG_DONTWAIT, NULL);
    if (got > 0) count += (uint64_t)got;
    for (; count - acknowledged >= ACKNOWLEDGED; acknowledged += ACKNOWLEDGED) send(udp, "", 1, 0);
    if (both[1].revents && got <= 0) break;
  }
  return count;
}

static uint64_t round_trips(int udp, int64_t end) {
  uint64_t count = 0;
  while (now() < end) {
    send(udp, payload[0], sizeof payload[0], 0);
    // A frame that is lost is sent again.
    if (!is_readable(udp, 1000)) continue;
    if (recv(udp, chunk, CHUNK, 0) > 0) count++;
  }
  return count;
}

static void test(enum kind kind, struct in_addr peer, uint32_t milliseconds) {
  struct wish wish = {kind, milliseconds};
  int control, udp = socket_at(SOCK_DGRAM, own, PORT, 1);
  struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(PORT), .sin_addr = peer};
  if (connect(udp, (void*)&to, sizeof to) != 0) fail("connect");
  for (int i = 0; (control = socket_at(SOCK_STREAM, peer, PORT, 0)) < 0; i++) {
    if (i == 50) fail("no peer");
    usleep(100000);
  }
  printf("begin %s\n", names[kind]);
  usleep(SILENCE_US);
  write_all(control, &wish, sizeof wish);
  read_all(control, chunk, 1);
  int64_t start = now(), end = start + milliseconds * 1000000ll;
  uint64_t count = 0;
  if (kind == TCP_OUT) {
    write_stream(control, end);
    read_all(control, &count, sizeof count);
  } else if (kind == TCP_IN) {
    count = read_stream(control);
  } else if (kind == UDP_OUT) {
    while (now() < end) send_some(udp, 0);
    write_all(control, "!", 1);
    read_all(control, &count, sizeof count);
  } else if (kind == UDP_IN) {
    count = receive_frames(udp, control);
  } else {
    count = round_trips(udp, end);
  }
  if (kind == TCP_OUT || kind == TCP_IN) count /= CHUNK;
  printf("end %s %llu %lld\n", names[kind], (unsigned long long)count, (long long)(now() - start));
  close(control);
  close(udp);
}

static void serve_all(const char* interface) {
  int listening = socket_at(SOCK_STREAM, own, PORT, 1);
  if (listen(listening, 1) != 0) fail("listen");
  for (;;) {
    int control = accept(listening, NULL, NULL);
    if (control < 0) continue;
    serve(control, interface);
    close(control);
  }
}

int main(int argc, char** argv) {
  setvbuf(stdout, NULL, _IONBF, 0);
  for (int i = 0; i < BATCH; i++) {
    parts[i] = (struct iovec){payload[i], sizeof payload[i]};
    messages[i].msg_hdr = (struct msghdr){.msg_iov = &parts[i], .msg_iovlen = 1};
  }
  if (argc == 4 && strcmp(argv[1], "peer") == 0 && inet_aton(argv[3], &own)) serve_all(argv[2]);
  struct in_addr peer;
  if (argc != 5 || inet_aton(argv[2], &peer) == 0) return 2;
  for (int kind = 0; kind < KINDS; kind++) {
    if (strcmp(names[kind], argv[4]) != 0) continue;
    test(kind, peer, (uint32_t)atoi(argv[3]));
    return 0;
  }
  return 2;
}
