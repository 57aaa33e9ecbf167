package vnet

import (
	"io"
	"net"
	"os"
	"sync"
	"syscall"
)

const (
	flowMax  = 64 << 10 // bytes in flight in one direction
	pipeBuf  = 4 << 10  // room that a flow must have to be ready for a write
	flowInit = 4 << 10  // what a flow starts with; idle ones hold nothing
)

var largeRings = sync.Pool{New: func() any { return new([flowMax]byte) }}

// flow carries bytes one way: a ring buffer between a writer and a reader.
type flow struct {
	mu     sync.Mutex // guards what follows
	ring   []byte     // nil while empty
	start  int        // of the unread bytes in ring
	length int        // of the unread bytes
	eof    bool       // the writer is done
	gone   bool       // the reader is gone: writes fail
	cut    bool       // reset: both fail at once
	read   waiters    // woken when there is something to read
	write  waiters    // woken when there is room
}

// waiters are those who wait for a side of a flow to become ready. Each is woken
// once, by a channel or by a call.
type waiters struct {
	ch    chan struct{}
	calls map[*call]struct{}
}

// call is a wake-up that can be called off until it has begun.
type call struct {
	mu   sync.Mutex
	wake func() // nil: called off, or made
}

func (c *call) make() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.wake != nil {
		c.wake()
		c.wake = nil
	}
}

func (c *call) off() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.wake = nil
}

// wait returns a channel that closes at the next wake.
func (w *waiters) wait() <-chan struct{} {
	if w.ch == nil {
		w.ch = make(chan struct{})
	}
	return w.ch
}

// add registers a call for the next wake. The function that it returns takes it
// back, under mu, which guards w.
func (w *waiters) add(mu *sync.Mutex, wake func()) (cancel func()) {
	c := &call{wake: wake}
	if w.calls == nil {
		w.calls = map[*call]struct{}{}
	}
	w.calls[c] = struct{}{}
	return func() {
		mu.Lock()
		delete(w.calls, c)
		mu.Unlock()
		c.off()
	}
}

// take empties the list; the caller runs what it gets after unlocking.
func (w *waiters) take() (woken waiters) {
	woken, w.ch, w.calls = *w, nil, nil
	return woken
}

func (w waiters) wake() {
	if w.ch != nil {
		close(w.ch)
	}
	for c := range w.calls {
		c.make()
	}
}

// readable and writable are the readiness that wasi.Pollable asks for: a writable
// flow has room for PIPE_BUF. Ends and errors count as ready.
func (f *flow) readable() bool { return f.length > 0 || f.eof || f.gone || f.cut }
func (f *flow) writable() bool {
	return flowMax-f.length >= pipeBuf || f.gone || f.cut || f.eof
}

// get reads what is there, or waits for it until the deadline.
func (f *flow) get(p []byte, d *deadline) (int, error) {
	for {
		if d.over() {
			return 0, os.ErrDeadlineExceeded
		}
		n, ready, err := f.tryGet(p)
		if ready == nil {
			return n, err
		}
		select {
		case <-ready:
		case <-d.passed():
		}
	}
}

// tryGet reads what is there; if that is nothing, it returns what to wait for.
func (f *flow) tryGet(p []byte) (n int, ready <-chan struct{}, err error) {
	var woken waiters
	f.mu.Lock()
	switch {
	case f.cut:
		err = syscall.ECONNRESET
	case f.gone:
		err = net.ErrClosed
	case f.length > 0 || len(p) == 0:
		n = f.pop(p)
		woken = f.write.take()
	case f.eof:
		err = io.EOF
	default:
		ready = f.read.wait()
	}
	f.mu.Unlock()
	woken.wake() // unlocked: who is woken may come straight back
	return n, ready, err
}

// put writes all of p, waiting for room until the deadline.
func (f *flow) put(p []byte, d *deadline) (int, error) {
	done := 0
	for {
		if d.over() {
			return done, os.ErrDeadlineExceeded
		}
		n, room, err := f.tryPut(p[done:])
		if done += n; room == nil {
			return done, err
		}
		select {
		case <-room:
		case <-d.passed():
		}
	}
}

// tryPut takes what there is room for; unless that was all, it returns what to
// wait for.
func (f *flow) tryPut(p []byte) (n int, room <-chan struct{}, err error) {
	var woken waiters
	f.mu.Lock()
	switch {
	case f.cut:
		err = syscall.ECONNRESET
	case f.gone || f.eof:
		err = syscall.EPIPE
	default:
		if n = f.push(p); n > 0 {
			woken = f.read.take()
		}
		if n < len(p) {
			room = f.write.wait()
		}
	}
	f.mu.Unlock()
	woken.wake()
	return n, room, err
}

// pop moves unread bytes to p; an emptied ring goes back to the collector.
func (f *flow) pop(p []byte) int {
	n := 0
	for n < len(p) && f.length > 0 {
		end := min(f.start+f.length, len(f.ring))
		k := copy(p[n:], f.ring[f.start:end])
		f.start = (f.start + k) % len(f.ring)
		f.length -= k
		n += k
	}
	if f.length == 0 {
		f.start = 0
		f.release()
	}
	return n
}

// release gives a large ring to the next flow that has much to carry.
func (f *flow) release() {
	if len(f.ring) == flowMax {
		largeRings.Put((*[flowMax]byte)(f.ring))
		f.ring = nil
	}
}

// push takes as much of p as there is room for.
func (f *flow) push(p []byte) int {
	n := min(len(p), flowMax-f.length)
	if n == 0 {
		return 0
	}
	switch need := f.length + n; {
	case need <= len(f.ring):
	case need <= flowInit:
		f.ring = make([]byte, flowInit)
	default:
		large := largeRings.Get().(*[flowMax]byte)[:]
		k := f.length
		f.pop(large[:k])
		f.ring, f.start, f.length = large, 0, k
	}
	for rest := p[:n]; len(rest) > 0; {
		at := (f.start + f.length) % len(f.ring)
		end := len(f.ring)
		if at < f.start {
			end = f.start
		}
		k := copy(f.ring[at:end], rest)
		f.length += k
		rest = rest[k:]
	}
	return n
}

// finish marks one end; all who wait are woken to see it.
func (f *flow) finish(mark func()) {
	f.mu.Lock()
	mark()
	if f.gone || f.cut {
		f.length = 0
		f.release()
		f.ring, f.start = nil, 0
	}
	r, w := f.read.take(), f.write.take()
	f.mu.Unlock()
	r.wake()
	w.wake()
}

// poll reports readiness of one side, or registers wake for when it comes.
func (f *flow) poll(ready func() bool, side *waiters, wake func()) (bool, func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if ready() {
		return true, nil
	}
	return false, side.add(&f.mu, wake)
}
