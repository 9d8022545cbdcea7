// A guest's program that talks over AF_VSOCK, which no shell can.
//
//   vsock echo PORT        listens, and sends back what the first connection brings, to its end
//   vsock send PORT COUNT  connects to the host, sends COUNT bytes, and says what comes back

#include <linux/vm_sockets.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define BUFFER 16384

static int fail(const char *what) {
  perror(what);
  return 1;
}

static int write_all(int fd, const char *bytes, size_t length) {
  while (length > 0) {
    ssize_t done = write(fd, bytes, length);
    if (done <= 0) return -1;
    bytes += done;
    length -= done;
  }
  return 0;
}

static int echo(int fd) {
  char buffer[BUFFER];
  ssize_t count;
  while ((count = read(fd, buffer, sizeof buffer)) > 0) {
    if (write_all(fd, buffer, count) != 0) return fail("write");
  }
  return count == 0 ? 0 : fail("read");
}

static int send_and_count(int fd, size_t count) {
  char buffer[BUFFER];
  size_t back = 0;
  unsigned long sum = 0;
  // The host sends back what it gets: half is under way at the most, whatever the two buffers hold.
  for (size_t sent = 0; sent < count;) {
    size_t length = count - sent < sizeof buffer ? count - sent : sizeof buffer;
    for (size_t i = 0; i < length; i++) buffer[i] = (char)(sent + i);
    if (write_all(fd, buffer, length) != 0) return fail("write");
    sent += length;
    for (size_t wanted = length; wanted > 0;) {
      ssize_t got = read(fd, buffer, wanted);
      if (got <= 0) return fail("read");
      for (ssize_t i = 0; i < got; i++) sum += (unsigned char)buffer[i];
      back += got;
      wanted -= got;
    }
  }
  shutdown(fd, SHUT_WR);
  if (read(fd, buffer, 1) != 0) return fail("end");
  printf("%zu bytes back, sum %lu\n", back, sum);
  return 0;
}

int main(int argc, char **argv) {
  if (argc < 3) return 2;
  int fd = socket(AF_VSOCK, SOCK_STREAM, 0);
  if (fd < 0) return fail("socket");
  struct sockaddr_vm address = {
      .svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_HOST, .svm_port = atoi(argv[2])};
  if (strcmp(argv[1], "send") == 0) {
    if (connect(fd, (struct sockaddr *)&address, sizeof address) != 0) return fail("connect");
    return send_and_count(fd, strtoul(argv[3], NULL, 10));
  }
  address.svm_cid = VMADDR_CID_ANY;
  if (bind(fd, (struct sockaddr *)&address, sizeof address) != 0) return fail("bind");
  if (listen(fd, 1) != 0) return fail("listen");
  puts("listening");
  fflush(stdout);
  int connection = accept(fd, NULL, NULL);
  return connection < 0 ? fail("accept") : echo(connection);
}
