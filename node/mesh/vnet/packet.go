package vnet

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"
)

// Bounds of one datagram port. What comes while its queue is full is lost, as
// UDP may lose it.
const (
	maxDatagram    = 65507     // bytes of data, as UDP over IPv4 has it
	maxQueued      = 512       // datagrams that wait to be read
	maxQueuedBytes = 256 << 10 // and their bytes, as net.core.rmem_default has it about
	packetCost     = 64        // bytes that a datagram takes beyond its data
)

// PacketConn is a datagram port of a pod.
type PacketConn struct {
	stack  *Stack
	addr   netip.AddrPort
	readBy deadline
	routes packetRoutes
	exit   packetExit

	mu     sync.Mutex // guards what follows
	queue  []packet
	bytes  int // in queue, with what they cost
	closed bool
	ready  waiters // woken when there is something to read
}

type packet struct {
	data []byte
	from netip.AddrPort
}

// ListenPacket opens a datagram port of the pod. addr is "HOST:PORT", as for
// Listen; the ports of datagrams are others than those of connections.
func (s *Stack) ListenPacket(_ context.Context, network, addr string) (net.PacketConn, error) {
	fail := func(err error) (net.PacketConn, error) {
		return nil, &net.OpError{Op: "listen", Net: network, Err: err}
	}
	if network != "udp" && network != "udp4" {
		return fail(ErrNoNetwork)
	}
	port, err := s.listenPort("tcp", addr)
	if err != nil {
		return fail(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed:
		return fail(net.ErrClosed)
	case len(s.packets) >= maxPorts:
		return fail(fmt.Errorf("the pod has %d open ports for datagrams: %w", maxPorts, syscall.EMFILE))
	}
	for port == 0 {
		s.ephemeral++
		if p := 49152 + s.ephemeral%16384; s.packets[p] == nil {
			port = p
		}
	}
	if s.packets[port] != nil {
		return fail(fmt.Errorf("port %d: %w", port, ErrPortInUse))
	}
	c := &PacketConn{stack: s, addr: netip.AddrPortFrom(s.ip, port)}
	if s.packets == nil {
		s.packets = map[uint16]*PacketConn{}
	}
	s.packets[port] = c
	return c, nil
}

// packetPort is the open port of that number, or nil.
func (s *Stack) packetPort(port uint16) *PacketConn {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.packets[port]
}

// WriteTo sends a datagram. It never waits. Nobody is told of one that is lost:
// because nobody listens, or because the one who does reads too slowly.
func (c *PacketConn) WriteTo(p []byte, addr net.Addr) (int, error) {
	if err := c.send(p, addrPort(addr)); err != nil {
		return 0, &net.OpError{Op: "write", Net: "udp", Source: c.LocalAddr(), Addr: addr, Err: err}
	}
	return len(p), nil
}

func (c *PacketConn) send(p []byte, to netip.AddrPort) error {
	switch {
	case c.isClosed():
		return net.ErrClosed
	case !to.IsValid() || to.Port() == 0:
		return syscall.EINVAL
	case len(p) > maxDatagram:
		return syscall.EMSGSIZE
	}
	from := c.addr
	if ip := to.Addr(); ip.IsLoopback() || ip.IsUnspecified() {
		from = netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), c.addr.Port())
		to = netip.AddrPortFrom(c.stack.ip, to.Port())
	}
	n := c.stack.net
	to, err := c.routes.follow(n.cfg.Router, to)
	if err != nil {
		return err
	}
	if !n.inside(to.Addr()) {
		return c.exit.send(c, p, to)
	}
	s := n.stack(to.Addr())
	if s == nil {
		return ErrUnroutable // other nodes are reached by connections alone
	}
	if there := s.packetPort(to.Port()); there != nil {
		there.deliver(p, from)
	}
	return nil
}

// deliver queues a copy of a datagram, or loses it.
func (c *PacketConn) deliver(p []byte, from netip.AddrPort) {
	cost := len(p) + packetCost
	c.mu.Lock()
	if c.closed || len(c.queue) >= maxQueued || c.bytes+cost > maxQueuedBytes {
		c.mu.Unlock()
		return
	}
	c.queue = append(c.queue, packet{append([]byte{}, p...), from})
	c.bytes += cost
	woken := c.ready.take()
	c.mu.Unlock()
	woken.wake()
}

// ReadFrom returns the next datagram; what does not fit into p is lost.
func (c *PacketConn) ReadFrom(p []byte) (int, net.Addr, error) {
	for {
		if c.readBy.over() {
			return 0, nil, c.readError(os.ErrDeadlineExceeded)
		}
		got, ready, err := c.take()
		if ready == nil {
			if err != nil {
				return 0, nil, c.readError(err)
			}
			return copy(p, got.data), net.UDPAddrFromAddrPort(got.from), nil
		}
		select {
		case <-ready:
		case <-c.readBy.passed():
		}
	}
}

func (c *PacketConn) readError(err error) error {
	return &net.OpError{Op: "read", Net: "udp", Source: c.LocalAddr(), Err: err}
}

// take is the next datagram, or what to wait for.
func (c *PacketConn) take() (packet, <-chan struct{}, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return packet{}, nil, net.ErrClosed
	}
	if len(c.queue) == 0 {
		return packet{}, c.ready.wait(), nil
	}
	got := c.queue[0]
	c.queue[0] = packet{}
	if c.queue = c.queue[1:]; len(c.queue) == 0 {
		c.queue = nil
	}
	c.bytes -= len(got.data) + packetCost
	got.from = c.routes.back(got.from)
	return got, nil, nil
}

// Close closes the port; what was not read is lost.
func (c *PacketConn) Close() error {
	c.stack.mu.Lock()
	if c.stack.packets[c.addr.Port()] == c {
		delete(c.stack.packets, c.addr.Port())
	}
	c.stack.mu.Unlock()
	c.shut()
	return nil
}

func (c *PacketConn) shut() {
	c.mu.Lock()
	woken := c.ready.take()
	c.queue, c.bytes, c.closed = nil, 0, true
	c.mu.Unlock()
	woken.wake()
	c.routes.close()
	c.exit.close()
}

func (c *PacketConn) isClosed() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.closed
}

// LocalAddr is the pod's address and the port.
func (c *PacketConn) LocalAddr() net.Addr { return net.UDPAddrFromAddrPort(c.addr) }

// SetDeadline bounds ReadFrom; WriteTo does not wait.
func (c *PacketConn) SetDeadline(t time.Time) error { return c.SetReadDeadline(t) }

// SetReadDeadline bounds ReadFrom.
func (c *PacketConn) SetReadDeadline(t time.Time) error {
	c.readBy.set(t)
	return nil
}

// SetWriteDeadline has nothing to bound.
func (c *PacketConn) SetWriteDeadline(time.Time) error { return nil }

// addrPort is what a net.Addr of UDP says, or the zero value.
func addrPort(a net.Addr) netip.AddrPort {
	u, ok := a.(*net.UDPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	p := u.AddrPort()
	return netip.AddrPortFrom(p.Addr().Unmap(), p.Port())
}
