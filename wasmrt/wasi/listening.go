package wasi

import (
	"errors"
	"net"
)

// listening is a socket that accepts connections.
type listening struct {
	net.Listener
	poll   Pollable
	accept func() (net.Conn, error) // never waits
	stop   func()
}

// newListening takes l in the best way it offers: its own readiness, or one
// Accept ahead on a goroutine. (A listening socket of the Go runtime gives no
// readiness through its RawConn.)
func newListening(l net.Listener) *listening {
	if p, ok := l.(Pollable); ok {
		return &listening{Listener: l, poll: p, accept: acceptWith(l, p), stop: func() {}}
	}
	a := &ahead[net.Conn]{run: l.Accept, spoil: func(c net.Conn) { c.Close() }}
	return &listening{Listener: l, poll: a, accept: a.take, stop: a.stop}
}

// acceptWith is Accept for a Pollable listener, without waiting.
func acceptWith(l net.Listener, p Pollable) func() (net.Conn, error) {
	if t, ok := l.(interface{ TryAccept() (net.Conn, error) }); ok {
		return t.TryAccept
	}
	return func() (net.Conn, error) {
		if ready, cancel := p.Poll(Read, func() {}); !ready {
			cancel()
			return nil, errAgain
		}
		return l.Accept()
	}
}

func (*listening) kind() filetype { return typeSocketStream }

func (l *listening) close() error {
	err := l.Listener.Close()
	l.stop()
	if errors.Is(err, net.ErrClosed) {
		return nil // Terminate was here first
	}
	return err
}

// Poll is what Terminate makes ready too: the Accept that waits fails.
func (l *listening) Poll(dir Direction, wake func()) (bool, func()) {
	if dir == Write {
		return false, func() {} // a listener never takes bytes
	}
	return l.poll.Poll(dir, wake)
}

// take is the next connection, or errAgain, or errInvalid once the listener is
// closed (as accept(2) has it after shutdown(2)).
func (l *listening) take() (net.Conn, errno) {
	c, err := l.accept()
	if errors.Is(err, net.ErrClosed) {
		return nil, errInvalid
	}
	return c, toErrno(err)
}
