// Command net is what a Go program does with the network: net for streams once
// they are open, WasmEdge's imports (version 2) to open them, since GOOS=wasip1
// has none of its own.
package main

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"structs"
	"syscall"
	"unsafe"
)

//go:wasmimport wasi_snapshot_preview1 sock_open_v2
func sockOpen(family, kind uint32, fd *uint32) uint32

//go:wasmimport wasi_snapshot_preview1 sock_bind_v2
func sockBind(fd uint32, at *address, port uint32) uint32

//go:wasmimport wasi_snapshot_preview1 sock_listen_v2
func sockListen(fd, backlog uint32) uint32

//go:wasmimport wasi_snapshot_preview1 sock_connect_v2
func sockConnect(fd uint32, to *address, port uint32) uint32

//go:wasmimport wasi_snapshot_preview1 sock_getlocaladdr_v2
func sockLocal(fd uint32, at *address, port *uint32) uint32

//go:wasmimport wasi_snapshot_preview1 sock_getaddrinfo
func sockResolve(node *byte, n uint32, service *byte, sn uint32, hint *info, results *uint32, most uint32, count *uint32) uint32

// Pointers inside of what the host reads are numbers: Go's are 64 bits wide and
// those of WebAssembly 32.
type address struct {
	_          structs.HostLayout
	data, size uint32
}

type info struct {
	_                       structs.HostLayout
	flags                   uint16
	family, kind            uint8
	protocol, addrlen, addr uint32
	name, namelen, next     uint32
}

type sockaddr struct {
	_                  structs.HostLayout
	family, size, data uint32
}

func pointer[T any](p *T) uint32 { return uint32(uintptr(unsafe.Pointer(p))) }

const inProgress = 26

func check(what string, err uint32) {
	if err != 0 {
		fmt.Fprintf(os.Stderr, "%s: %v\n", what, syscall.Errno(err))
		os.Exit(1)
	}
}

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// Variables of the package stay where they are, which those of a function need
// not.
var (
	storage = [128]byte{1, 0, 127, 0, 0, 1}
	data    [26]byte
	peer    = sockaddr{size: uint32(len(data)), data: pointer(&data)}
	result  = info{addr: pointer(&peer)}
)

func local() *address { return &address{data: pointer(&storage), size: 128} }

func opened(kind uint32) (fd uint32) {
	check("open", sockOpen(1, kind, &fd))
	return fd
}

// nonblocking is what Go's runtime needs to park a goroutine and not the program.
func nonblocking(fd uint32) { must(syscall.SetNonblock(int(fd), true)) }

func echo(fd uint32) {
	l, err := net.FileListener(os.NewFile(uintptr(fd), "listener"))
	must(err)
	conn, err := l.Accept()
	must(err)
	_, err = io.Copy(conn, conn)
	must(err)
	conn.Close()
}

func main() {
	verb, last := os.Args[1], os.Args[len(os.Args)-1]
	port, _ := strconv.Atoi(last)
	switch verb {
	case "inherit":
		echo(3)
	case "listen":
		fd, port := opened(2), uint32(0)
		check("bind", sockBind(fd, local(), 0))
		check("listen", sockListen(fd, 8))
		check("getlocaladdr", sockLocal(fd, local(), &port))
		fmt.Println(port)
		nonblocking(fd)
		echo(fd)
	case "connect":
		fd := opened(2)
		check("connect", sockConnect(fd, local(), uint32(port)))
		nonblocking(fd)
		conn, err := net.FileConn(os.NewFile(uintptr(fd), "connection"))
		must(err)
		_, err = conn.Write([]byte("ping"))
		must(err)
		buf := make([]byte, 16)
		n, err := conn.Read(buf)
		must(err)
		fmt.Println(string(buf[:n]))
	case "udp":
		// A connected datagram socket is a file to Go: its reads park.
		fd := opened(1)
		check("connect", sockConnect(fd, local(), uint32(port)))
		nonblocking(fd)
		f := os.NewFile(uintptr(fd), "datagrams")
		_, err := f.Write([]byte("ping"))
		must(err)
		buf := make([]byte, 16)
		n, err := f.Read(buf)
		must(err)
		fmt.Println(string(buf[:n]), "from there")
	case "dns":
		hint := info{family: 1, kind: 2}
		first, n, service := pointer(&result), uint32(0), []byte("80")
		name := []byte(last)
		check("getaddrinfo", sockResolve(&name[0], uint32(len(name)), &service[0], 2, &hint, &first, 1, &n))
		fmt.Printf("%s:%d\n", net.IP(data[2:6]), binary.BigEndian.Uint16(data[:]))
	}
}
