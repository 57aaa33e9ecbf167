package wasi

import (
	"io"
	"net"
	"sync"
	"time"
)

// pumped is the transport of any other connection: reads and writes run on
// goroutines that exist while one is outstanding.
type pumped struct {
	in    *inlet
	write ahead[int]
	out   []byte // what the outstanding write sends
	sent  bool   // out is under way, or its result not yet seen
	fail  error  // of a write that the guest was told had gone well

	mu      sync.Mutex // guards what follows
	sending bool       // from the guest's write to the end of the connection's
	then    []func()   // what waits for that
}

// linger is how long a connection that the guest has closed, or shut for
// writing, goes on sending what the guest was told it had written.
const linger = 10 * time.Second

func newPumped(c net.Conn) *pumped {
	p := &pumped{in: newInlet(readOnly{c})}
	p.write.run = func() (int, error) {
		defer p.done()
		return c.Write(p.out)
	}
	return p
}

// readOnly hides Close: the connection closes itself.
type readOnly struct{ io.Reader }

func (p *pumped) tryRead(b []byte) (int, error) {
	n, e := p.in.read(b)
	if e != success {
		return 0, e
	}
	return n, nil
}

func (p *pumped) tryWrite(b []byte) (int, error) {
	if p.sent {
		_, err := p.write.take()
		if err == errAgain {
			return 0, err
		}
		p.sent, p.fail = false, err
	}
	if p.fail != nil {
		return 0, p.fail
	}
	p.out = append(p.out[:0], b[:min(len(b), streamBuffer)]...)
	p.sent = true
	p.mu.Lock()
	p.sending = true
	p.mu.Unlock()
	p.write.take() // starts it; the result is looked at before the next write
	return len(p.out), nil
}

func (p *pumped) Poll(dir Direction, wake func()) (bool, func()) {
	if dir == Read {
		return p.in.Poll(dir, wake)
	}
	if !p.sent {
		return true, nil
	}
	return p.write.Poll(dir, wake)
}

func (p *pumped) stop() {
	p.in.end()
	p.write.stop()
}

func (p *pumped) done() {
	p.mu.Lock()
	then := p.then
	p.sending, p.then = false, nil
	p.mu.Unlock()
	for _, do := range then {
		do()
	}
}

// last waits on nobody's goroutine: while a write is under way, do runs at its
// end, and its error is lost as that of any close that comes too late is.
func (p *pumped) last(do func() error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.sending {
		return do()
	}
	once := sync.OnceFunc(func() { _ = do() })
	late := time.AfterFunc(linger, once)
	p.then = append(p.then, func() {
		late.Stop()
		once()
	})
	return nil
}
