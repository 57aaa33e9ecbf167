package wasi

import (
	"context"
	"net"
	"net/netip"
	"sync"
)

// A socket that the guest opens itself is an unborn one until it is told what
// to be: a listener, a connection by way of dialing, or datagrams. The
// descriptor stays, and what it leads to changes.

// unborn is a socket that was opened and perhaps bound.
type unborn struct {
	v6       bool
	datagram bool
	bound    net.Listener // made at bind, so that its port is known; for listen to take
}

func (u *unborn) kind() filetype {
	if u.datagram {
		return typeSocketDatagram
	}
	return typeSocketStream
}

func (u *unborn) close() error {
	if u.bound == nil {
		return nil
	}
	return u.bound.Close()
}

// Poll: there is nothing to wait for yet, so nobody is made to wait.
func (*unborn) Poll(Direction, func()) (bool, func()) { return true, nil }

// outside is the guest's way out: its network, and a context that ends with it.
type outside struct {
	network Network
	ctx     context.Context
	cancel  context.CancelFunc

	mu     sync.Mutex // guards what follows
	closed bool       // no more listeners
	open   map[net.Listener]struct{}
}

func newOutside(n Network) *outside {
	o := &outside{network: n, open: map[net.Listener]struct{}{}}
	o.ctx, o.cancel = context.WithCancel(context.Background())
	return o
}

// listen opens a listener that Terminate can close.
func (o *outside) listen(addr netip.AddrPort) (net.Listener, error) {
	l, err := o.network.Listen(o.ctx, "tcp", addr.String())
	if err != nil {
		return nil, err
	}
	tracked := &trackedListener{Listener: l, from: o}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		l.Close()
		return nil, net.ErrClosed
	}
	o.open[tracked] = struct{}{}
	if p, ok := l.(Pollable); ok {
		return pollableListener{tracked, p}, nil
	}
	return tracked, nil
}

// trackedListener leaves the list when it closes.
type trackedListener struct {
	net.Listener
	from *outside
}

func (t *trackedListener) Close() error {
	t.from.mu.Lock()
	delete(t.from.open, t)
	t.from.mu.Unlock()
	return t.Listener.Close()
}

type pollableListener struct {
	*trackedListener
	Pollable
}

// TryAccept keeps the listener's own, where it has one.
func (p pollableListener) TryAccept() (net.Conn, error) {
	return acceptWith(p.Listener, p.Pollable)()
}

// terminate closes every listener, and refuses new ones.
func (o *outside) terminate() {
	o.mu.Lock()
	o.closed = true
	open := o.open
	o.open = map[net.Listener]struct{}{}
	o.mu.Unlock()
	for l := range open {
		l.(*trackedListener).Listener.Close()
	}
}

// dialing is a connection on its way.
type dialing struct {
	result ahead[net.Conn]
	cancel context.CancelFunc
	failed errno // told once more, by the socket option
}

func (o *outside) dial(to netip.AddrPort) *dialing {
	ctx, cancel := context.WithCancel(o.ctx)
	d := &dialing{cancel: cancel}
	d.result.run = func() (net.Conn, error) { return o.network.Dial(ctx, "tcp", to.String()) }
	d.result.spoil = func(c net.Conn) { c.Close() }
	return d
}

func (*dialing) kind() filetype { return typeSocketStream }

func (d *dialing) close() error {
	d.cancel()
	d.result.stop()
	return nil
}

func (d *dialing) Poll(dir Direction, wake func()) (bool, func()) {
	if d.failed != success {
		return true, nil
	}
	return d.result.Poll(dir, wake)
}

// settle turns the descriptor into the connection once it is made.
func (d *dialing) settle(to *descriptor) errno {
	if d.failed != success {
		return d.failed
	}
	c, err := d.result.take()
	switch e := toErrno(err); e {
	case success:
		d.cancel()
		to.file = newConnection(c)
		return success
	case errAgain:
		return errAgain
	default:
		d.failed = e
		return e
	}
}

// blocking runs do on a goroutine and parks the guest until it is done; do
// must return soon after its context ends, which it does with the guest.
func blocking[T any](s *System, do func(context.Context) (T, error)) (T, error) {
	a := ahead[T]{run: func() (T, error) { return do(s.outside.ctx) }}
	for {
		v, err := a.take()
		if err != errAgain {
			return v, err
		}
		s.await(&a, Read, 0)
	}
}
