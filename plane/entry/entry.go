// Package entry is the API port of a machine that holds no part of the control
// plane: it hands each connection through to a machine that does, so that every
// address of the cluster is good for kubectl. TLS ends at the other machine; an
// entry sees sealed bytes, and cannot be trusted or mistrusted with anything. It
// knows addresses and connections; it never learns what is asked.
//
//	e, err := entry.New(entry.Config{Listener: l, Planes: gossiped, Probe: readyz})
//	err = e.Run(ctx)
package entry

import (
	"cmp"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// Config configures an Entry. Listener and Planes are required.
type Config struct {
	Listener net.Listener
	// Planes are the machines to hand through to, as known now, in any order.
	Planes func() []netip.AddrPort
	// Probe says whether a plane answers requests. Planes that do not are tried
	// last. Nil: whoever takes a connection is good.
	Probe func(ctx context.Context, plane netip.AddrPort) error
	// Every is the pause between two probes of a plane. Zero: 2 s.
	Every time.Duration
	// Connections bounds those open at once. Zero: 4096.
	Connections int
	// Log receives what an operator should know. Nil: slog.Default().
	Log *slog.Logger
}

const (
	copyBuffer   = 16 << 10
	dialTimeout  = time.Second
	probeTimeout = time.Second
)

// keepAlive notices within some ten seconds that the other machine is gone.
var keepAlive = net.KeepAliveConfig{Enable: true, Idle: 5 * time.Second, Interval: 2 * time.Second, Count: 3}

// Entry hands connections through.
type Entry struct {
	cfg   Config
	log   *slog.Logger
	slots chan struct{}

	mu    sync.Mutex // guards what follows
	ill   map[netip.AddrPort]bool
	last  netip.AddrPort // the one that took the latest connection
	noted bool           // that no plane answers was logged
}

// New makes an Entry, which owns the listener from now on.
func New(cfg Config) (*Entry, error) {
	if cfg.Listener == nil || cfg.Planes == nil {
		return nil, errors.New("entry: config: Listener and Planes are needed")
	}
	cfg.Every = cmp.Or(cfg.Every, 2*time.Second)
	cfg.Connections = cmp.Or(cfg.Connections, 4096)
	return &Entry{
		cfg:   cfg,
		log:   cmp.Or(cfg.Log, slog.Default()).With("part", "entry"),
		slots: make(chan struct{}, cfg.Connections),
		ill:   map[netip.AddrPort]bool{},
	}, nil
}

// Run serves until ctx ends; connections are cut then.
func (e *Entry) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	wg.Go(func() {
		<-ctx.Done()
		_ = e.cfg.Listener.Close()
	})
	if e.cfg.Probe != nil {
		wg.Go(func() { e.probe(ctx) })
	}
	for {
		e.acquire(ctx)
		conn, err := e.cfg.Listener.Accept()
		if ctx.Err() != nil {
			if err == nil {
				_ = conn.Close()
			}
			return nil
		}
		if err != nil {
			<-e.slots
			if errors.Is(err, net.ErrClosed) {
				return err
			}
			e.log.Warn("connection not accepted", "err", err)
			select {
			case <-time.After(50 * time.Millisecond): // out of descriptors, most likely
			case <-ctx.Done():
			}
			continue
		}
		wg.Go(func() {
			defer func() { <-e.slots }()
			e.hand(ctx, conn)
		})
	}
}

// acquire waits for room: what is not accepted waits in the kernel.
func (e *Entry) acquire(ctx context.Context) {
	select {
	case e.slots <- struct{}{}:
	case <-ctx.Done():
	}
}

// order is the planes as they are to be tried: the one in use first, so that a
// client keeps meeting the same one; those that failed their probe last.
func (e *Entry) order() []netip.AddrPort {
	planes := slices.Clone(e.cfg.Planes())
	e.mu.Lock()
	defer e.mu.Unlock()
	rank := func(p netip.AddrPort) int {
		switch {
		case e.ill[p]:
			return 2
		case p == e.last:
			return 0
		default:
			return 1
		}
	}
	slices.SortStableFunc(planes, func(a, b netip.AddrPort) int { return cmp.Compare(rank(a), rank(b)) })
	return planes
}

// hand finds a plane for a connection and carries bytes until both sides are done.
func (e *Entry) hand(ctx context.Context, conn net.Conn) {
	defer func() { _ = conn.Close() }()
	plane := e.dial(ctx)
	if plane == nil {
		return
	}
	defer func() { _ = plane.Close() }()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(ctx, func() {
		_ = conn.Close()
		_ = plane.Close()
	})
	defer stop()
	var wg sync.WaitGroup
	wg.Go(func() { carry(plane, conn, cancel) })
	wg.Go(func() { carry(conn, plane, cancel) })
	wg.Wait()
}

// carry copies one direction. Its end is the other side's end of file; a failure
// ends both directions.
func carry(to, from net.Conn, fail func()) {
	// Not with splice(2): it would hold two pipes, four descriptors, for every
	// connection on which nothing moves.
	if _, err := io.CopyBuffer(struct{ io.Writer }{to}, struct{ io.Reader }{from}, make([]byte, copyBuffer)); err != nil {
		fail()
		return
	}
	half, ok := to.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil {
		fail()
	}
}

func (e *Entry) dial(ctx context.Context) net.Conn {
	d := net.Dialer{Timeout: dialTimeout, KeepAliveConfig: keepAlive}
	var last error
	for _, p := range e.order() {
		conn, err := d.DialContext(ctx, "tcp", p.String())
		if ctx.Err() != nil {
			if err == nil {
				_ = conn.Close()
			}
			return nil
		}
		if err == nil {
			e.mu.Lock()
			e.last, e.noted = p, false
			e.mu.Unlock()
			return conn
		}
		last = err
		e.mark(p, true)
	}
	e.mu.Lock()
	noted := e.noted
	e.noted = true
	e.mu.Unlock()
	if !noted {
		e.log.Warn("no control plane answers", "known", len(e.cfg.Planes()), "err", last)
	}
	return nil
}

func (e *Entry) mark(p netip.AddrPort, ill bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if ill {
		e.ill[p] = true
	} else {
		delete(e.ill, p)
	}
}

// probe asks all planes again and again, and forgets those that are gone.
func (e *Entry) probe(ctx context.Context) {
	tick := time.NewTicker(e.cfg.Every)
	defer tick.Stop()
	for {
		planes := e.cfg.Planes()
		var wg sync.WaitGroup
		for _, p := range planes {
			wg.Go(func() {
				ctx, cancel := context.WithTimeout(ctx, probeTimeout)
				defer cancel()
				e.mark(p, e.cfg.Probe(ctx, p) != nil)
			})
		}
		wg.Wait()
		e.mu.Lock()
		for p := range e.ill {
			if !slices.Contains(planes, p) {
				delete(e.ill, p)
			}
		}
		e.mu.Unlock()
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}
