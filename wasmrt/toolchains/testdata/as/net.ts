// What an AssemblyScript program does with the network, through preview1's and
// WasmEdge's imports (version 1), declared by hand.
@external("wasi_snapshot_preview1", "args_sizes_get") declare function args_sizes_get(n: usize, size: usize): i32;
@external("wasi_snapshot_preview1", "args_get") declare function args_get(list: usize, text: usize): i32;
@external("wasi_snapshot_preview1", "fd_read") declare function fd_read(fd: i32, vectors: usize, n: i32, got: usize): i32;
@external("wasi_snapshot_preview1", "fd_write") declare function fd_write(fd: i32, vectors: usize, n: i32, sent: usize): i32;
@external("wasi_snapshot_preview1", "fd_fdstat_set_flags") declare function fd_fdstat_set_flags(fd: i32, flags: i32): i32;
@external("wasi_snapshot_preview1", "poll_oneoff") declare function poll_oneoff(subs: usize, events: usize, n: i32, count: usize): i32;
@external("wasi_snapshot_preview1", "proc_exit") declare function proc_exit(code: i32): void;
@external("wasi_snapshot_preview1", "sock_open") declare function sock_open(family: i32, kind: i32, fd: usize): i32;
@external("wasi_snapshot_preview1", "sock_bind") declare function sock_bind(fd: i32, at: usize, port: i32): i32;
@external("wasi_snapshot_preview1", "sock_listen") declare function sock_listen(fd: i32, backlog: i32): i32;
@external("wasi_snapshot_preview1", "sock_accept") declare function sock_accept(fd: i32, conn: usize): i32;
@external("wasi_snapshot_preview1", "sock_connect") declare function sock_connect(fd: i32, to: usize, port: i32): i32;
@external("wasi_snapshot_preview1", "sock_getlocaladdr") declare function sock_getlocaladdr(fd: i32, at: usize, kind: usize, port: usize): i32;
@external("wasi_snapshot_preview1", "sock_send_to") declare function sock_send_to(fd: i32, vectors: usize, n: i32, to: usize, port: i32, flags: i32, sent: usize): i32;
@external("wasi_snapshot_preview1", "sock_recv_from") declare function sock_recv_from(fd: i32, vectors: usize, n: i32, from: usize, flags: i32, port: usize, got: usize, oflags: usize): i32;
@external("wasi_snapshot_preview1", "sock_getaddrinfo") declare function sock_getaddrinfo(node: usize, len: i32, service: usize, slen: i32, hint: usize, results: usize, max: i32, count: usize): i32;

const AGAIN = 6, IN_PROGRESS = 26, READ: u8 = 1, WRITE: u8 = 2;

const cell = memory.data(16);    // what calls answer
const vector = memory.data(8);
const buffer = memory.data(256);
const local = memory.data(8);    // an address: pointer and length
const ip = memory.data(4);
const subscription = memory.data(48, 8), event = memory.data(32, 8);

function check(what: string, err: i32): void {
  if (err == 0) return;
  print(2, what + ": error " + err.toString());
  proc_exit(1);
}

function print(fd: i32, line: string): void {
  const text = String.UTF8.encode(line + "\n");
  fd_write(fd, vectorOf(changetype<usize>(text), text.byteLength), 1, cell);
}

function vectorOf(at: usize, size: i32): usize {
  store<u32>(vector, u32(at));
  store<u32>(vector, size, 4);
  return vector;
}

function ready(fd: i32, what: u8): void {
  store<u8>(subscription, what, 8);
  store<u32>(subscription, fd, 16);
  check("poll", poll_oneoff(subscription, event, 1, cell));
}

function opened(kind: i32): i32 {
  check("open", sock_open(1, kind, cell));
  store<u32>(ip, 0x0100007f);
  store<u32>(local, u32(ip));
  store<u32>(local, 4, 4);
  return load<i32>(cell);
}

let flags = 0;

function mode(fd: i32): void {
  check("flags", fd_fdstat_set_flags(fd, flags));
}

function serve(): void {
  const fd = opened(2);
  check("bind", sock_bind(fd, local, 0));
  check("listen", sock_listen(fd, 8));
  check("getlocaladdr", sock_getlocaladdr(fd, local, cell, cell + 4));
  print(1, load<u32>(cell, 4).toString());
  accept(fd);
}

function accept(fd: i32): void {
  mode(fd);
  let err: i32;
  while ((err = sock_accept(fd, cell)) == AGAIN) ready(fd, READ);
  check("accept", err);
  const conn = load<i32>(cell);
  mode(conn);
  for (;;) {
    const n = read(conn);
    if (n == 0) return;
    check("write", fd_write(conn, vectorOf(buffer, n), 1, cell));
  }
}

function read(fd: i32): i32 {
  let err: i32;
  while ((err = fd_read(fd, vectorOf(buffer, 256), 1, cell)) == AGAIN) ready(fd, READ);
  check("read", err);
  return load<i32>(cell);
}

function dial(port: i32): void {
  const fd = opened(2);
  mode(fd);
  let err: i32;
  while ((err = sock_connect(fd, local, port)) == IN_PROGRESS) ready(fd, WRITE);
  check("connect", err);
  store<u32>(buffer, 0x676e6970); // ping
  check("write", fd_write(fd, vectorOf(buffer, 4), 1, cell));
  const n = read(fd);
  print(1, String.UTF8.decodeUnsafe(buffer, n));
}

function datagram(port: i32): void {
  const fd = opened(1);
  mode(fd);
  store<u32>(buffer, 0x676e6970); // ping
  check("send_to", sock_send_to(fd, vectorOf(buffer, 4), 1, local, port, 0, cell));
  let err: i32;
  while ((err = sock_recv_from(fd, vectorOf(buffer, 256), 1, local, 0, cell, cell + 4, cell + 8)) == AGAIN) ready(fd, READ);
  check("recv_from", err);
  const whence = load<i32>(cell) == port ? " from there" : " from elsewhere";
  print(1, String.UTF8.decodeUnsafe(buffer, load<u32>(cell, 4)) + whence);
}

const hint = memory.data(28), info = memory.data(28), sockaddr = memory.data(12), data = memory.data(26);

function resolve(name: string): void {
  const node = String.UTF8.encode(name), service = String.UTF8.encode("80");
  store<u8>(hint, 1, 2);
  store<u8>(hint, 2, 3);
  store<u32>(sockaddr, 26, 4);
  store<u32>(sockaddr, u32(data), 8);
  store<u32>(info, u32(sockaddr), 12);
  store<u32>(cell, u32(info));
  check("getaddrinfo", sock_getaddrinfo(changetype<usize>(node), node.byteLength, changetype<usize>(service), 2, hint, cell, 1, cell + 4));
  const b = (i: i32): string => load<u8>(data + i).toString();
  print(1, b(2) + "." + b(3) + "." + b(4) + "." + b(5) + ":" + bswap<u16>(load<u16>(data)).toString());
}

function args(): string[] {
  check("args", args_sizes_get(cell, cell + 4));
  const n = load<i32>(cell);
  const list = heap.alloc(n * 4), text = heap.alloc(load<u32>(cell, 4));
  check("args", args_get(list, text));
  const out: string[] = [];
  for (let i = 0; i < n; i++) {
    const at = load<u32>(list + i * 4);
    let end = at;
    while (load<u8>(end) != 0) end++;
    out.push(String.UTF8.decodeUnsafe(at, end - at));
  }
  return out;
}

const given = args();
if (given[2] == "nonblock") flags = 4;
if (given[1] == "listen") serve();
if (given[1] == "inherit") accept(3);
if (given[1] == "connect") dial(i32.parse(given[3]));
if (given[1] == "udp") datagram(i32.parse(given[3]));
if (given[1] == "dns") resolve(given[3]);
