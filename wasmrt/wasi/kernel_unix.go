//go:build unix

package wasi

import (
	"io"
	"net"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// kernel is the transport of a socket of the host: system calls that do not
// wait, straight on the guest's memory, and the Go runtime's own poller for
// readiness.
type kernel struct {
	raw    syscall.RawConn
	reads  watch
	writes watch

	// One operation at a time, the guest's; kept here so that the closures are
	// made once and not for each call.
	buf   []byte
	n     int
	err   error
	recv  func(uintptr)
	send  func(uintptr)
	asked int16
	sign  bool
	probe func(uintptr)
}

func newKernel(c net.Conn) (transport, bool) {
	sc, ok := c.(syscall.Conn)
	if !ok {
		return nil, false
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return nil, false
	}
	k := &kernel{raw: raw}
	k.reads = watch{block: raw.Read, event: unix.POLLIN}
	k.writes = watch{block: raw.Write, event: unix.POLLOUT}
	k.recv = func(fd uintptr) { k.n, k.err = retry(func() (int, error) { return unix.Read(int(fd), k.buf) }) }
	k.send = func(fd uintptr) {
		k.n, k.err = retry(func() (int, error) { return unix.SendmsgN(int(fd), k.buf, nil, nil, noSignal) })
	}
	k.probe = func(fd uintptr) { k.sign = signalled(fd, k.asked) }
	return k, true
}

func retry(call func() (int, error)) (int, error) {
	for {
		n, err := call()
		if err != unix.EINTR {
			return n, err
		}
	}
}

func (k *kernel) tryRead(p []byte) (int, error) {
	k.buf = p
	err := k.raw.Control(k.recv)
	k.buf = nil
	switch {
	case err != nil:
		return 0, err
	case k.err != nil:
		return 0, k.err
	case k.n == 0:
		return 0, io.EOF
	}
	return k.n, nil
}

func (k *kernel) tryWrite(p []byte) (int, error) {
	k.buf = p
	err := k.raw.Control(k.send)
	k.buf = nil
	if err != nil {
		return 0, err
	}
	return max(k.n, 0), k.err
}

func (k *kernel) Poll(dir Direction, wake func()) (bool, func()) {
	w := &k.reads
	if dir == Write {
		w = &k.writes
	}
	k.asked = w.event
	if err := k.raw.Control(k.probe); err != nil || k.sign {
		return true, nil // an error is for the next read or write to tell
	}
	w.start(wake)
	return false, w.forget
}

// stop has nothing to do: closing the connection ends the watches.
func (*kernel) stop() {}

func (*kernel) last(do func() error) error { return do() }

// signalled asks the kernel, without waiting.
func signalled(fd uintptr, event int16) bool {
	p := []unix.PollFd{{Fd: int32(fd), Events: event}}
	n, _ := retry(func() (int, error) { return unix.Poll(p, 0) })
	return n > 0
}

// watch waits for one direction of one socket. Its goroutine starts when the
// guest first waits, and stays until the socket is ready or closed, however
// often the guest turns to other things meanwhile.
type watch struct {
	block func(func(fd uintptr) bool) error // RawConn.Read or Write
	event int16

	mu   sync.Mutex // guards what follows
	on   bool
	wake func()
}

func (w *watch) start(wake func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.wake = wake
	if w.on {
		return
	}
	w.on = true
	go func() {
		// Closed is as good as ready: the guest looks and sees.
		_ = w.block(func(fd uintptr) bool { return signalled(fd, w.event) })
		w.mu.Lock()
		wake := w.wake
		w.on, w.wake = false, nil
		w.mu.Unlock()
		if wake != nil {
			wake()
		}
	}()
}

func (w *watch) forget() {
	w.mu.Lock()
	w.wake = nil
	w.mu.Unlock()
}
