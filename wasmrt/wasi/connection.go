package wasi

import (
	"errors"
	"io"
	"net"
)

// transport moves bytes of a connection without waiting; errAgain (or an error
// that is syscall.EAGAIN) says that it would have to.
type transport interface {
	Pollable
	tryRead(p []byte) (int, error)
	tryWrite(p []byte) (int, error)
	last(do func() error) error // does it once what was written is on its way
	stop()                      // releases what the transport itself holds, after the connection is closed
}

// connection is a stream socket.
type connection struct {
	net.Conn
	transport
	peeked    []byte // bytes that a peek took and nobody read yet
	readShut  bool
	writeShut bool
}

func newConnection(c net.Conn) *connection {
	return &connection{Conn: c, transport: transportOf(c)}
}

// transportOf picks the best way that c offers: its own readiness, the
// kernel's, or a goroutine.
func transportOf(c net.Conn) transport {
	if p, ok := c.(Pollable); ok {
		return newOwn(c, p)
	}
	if t, ok := newKernel(c); ok {
		return t
	}
	return newPumped(c)
}

func (*connection) kind() filetype { return typeSocketStream }

func (c *connection) close() error {
	err := c.transport.last(c.Conn.Close)
	c.transport.stop()
	return err
}

func (c *connection) read(p []byte) (int, errno) {
	if c.readShut || len(p) == 0 {
		return 0, success
	}
	if len(c.peeked) > 0 {
		n := copy(p, c.peeked)
		c.peeked = c.peeked[n:]
		return n, success
	}
	n, err := c.tryRead(p)
	switch {
	case n > 0 || errors.Is(err, io.EOF):
		return n, success
	case err != nil:
		return 0, toErrno(err)
	}
	return 0, success
}

// peek reads without taking: the bytes stay for the next read.
func (c *connection) peek(p []byte) (int, errno) {
	if len(c.peeked) == 0 && !c.readShut {
		b := make([]byte, min(len(p), streamBuffer))
		n, e := c.read(b)
		if e != success {
			return 0, e
		}
		c.peeked = b[:n]
	}
	return copy(p, c.peeked), success
}

func (c *connection) write(p []byte) (int, errno) {
	if c.writeShut {
		return 0, errPipe
	}
	if len(p) == 0 {
		return 0, success
	}
	n, err := c.tryWrite(p)
	if n > 0 {
		return n, success
	}
	if errors.Is(err, net.ErrClosed) {
		return 0, errPipe
	}
	return 0, toErrno(err)
}

func (c *connection) Poll(dir Direction, wake func()) (bool, func()) {
	if dir == Read && (c.readShut || len(c.peeked) > 0) || dir == Write && c.writeShut {
		return true, nil
	}
	return c.transport.Poll(dir, wake)
}

// shutdown ends one or both directions. Where the connection cannot end one
// alone, reading is ended on our side, and writing is not supported.
func (c *connection) shutdown(read, write bool) errno {
	if read {
		c.readShut = true
		if half, ok := c.Conn.(interface{ CloseRead() error }); ok {
			if err := half.CloseRead(); err != nil {
				return shutdownErrno(err)
			}
		}
	}
	if !write {
		return success
	}
	half, ok := c.Conn.(interface{ CloseWrite() error })
	if !ok {
		return errNotSupported
	}
	c.writeShut = true
	return shutdownErrno(c.transport.last(half.CloseWrite))
}

func shutdownErrno(err error) errno {
	if errors.Is(err, net.ErrClosed) {
		return errNotConnected
	}
	return toErrno(err)
}

// own is the transport of a Pollable connection.
type own struct {
	net.Conn
	Pollable
	try interface {
		TryRead([]byte) (int, error)
		TryWrite([]byte) (int, error)
	}
}

func newOwn(c net.Conn, p Pollable) *own {
	o := &own{Conn: c, Pollable: p}
	o.try, _ = c.(interface {
		TryRead([]byte) (int, error)
		TryWrite([]byte) (int, error)
	})
	return o
}

func (o *own) ready(dir Direction) bool {
	ready, cancel := o.Pollable.Poll(dir, func() {})
	if cancel != nil {
		cancel()
	}
	return ready
}

func (o *own) tryRead(p []byte) (int, error) {
	if o.try != nil {
		return o.try.TryRead(p)
	}
	if !o.ready(Read) {
		return 0, errAgain
	}
	return o.Conn.Read(p)
}

func (o *own) tryWrite(p []byte) (int, error) {
	if o.try != nil {
		return o.try.TryWrite(p)
	}
	if !o.ready(Write) {
		return 0, errAgain
	}
	return o.Conn.Write(p[:min(len(p), pipeBuffer)])
}

func (*own) last(do func() error) error { return do() }
func (*own) stop()                      {}
