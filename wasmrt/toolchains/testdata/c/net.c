// What a C program does with the network, through WasmEdge's imports declared
// by hand: version 1, or version 2 with -DV2.
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#ifdef V2
#define IMPORT(name) __attribute__((import_module("wasi_snapshot_preview1"), import_name(#name "_v2")))
enum { ADDRESS = 128, IP = 2 };
#else
#define IMPORT(name) __attribute__((import_module("wasi_snapshot_preview1"), import_name(#name)))
enum { ADDRESS = 4, IP = 0 };
#endif

enum { INET4 = 1, DGRAM = 1, STREAM = 2, IN_PROGRESS = 26, AGAIN = 6 };

typedef struct { uint8_t *data; uint32_t size; } address;
typedef struct { const void *data; uint32_t size; } vector;

IMPORT(sock_open) int sock_open(int family, int type, int *fd);
IMPORT(sock_bind) int sock_bind(int fd, address *at, int port);
IMPORT(sock_listen) int sock_listen(int fd, int backlog);
IMPORT(sock_connect) int sock_connect(int fd, address *to, int port);
IMPORT(sock_send_to) int sock_send_to(int fd, vector *data, int n, address *to, int port, int flags, uint32_t *sent);
IMPORT(sock_recv_from) int sock_recv_from(int fd, vector *data, int n, address *from, int flags, uint32_t *port, uint32_t *got, uint32_t *oflags);
#ifdef V2
IMPORT(sock_accept) int sock_accept(int fd, int flags, int *conn);
IMPORT(sock_getlocaladdr) int sock_getlocaladdr(int fd, address *at, uint32_t *port);
#define ACCEPT(fd, conn) sock_accept(fd, 0, conn)
#define LOCAL(fd, at, port) sock_getlocaladdr(fd, at, port)
#else
IMPORT(sock_accept) int sock_accept(int fd, int *conn);
IMPORT(sock_getlocaladdr) int sock_getlocaladdr(int fd, address *at, uint32_t *type, uint32_t *port);
#define ACCEPT(fd, conn) sock_accept(fd, conn)
static uint32_t type;
#define LOCAL(fd, at, port) sock_getlocaladdr(fd, at, &type, port)
#endif
// Names are resolved alike in both versions.
__attribute__((import_module("wasi_snapshot_preview1"), import_name("sock_getaddrinfo")))
int sock_getaddrinfo(const char *node, int len, const char *service, int slen, void *hint, void *results, int max, uint32_t *count);

static uint8_t bytes[ADDRESS];
static address local = {bytes, ADDRESS};
static int nonblock;

static void check(const char *what, int err) {
  if (err == 0) return;
  fprintf(stderr, "%s: error %d\n", what, err);
  exit(1);
}

static void localhost(void) {
  static const uint8_t ip[] = {127, 0, 0, 1};
  memset(bytes, 0, sizeof bytes);
  if (IP) bytes[0] = INET4;
  memcpy(bytes + IP, ip, 4);
}

static int opened(int kind) {
  int fd;
  check("open", sock_open(INET4, kind, &fd));
  localhost();
  return fd;
}

static void mode(int fd) {
  if (nonblock && fcntl(fd, F_SETFL, O_NONBLOCK) != 0) check("fcntl", errno);
}

static void ready(int fd, int events) {
  struct pollfd p = {.fd = fd, .events = events};
  if (poll(&p, 1, -1) != 1) check("poll", errno);
}

static void echo(int conn) {
  char buf[256];
  mode(conn);
  for (;;) {
    ssize_t n = read(conn, buf, sizeof buf);
    if (n < 0 && errno == EAGAIN) { ready(conn, POLLRDNORM); continue; }
    if (n < 0) check("read", errno);
    if (n == 0) break;
    if (write(conn, buf, n) != n) check("write", errno);
  }
  close(conn);
}

static void serve(void) {
  int fd = opened(STREAM), conn, err;
  uint32_t port;
  check("bind", sock_bind(fd, &local, 0));
  check("listen", sock_listen(fd, 8));
  check("getlocaladdr", LOCAL(fd, &local, &port));
  printf("%u\n", port);
  fflush(stdout);
  mode(fd);
  while ((err = ACCEPT(fd, &conn)) == AGAIN) ready(fd, POLLRDNORM);
  check("accept", err);
  echo(conn);
}

// inherited serves on the listener that is open from the start: with wasi-libc,
// unless version 1 took the name of its import.
static void inherited(void) {
  int conn;
  if (nonblock) mode(3); else fcntl(3, F_SETFL, 0);
#ifdef V2
  while ((conn = accept(3, NULL, NULL)) < 0) {
    if (errno != EAGAIN) check("accept", errno);
    ready(3, POLLRDNORM);
  }
#else
  int err;
  while ((err = ACCEPT(3, &conn)) == AGAIN) ready(3, POLLRDNORM);
  check("accept", err);
#endif
  echo(conn);
}

static void dial(int port) {
  char buf[16] = "";
  int fd = opened(STREAM), err;
  ssize_t n;
  mode(fd);
  while ((err = sock_connect(fd, &local, port)) == IN_PROGRESS) ready(fd, POLLWRNORM);
  check("connect", err);
  if (write(fd, "ping", 4) != 4) check("write", errno);
  while ((n = read(fd, buf, sizeof buf)) < 0 && errno == EAGAIN) ready(fd, POLLRDNORM);
  if (n < 0) check("read", errno);
  printf("%.*s\n", (int)n, buf);
}

static void datagram(int port) {
  char buf[16];
  vector out = {"ping", 4}, in = {buf, sizeof buf};
  int fd = opened(DGRAM), err;
  uint32_t n, from, flags;
  mode(fd);
  check("send_to", sock_send_to(fd, &out, 1, &local, port, 0, &n));
  while ((err = sock_recv_from(fd, &in, 1, &local, 0, &from, &n, &flags)) == AGAIN) ready(fd, POLLRDNORM);
  check("recv_from", err);
  printf("%.*s %s\n", (int)n, buf, from == (uint32_t)port ? "from there" : "from elsewhere");
}

static void resolve(const char *name) {
  struct { uint8_t family, pad[3]; uint32_t len; uint8_t *data; } addr;
  struct { uint16_t flags; uint8_t family, type; uint32_t protocol, addrlen; void *addr; char *name; uint32_t namelen; void *next; } hint = {0}, info = {0};
  uint8_t data[26];
  void *first = &info;
  uint32_t n;
  addr.len = sizeof data, addr.data = data, info.addr = &addr;
  hint.family = INET4, hint.type = STREAM;
  check("getaddrinfo", sock_getaddrinfo(name, strlen(name), "80", 2, &hint, &first, 1, &n));
  printf("%d.%d.%d.%d:%d\n", data[2], data[3], data[4], data[5], data[0] << 8 | data[1]);
}

int main(int argc, char **argv) {
  const char *verb = argv[1];
  nonblock = strcmp(argv[2], "nonblock") == 0;
  if (strcmp(verb, "listen") == 0) serve();
  if (strcmp(verb, "inherit") == 0) inherited();
  if (strcmp(verb, "connect") == 0) dial(atoi(argv[3]));
  if (strcmp(verb, "udp") == 0) datagram(atoi(argv[3]));
  if (strcmp(verb, "dns") == 0) resolve(argv[3]);
  return 0;
}
