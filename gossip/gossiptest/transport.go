package gossiptest

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
)

// inbox is how many packets wait for a member before more are lost, as in the
// buffer of a socket.
const inbox = 1024

// Transport is one member's end of a Network. It implements
// memberlist.NodeAwareTransport.
type Transport struct {
	net  *Network
	name string
	addr netip.AddrPort

	packets chan *memberlist.Packet
	streams chan net.Conn
	done    chan struct{}
	stop    sync.Once
}

var _ memberlist.NodeAwareTransport = (*Transport)(nil)

// Addr is where others reach this member.
func (t *Transport) Addr() netip.AddrPort { return t.addr }

func (t *Transport) FinalAdvertiseAddr(string, int) (net.IP, int, error) {
	return t.addr.Addr().AsSlice(), int(t.addr.Port()), nil
}

func (t *Transport) PacketCh() <-chan *memberlist.Packet { return t.packets }
func (t *Transport) StreamCh() <-chan net.Conn           { return t.streams }

func (t *Transport) WriteTo(b []byte, addr string) (time.Time, error) {
	return t.WriteToAddress(b, memberlist.Address{Addr: addr})
}

// WriteToAddress never fails for want of a receiver, as UDP does not.
func (t *Transport) WriteToAddress(b []byte, to memberlist.Address) (time.Time, error) {
	now := time.Now()
	addr, err := netip.ParseAddrPort(to.Addr)
	if err != nil {
		return now, err
	}
	dest, after, ok := t.net.route(t, addr, len(b), true)
	if !ok {
		return now, nil
	}
	b, from := append([]byte(nil), b...), net.UDPAddrFromAddrPort(t.addr)
	if after == 0 {
		dest.receive(b, from)
	} else {
		time.AfterFunc(after, func() { dest.receive(b, from) })
	}
	return now, nil
}

func (t *Transport) receive(b []byte, from net.Addr) {
	select {
	case <-t.done:
		return
	default:
	}
	select {
	case t.packets <- &memberlist.Packet{Buf: b, From: from, Timestamp: time.Now()}:
	default:
		t.net.mu.Lock()
		t.net.stats.Lost++
		t.net.mu.Unlock()
	}
}

func (t *Transport) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	return t.DialAddressTimeout(memberlist.Address{Addr: addr}, timeout)
}

// DialAddressTimeout waits out its timeout when the way is cut, as TCP does.
func (t *Transport) DialAddressTimeout(to memberlist.Address, timeout time.Duration) (net.Conn, error) {
	addr, err := netip.ParseAddrPort(to.Addr)
	if err != nil {
		return nil, err
	}
	dest, after, ok := t.net.route(t, addr, 0, false)
	if !ok {
		return nil, t.silence(addr, timeout)
	}
	if after > 0 {
		if after >= timeout {
			return nil, t.silence(addr, timeout)
		}
		time.Sleep(after)
	}
	return t.net.pipe(link{t.name, dest.name}, t.addr, dest, timeout-after)
}

func (t *Transport) silence(addr netip.AddrPort, timeout time.Duration) error {
	select {
	case <-time.After(timeout):
	case <-t.done:
	}
	return dialError(addr, os.ErrDeadlineExceeded)
}

func dialError(addr netip.AddrPort, err error) error {
	return &net.OpError{Op: "dial", Net: "tcp", Addr: net.TCPAddrFromAddrPort(addr), Err: err}
}

// Shutdown detaches the member: packets to it vanish, streams are refused.
func (t *Transport) Shutdown() error {
	t.stop.Do(func() { close(t.done) })
	return nil
}

// pipe is one stream between two members.
type pipe struct {
	net     *Network
	between link
	ends    [2]net.Conn
	open    int // ends that are not closed; guarded by net.mu
}

// end is one side of a pipe, with the addresses of its members.
type end struct {
	net.Conn
	pipe          *pipe
	local, remote net.Addr
	once          sync.Once
}

func (e *end) LocalAddr() net.Addr  { return e.local }
func (e *end) RemoteAddr() net.Addr { return e.remote }

func (e *end) Close() error {
	e.once.Do(func() {
		n := e.pipe.net
		n.mu.Lock()
		defer n.mu.Unlock()
		if e.pipe.open--; e.pipe.open == 0 {
			delete(n.pipes, e.pipe)
		}
	})
	return e.Conn.Close()
}

var errRefused = errors.New("connection refused")

func (n *Network) pipe(between link, from netip.AddrPort, to *Transport, timeout time.Duration) (net.Conn, error) {
	a, b := net.Pipe()
	p := &pipe{net: n, between: between, ends: [2]net.Conn{a, b}, open: 2}
	near := &end{Conn: a, pipe: p, local: net.TCPAddrFromAddrPort(from), remote: net.TCPAddrFromAddrPort(to.addr)}
	far := &end{Conn: b, pipe: p, local: near.remote, remote: near.local}
	n.mu.Lock()
	n.pipes[p] = struct{}{}
	n.mu.Unlock()
	err := errRefused
	select {
	case to.streams <- far:
		return near, nil
	case <-to.done:
	case <-time.After(timeout):
		err = os.ErrDeadlineExceeded
	}
	_, _ = near.Close(), far.Close()
	return nil, dialError(to.addr, err)
}

// sever ends both sides at once.
func (p *pipe) sever() {
	for _, c := range p.ends {
		_ = c.Close()
	}
}
