package vnet

import (
	"context"
	"net"
	"net/netip"
	"time"
)

// Conn is one end of a connection between pods, as those who carry it elsewhere
// need it. Half-closes and resets pass through it.
type Conn interface {
	net.Conn
	// CloseWrite ends the outgoing direction: the other end reads end of file.
	CloseWrite() error
	// CloseRead ends the incoming direction: the other end's writes fail with EPIPE.
	CloseRead() error
	// Reset ends both at once: the other end gets ECONNRESET.
	Reset()
	// AwaitRead waits until a read would not, so that nobody holds a buffer for a
	// connection that is silent.
	AwaitRead()
}

// Remote reaches the pods of other nodes. *link.Link is one.
type Remote interface {
	// Dial carries conn, which is ours from then on, to a pod on another node, as
	// coming from a pod here, or from the node itself if from has no address. On
	// error nothing has been carried; it wraps the errno that a guest sees.
	Dial(ctx context.Context, from, to netip.AddrPort, conn Conn) error
}

// Alternatives is a Router that can choose again, when the pod that it chose did
// not answer.
type Alternatives interface {
	// RouteAgain is Route that leaves out pods that were tried.
	RouteAgain(to netip.AddrPort, tried []netip.AddrPort) (pod netip.AddrPort, done func(), ok bool, err error)
}

// attempts is how many pods of a Service one dial tries. Those on a node that is
// known to be lost fail at once, so they cost nothing.
const (
	attempts    = 16
	dialTimeout = 10 * time.Second // after which no other is tried
)

// Deliver connects a pod of another node to a pod of this one. The caller has
// checked that from is who it says. Virtual addresses lead nowhere: they were
// routed where the call began.
func (n *Net) Deliver(_ context.Context, from, to netip.AddrPort) (Conn, error) {
	s := n.stack(to.Addr())
	if s == nil {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Addr: net.TCPAddrFromAddrPort(to), Err: ErrUnroutable}
	}
	c, err := s.connect(from, to.Port(), nil)
	if err != nil {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Addr: net.TCPAddrFromAddrPort(to), Err: err}
	}
	return c, nil
}

// dial connects from a pod, or from the node when from is not valid. Of a
// Service, pods are tried until one answers.
func (n *Net) dial(ctx context.Context, from netip.Addr, to netip.AddrPort) (net.Conn, error) {
	var tried []netip.AddrPort
	var last error
	var begin time.Time // of the second try: the first mostly is the last, and looks at no clock
	for {
		pod, done, virtual, err := n.route(to, tried)
		if err != nil {
			if last != nil { // there is nobody else to try
				return nil, last
			}
			return nil, err
		}
		conn, err := n.reach(ctx, from, pod, done)
		if err == nil {
			return conn, nil
		}
		if done != nil {
			done()
		}
		last = &net.OpError{Op: "dial", Net: "tcp", Addr: net.TCPAddrFromAddrPort(pod), Err: err}
		if tried = append(tried, pod); begin.IsZero() {
			begin = time.Now()
		}
		if _, again := n.cfg.Router.(Alternatives); !virtual || !again || len(tried) == attempts || ctx.Err() != nil || time.Since(begin) > dialTimeout {
			return nil, last
		}
	}
}

// reach connects to a pod, here or elsewhere. done is told once when the
// connection has ended, if it came about.
func (n *Net) reach(ctx context.Context, from netip.Addr, pod netip.AddrPort, done func()) (*conn, error) {
	if s := n.stack(pod.Addr()); s != nil {
		return s.connect(netip.AddrPortFrom(from, 0), pod.Port(), done)
	}
	if n.cfg.Remote == nil {
		return nil, ErrUnroutable
	}
	caller := n.stack(from)
	source := netip.AddrPortFrom(from, 0)
	if caller != nil {
		source = caller.nextSource()
	}
	near, far := newPair(source, pod)
	near.done = done
	if err := n.cfg.Remote.Dial(ctx, source, pod, far); err != nil {
		return nil, err
	}
	if caller != nil {
		caller.adopt(near)
	}
	return near, nil
}

// nextSource is an address that a connection of this pod comes from.
func (s *Stack) nextSource() netip.AddrPort {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ephemeral++
	return netip.AddrPortFrom(s.ip, 49152+s.ephemeral%16384)
}

// CloseRead implements Conn.
func (c *conn) CloseRead() error {
	c.in.finish(func() { c.in.gone = true })
	return nil
}

// Reset implements Conn.
func (c *conn) Reset() { c.reset() }

// AwaitRead implements Conn.
func (c *conn) AwaitRead() {
	f := c.in
	f.mu.Lock()
	if f.readable() {
		f.mu.Unlock()
		return
	}
	ready := f.read.wait()
	f.mu.Unlock()
	<-ready
}
