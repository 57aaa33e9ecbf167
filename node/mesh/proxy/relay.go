package proxy

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"
)

// accept serves one node port until its listener closes.
func (p *Proxy) accept(ctx context.Context, l net.Listener, port uint16) {
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		c, err := l.Accept()
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil: // out of descriptors: give others a moment to end
			p.cfg.Log.Warn("connection not accepted", "port", port, "err", err)
			select {
			case <-ctx.Done():
				return
			case <-time.After(50 * time.Millisecond):
			}
			continue
		}
		if p.open.Add(1) > p.cfg.MaxConns {
			p.open.Add(-1)
			p.failed.Add(1)
			abort(c)
			continue
		}
		wg.Go(func() {
			defer p.open.Add(-1)
			p.serve(ctx, c, port)
		})
	}
}

// serve carries one connection to an endpoint and back.
func (p *Proxy) serve(ctx context.Context, c net.Conn, port uint16) {
	p.total.Add(1)
	pod, done, err := p.dial(ctx, port)
	if err != nil {
		p.failed.Add(1)
		p.cfg.Log.Debug("no endpoint answered", "port", port, "err", err)
		abort(c)
		return
	}
	defer done()
	stop := context.AfterFunc(ctx, func() {
		_ = c.Close()
		_ = pod.Close()
	})
	defer stop()
	relay(c, pod)
}

// dial finds an endpoint that answers: one that has just gone, or whose node has,
// may still be in the table, so others are tried.
func (p *Proxy) dial(ctx context.Context, port uint16) (net.Conn, func(), error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	last := errors.New("the Service is gone")
	var tried []netip.AddrPort
	for len(tried) < attempts && ctx.Err() == nil {
		route, ok := p.cfg.Table.Node(port)
		if !ok {
			break
		}
		addr, done, err := route.PickExternal(tried...)
		if err != nil {
			if len(tried) == 0 {
				last = err
			}
			break
		}
		conn, err := p.cfg.Dial(ctx, addr)
		if err == nil {
			return conn, done, nil
		}
		done()
		last, tried = err, append(tried, addr)
	}
	return nil, nil, last
}

// relay copies both ways until both directions have ended, each half-closed on
// its own so that a request may end before its answer starts.
func relay(a, b net.Conn) {
	var wg sync.WaitGroup
	wg.Go(func() { oneWay(a, b) })
	oneWay(b, a)
	wg.Wait()
	_ = a.Close()
	_ = b.Close()
}

var buffers = sync.Pool{New: func() any { return new([32 << 10]byte) }}

func oneWay(to, from net.Conn) {
	buf := buffers.Get().(*[32 << 10]byte)
	defer buffers.Put(buf)
	// Plain Reader and Writer: a TCPConn's own ReadFrom would allocate its buffer anew.
	_, err := io.CopyBuffer(struct{ io.Writer }{to}, struct{ io.Reader }{from}, buf[:])
	if err != nil { // one direction broke: nothing sensible can follow in the other
		_ = to.Close()
		_ = from.Close()
		return
	}
	if half, ok := to.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite()
	}
}

// abort closes with a reset, so that a client sees a refusal and not an empty
// answer.
func abort(c net.Conn) {
	if t, ok := c.(*net.TCPConn); ok {
		_ = t.SetLinger(0)
	}
	_ = c.Close()
}
