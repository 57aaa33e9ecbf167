package vnet

import (
	"io"
	"net"
	"net/netip"
	"sync"
	"time"
)

// conn is one end of a connection.
type conn struct {
	local, remote netip.AddrPort
	in, out       *flow
	readBy        deadline
	writeBy       deadline
	stack         *Stack // that counts this end; nil for the node's
	done          func() // told once when this end closes; may be nil
	closing       sync.Once
}

// newPair makes both ends of a connection.
func newPair(from, to netip.AddrPort) (near, far *conn) {
	there, back := new(flow), new(flow)
	near = &conn{local: from, remote: to, in: back, out: there}
	far = &conn{local: to, remote: from, in: there, out: back}
	return near, far
}

func (c *conn) Read(p []byte) (int, error) {
	n, err := c.in.get(p, &c.readBy)
	return n, c.wrap("read", err)
}

func (c *conn) Write(p []byte) (int, error) {
	n, err := c.out.put(p, &c.writeBy)
	return n, c.wrap("write", err)
}

// Close ends both directions: the other side reads what was sent and then end
// of file, and can write no more.
func (c *conn) Close() error {
	c.closing.Do(func() {
		c.out.finish(func() { c.out.eof = true })
		c.in.finish(func() { c.in.gone = true })
		if c.stack != nil {
			c.stack.forget(c)
		}
		if c.done != nil {
			c.done()
		}
	})
	return nil
}

// CloseWrite ends the outgoing direction alone.
func (c *conn) CloseWrite() error {
	c.out.finish(func() { c.out.eof = true })
	return nil
}

// reset ends both directions at once; unread bytes are lost.
func (c *conn) reset() {
	c.out.finish(func() { c.out.cut = true })
	c.in.finish(func() { c.in.cut = true })
	_ = c.Close()
}

func (c *conn) LocalAddr() net.Addr  { return net.TCPAddrFromAddrPort(c.local) }
func (c *conn) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(c.remote) }

func (c *conn) SetDeadline(t time.Time) error {
	c.readBy.set(t)
	c.writeBy.set(t)
	return nil
}

func (c *conn) SetReadDeadline(t time.Time) error {
	c.readBy.set(t)
	return nil
}

func (c *conn) SetWriteDeadline(t time.Time) error {
	c.writeBy.set(t)
	return nil
}

// wrap tells which end an error was on, as the net package does; io.EOF passes
// as it is.
func (c *conn) wrap(op string, err error) error {
	if err == nil || err == io.EOF {
		return err
	}
	return &net.OpError{Op: op, Net: "tcp", Source: c.LocalAddr(), Addr: c.RemoteAddr(), Err: err}
}
