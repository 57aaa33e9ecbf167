package wasmrt_test

import (
	"net"
	"sync"
	"syscall"

	"copepod/wasmrt"
)

// memoryListener is a listener without a socket. As the pod network's, it tells
// of its readiness, and so costs no goroutine while nobody calls.
type memoryListener struct {
	mu     sync.Mutex // guards what follows
	queue  []net.Conn
	closed bool
	wakes  map[*func()]struct{}
}

func newMemoryListener() *memoryListener { return &memoryListener{wakes: map[*func()]struct{}{}} }

func (l *memoryListener) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(10, 0, 0, 1), Port: 80} }

// arrive hands over the server's end of a connection.
func (l *memoryListener) arrive(server net.Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.queue = append(l.queue, server)
	l.wake()
}

func (l *memoryListener) wake() {
	for wake := range l.wakes {
		(*wake)()
	}
	clear(l.wakes)
}

func (l *memoryListener) Accept() (net.Conn, error) { return l.TryAccept() }

func (l *memoryListener) TryAccept() (net.Conn, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.closed:
		return nil, net.ErrClosed
	case len(l.queue) == 0:
		return nil, syscall.EAGAIN
	}
	c := l.queue[0]
	l.queue = l.queue[1:]
	return c, nil
}

func (l *memoryListener) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	l.wake()
	return nil
}

func (l *memoryListener) Poll(_ wasmrt.Direction, wake func()) (bool, func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed || len(l.queue) > 0 {
		return true, nil
	}
	key := &wake
	l.wakes[key] = struct{}{}
	return false, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.wakes, key)
	}
}
