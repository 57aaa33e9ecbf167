package vnet

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"
)

// Listener is an open port of a pod.
type Listener struct {
	stack *Stack
	addr  netip.AddrPort
	by    deadline

	mu     sync.Mutex // guards what follows
	queue  []*conn    // made, not yet accepted
	closed bool
	ready  waiters // woken when there is something to accept
}

func newListener(s *Stack, addr netip.AddrPort) *Listener {
	return &Listener{stack: s, addr: addr}
}

// Accept returns the next connection.
func (l *Listener) Accept() (net.Conn, error) {
	for {
		c, ready, err := l.take()
		if ready == nil {
			return c, err
		}
		select {
		case <-ready:
		case <-l.by.passed():
			return nil, &net.OpError{Op: "accept", Net: "tcp", Addr: l.Addr(), Err: os.ErrDeadlineExceeded}
		}
	}
}

// take is the next connection, or what to wait for.
func (l *Listener) take() (c net.Conn, ready <-chan struct{}, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil, nil, &net.OpError{Op: "accept", Net: "tcp", Addr: l.Addr(), Err: net.ErrClosed}
	}
	if len(l.queue) == 0 {
		return nil, l.ready.wait(), nil
	}
	c = l.queue[0]
	l.queue[0] = nil
	l.queue = l.queue[1:]
	return c, nil, nil
}

// offer queues a connection for Accept.
func (l *Listener) offer(c *conn) error {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return ErrRefused
	}
	if len(l.queue) >= backlog {
		l.mu.Unlock()
		return errors.Join(errors.New("the queue of connections that wait to be accepted is full"), syscall.ECONNREFUSED)
	}
	l.queue = append(l.queue, c)
	woken := l.ready.take()
	l.mu.Unlock()
	woken.wake()
	return nil
}

// Close closes the port; connections that nobody accepted are reset.
func (l *Listener) Close() error {
	l.stack.mu.Lock()
	if l.stack.ports[l.addr.Port()] == l {
		delete(l.stack.ports, l.addr.Port())
	}
	l.stack.mu.Unlock()
	l.shut()
	return nil
}

func (l *Listener) shut() {
	l.mu.Lock()
	queue, woken := l.queue, l.ready.take()
	l.queue, l.closed = nil, true
	l.mu.Unlock()
	for _, c := range queue {
		c.reset()
	}
	woken.wake()
}

// Addr is the pod's address and the port.
func (l *Listener) Addr() net.Addr { return net.TCPAddrFromAddrPort(l.addr) }

// SetDeadline bounds Accept, as (*net.TCPListener).SetDeadline does.
func (l *Listener) SetDeadline(t time.Time) error {
	l.by.set(t)
	return nil
}
