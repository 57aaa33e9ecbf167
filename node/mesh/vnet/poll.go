package vnet

import (
	"net"
	"syscall"

	"copepod/wasmrt/wasi"
)

// Connections and listeners tell a guest of their readiness themselves, so that
// a server that waits costs neither a goroutine nor a descriptor.
var (
	_ wasi.Pollable = (*conn)(nil)
	_ wasi.Pollable = (*Listener)(nil)
)

// Poll implements wasi.Pollable.
func (c *conn) Poll(dir wasi.Direction, wake func()) (ready bool, cancel func()) {
	if dir == wasi.Write {
		return c.out.poll(c.out.writable, &c.out.write, wake)
	}
	return c.in.poll(c.in.readable, &c.in.read, wake)
}

// TryRead is Read that returns EAGAIN where Read would wait.
func (c *conn) TryRead(p []byte) (int, error) {
	n, ready, err := c.in.tryGet(p)
	if ready != nil {
		return 0, syscall.EAGAIN
	}
	return n, c.wrap("read", err)
}

// TryWrite writes what there is room for, and returns EAGAIN if that is nothing.
func (c *conn) TryWrite(p []byte) (int, error) {
	n, room, err := c.out.tryPut(p)
	if room != nil && n == 0 {
		return 0, syscall.EAGAIN
	}
	return n, c.wrap("write", err)
}

// Poll implements wasi.Pollable: a listener is ready for Read when Accept would
// not wait.
func (l *Listener) Poll(_ wasi.Direction, wake func()) (ready bool, cancel func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed || len(l.queue) > 0 {
		return true, nil
	}
	return false, l.ready.add(&l.mu, wake)
}

// TryAccept is Accept that returns EAGAIN where Accept would wait.
func (l *Listener) TryAccept() (net.Conn, error) {
	c, ready, err := l.take()
	if ready != nil {
		return nil, syscall.EAGAIN
	}
	return c, err
}
