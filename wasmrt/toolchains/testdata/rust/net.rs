// What a Rust program does with the network: std for streams once they are open,
// WasmEdge's imports (version 1) to open them.
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::wasi::io::{FromRawFd, RawFd};

#[repr(C)]
struct Address {
    data: *mut u8,
    size: u32,
}

#[repr(C)]
struct Vector {
    data: *const u8,
    size: u32,
}

#[link(wasm_import_module = "wasi_snapshot_preview1")]
extern "C" {
    fn sock_open(family: u32, kind: u32, fd: *mut RawFd) -> u32;
    fn sock_bind(fd: RawFd, at: *mut Address, port: u32) -> u32;
    fn sock_listen(fd: RawFd, backlog: u32) -> u32;
    fn sock_connect(fd: RawFd, to: *mut Address, port: u32) -> u32;
    fn sock_getlocaladdr(fd: RawFd, at: *mut Address, kind: *mut u32, port: *mut u32) -> u32;
    fn sock_send_to(fd: RawFd, data: *const Vector, n: u32, to: *mut Address, port: u32, flags: u32, sent: *mut u32) -> u32;
    fn sock_recv_from(fd: RawFd, data: *mut Vector, n: u32, from: *mut Address, flags: u32, port: *mut u32, got: *mut u32, oflags: *mut u32) -> u32;
    fn sock_getaddrinfo(node: *const u8, len: u32, service: *const u8, slen: u32, hint: *const Info, results: *mut *mut Info, max: u32, count: *mut u32) -> u32;
    fn fd_fdstat_set_flags(fd: RawFd, flags: u32) -> u32;
    fn poll_oneoff(subs: *const Subscription, events: *mut [u64; 4], n: u32, count: *mut u32) -> u32;
}

#[repr(C)]
#[derive(Default)]
struct Subscription {
    userdata: u64,
    event: u64,
    fd: u64,
    rest: [u64; 3],
}

#[repr(C)]
struct Info {
    flags: u16,
    family: u8,
    kind: u8,
    protocol: u32,
    addrlen: u32,
    addr: *mut Sockaddr,
    name: *mut u8,
    namelen: u32,
    next: *mut Info,
}

#[repr(C)]
struct Sockaddr {
    family: u32,
    len: u32,
    data: *mut u8,
}

const AGAIN: u32 = 6;
const IN_PROGRESS: u32 = 26;
const READ: u64 = 1;
const WRITE: u64 = 2;

fn check(what: &str, err: u32) {
    if err != 0 {
        eprintln!("{}: error {}", what, err);
        std::process::exit(1);
    }
}

fn opened(kind: u32) -> RawFd {
    let mut fd = 0;
    check("open", unsafe { sock_open(1, kind, &mut fd) });
    fd
}

fn mode(fd: RawFd, nonblock: bool) {
    check("flags", unsafe { fd_fdstat_set_flags(fd, if nonblock { 4 } else { 0 }) });
}

fn ready(fd: RawFd, event: u64) {
    let sub = Subscription { event, fd: fd as u64, ..Default::default() };
    let (mut out, mut n) = ([0u64; 4], 0);
    check("poll", unsafe { poll_oneoff(&sub, &mut out, 1, &mut n) });
}

fn patiently<T>(fd: RawFd, mut call: impl FnMut() -> io::Result<T>) -> T {
    loop {
        match call() {
            Ok(v) => return v,
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => ready(fd, READ),
            Err(e) => panic!("{}", e),
        }
    }
}

fn serve(fd: RawFd, nonblock: bool) {
    use std::os::wasi::io::AsRawFd;
    mode(fd, nonblock);
    let listener = unsafe { TcpListener::from_raw_fd(fd) };
    let (mut conn, _) = patiently(fd, || listener.accept());
    mode(conn.as_raw_fd(), nonblock);
    let mut buf = [0; 256];
    loop {
        let n = patiently(conn.as_raw_fd(), || conn.read(&mut buf));
        if n == 0 {
            return;
        }
        conn.write_all(&buf[..n]).unwrap();
    }
}

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let nonblock = args[2] == "nonblock";
    let port = || args[3].parse::<u32>().unwrap();
    let mut ip = [127u8, 0, 0, 1];
    let mut local = Address { data: ip.as_mut_ptr(), size: 4 };
    match args[1].as_str() {
        "inherit" => serve(3, nonblock),
        "listen" => {
            let fd = opened(2);
            let (mut kind, mut port) = (0, 0);
            check("bind", unsafe { sock_bind(fd, &mut local, 0) });
            check("listen", unsafe { sock_listen(fd, 8) });
            check("getlocaladdr", unsafe { sock_getlocaladdr(fd, &mut local, &mut kind, &mut port) });
            println!("{}", port);
            serve(fd, nonblock);
        }
        "connect" => {
            let fd = opened(2);
            mode(fd, nonblock);
            loop {
                let err = unsafe { sock_connect(fd, &mut local, port()) };
                if err != IN_PROGRESS {
                    check("connect", err);
                    break;
                }
                ready(fd, WRITE);
            }
            let mut conn = unsafe { TcpStream::from_raw_fd(fd) };
            conn.write_all(b"ping").unwrap();
            let mut buf = [0; 16];
            let n = patiently(fd, || conn.read(&mut buf));
            println!("{}", String::from_utf8_lossy(&buf[..n]));
        }
        "udp" => {
            let fd = opened(1);
            mode(fd, nonblock);
            let (mut n, mut from, mut flags) = (0, 0, 0);
            let out = Vector { data: b"ping".as_ptr(), size: 4 };
            check("send_to", unsafe { sock_send_to(fd, &out, 1, &mut local, port(), 0, &mut n) });
            let buf = [0u8; 16];
            let mut data = Vector { data: buf.as_ptr(), size: 16 };
            loop {
                let err = unsafe { sock_recv_from(fd, &mut data, 1, &mut local, 0, &mut from, &mut n, &mut flags) };
                if err != AGAIN {
                    check("recv_from", err);
                    break;
                }
                ready(fd, READ);
            }
            let whence = if from == port() { "from there" } else { "from elsewhere" };
            println!("{} {}", String::from_utf8_lossy(&buf[..n as usize]), whence);
        }
        "dns" => {
            let mut data = [0u8; 26];
            let mut addr = Sockaddr { family: 0, len: 26, data: data.as_mut_ptr() };
            let blank = || Info { flags: 0, family: 1, kind: 2, protocol: 0, addrlen: 0, addr: std::ptr::null_mut(), name: std::ptr::null_mut(), namelen: 0, next: std::ptr::null_mut() };
            let (hint, mut info) = (blank(), blank());
            info.addr = &mut addr;
            let mut first: *mut Info = &mut info;
            let mut n = 0;
            check("getaddrinfo", unsafe { sock_getaddrinfo(args[3].as_ptr(), args[3].len() as u32, b"80".as_ptr(), 2, &hint, &mut first, 1, &mut n) });
            println!("{}.{}.{}.{}:{}", data[2], data[3], data[4], data[5], (data[0] as u32) << 8 | data[1] as u32);
        }
        _ => {}
    }
}
