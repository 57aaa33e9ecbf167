package link

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"sync"
	"time"

	"github.com/hashicorp/yamux"
	"golang.org/x/sync/semaphore"

	"copepod/node/mesh/vnet"
)

var (
	errStale        = errors.New("the connection to it has just ended")
	errSilent       = errors.New("it has fallen silent")
	errDeclaredLost = errors.New("it was declared lost")
	errStopped      = errors.New("this node's link does not run")
	errFlood        = errors.New("it opens more streams than it may")
	errIdle         = errors.New("nobody uses it")
	errUnknown      = errors.New("it is no node of the cluster")
	errExpired      = errors.New("its certificate has ended, and it has shown no other")
)

const (
	opening      = 512              // requests of one session that wait for an answer
	unknownGrace = 30 * time.Second // for a node to appear in the list
	shrinkTicks  = 8                // of watch, after which silent streams give buffers back
)

// session is one connection with a node. It carries streams of the end that
// called only.
type session struct {
	link    *Link
	peer    *peer
	called  bool // by us
	wire    *wire
	mux     *yamux.Session
	cert    *x509.Certificate
	renewAt time.Time // another session takes over the new streams
	calls   *semaphore.Weighted

	mu      sync.Mutex // guards what follows
	users   int        // streams, and those that are being made
	idle    time.Time  // since when there are none
	err     error      // why it ended; nil while it lives
	tunnels map[*tunnel]struct{}
}

func (l *Link) newSession(p *peer, c, raw net.Conn, cert *x509.Certificate, called bool) (*session, error) {
	s := &session{
		link: l, peer: p, called: called, cert: cert, idle: time.Now(),
		wire:    newWire(c, raw, 2*l.cfg.Silence),
		renewAt: time.Now().Add(max(time.Until(cert.NotAfter)*7/10, time.Second)),
		calls:   semaphore.NewWeighted(opening),
		tunnels: map[*tunnel]struct{}{},
	}
	cfg := &yamux.Config{
		AcceptBacklog:          2 * opening,
		KeepAliveInterval:      time.Hour, // not used: watch pings
		ConnectionWriteTimeout: 2 * l.cfg.Silence,
		MaxStreamWindowSize:    256 << 10,
		StreamCloseTimeout:     10 * time.Second,
		Logger:                 log.New(io.Discard, "", 0), // what goes wrong comes as an error
	}
	var err error
	if called {
		s.mux, err = yamux.Client(s.wire, cfg)
	} else {
		s.mux, err = yamux.Server(s.wire, cfg)
	}
	return s, err
}

// hold keeps the session from being closed as idle; the error is why it ended.
func (s *session) hold() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil && s.mux.IsClosed() {
		return io.EOF
	}
	if s.err == nil {
		s.users++
	}
	return s.err
}

func (s *session) release() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.users--; s.users == 0 {
		s.idle = time.Now()
	}
}

// end cuts the session and what it carries. The first reason stays.
func (s *session) end(err error) {
	s.mu.Lock()
	first := s.err == nil
	if first {
		s.err = err
	}
	s.mu.Unlock()
	if first {
		_ = s.wire.Close()
		_ = s.mux.Close()
	}
}

// open asks for a stream and carries conn over it. The caller holds the session,
// which is released here.
func (s *session) open(ctx context.Context, r request, conn vnet.Conn) (err error) {
	defer func() {
		if err != nil {
			s.release()
		}
	}()
	ctx, cancel := context.WithTimeout(ctx, s.link.cfg.Answer)
	defer cancel()
	if err := s.calls.Acquire(ctx, 1); err != nil {
		return fmt.Errorf("too many dials wait for it: %w: %w", err, vnet.ErrUnroutable)
	}
	defer s.calls.Release(1)
	stream, err := s.mux.OpenStream()
	if err != nil {
		s.peer.retire(s)
		return fmt.Errorf("%w: %w: %w", errStale, err, vnet.ErrUnroutable)
	}
	stop := context.AfterFunc(ctx, func() { _ = stream.SetDeadline(time.Unix(1, 0)) })
	var answer [1]byte
	if _, err = stream.Write(r.encode()); err == nil {
		_, err = io.ReadFull(stream, answer[:])
	}
	if !stop() {
		err = errors.Join(err, ctx.Err())
	}
	if err != nil {
		_ = stream.Close()
		return fmt.Errorf("no answer: %w: %w", err, vnet.ErrUnroutable)
	}
	if err := answerError(answer[0]); err != nil {
		_ = stream.Close()
		return err
	}
	t := &tunnel{pod: conn, stream: stream, stats: &s.link.stats}
	if !s.link.start(func(context.Context) { s.carry(t) }) {
		_ = stream.Close()
		return fmt.Errorf("%w: %w", errStopped, vnet.ErrUnroutable)
	}
	return nil
}

// carry runs a tunnel of a session that is held, and releases it.
func (s *session) carry(t *tunnel) {
	defer s.release()
	s.mu.Lock()
	s.tunnels[t] = struct{}{}
	s.mu.Unlock()
	t.run()
	s.mu.Lock()
	delete(s.tunnels, t)
	s.mu.Unlock()
}

// watch ends the session when it should: its node is silent, revoked, unknown or
// no longer proven, or nobody uses it.
func (s *session) watch(ctx context.Context) {
	every := s.link.cfg.Silence / 4
	tick := time.NewTicker(every)
	defer tick.Stop()
	pinging := make(chan struct{}, 1)
	known, last := time.Now(), time.Now()
	for n := 0; ; n++ {
		select {
		case <-ctx.Done():
			s.end(errStopped)
			return
		case <-s.mux.CloseChan():
			s.end(io.EOF)
			return
		case <-tick.C:
		}
		now := time.Now()
		if now.Sub(last) > 2*every { // it is this process that slept: the node could not be heard
			s.wire.hear()
		}
		last = now
		if _, ok := s.link.cfg.Peers.Peer(s.peer.name); ok {
			known = now
		}
		if err := s.verdict(now, known); err != nil {
			s.end(err)
			return
		}
		if s.wire.silence() >= every {
			select {
			case pinging <- struct{}{}:
				if !s.link.start(func(context.Context) { _, _ = s.mux.Ping(); <-pinging }) {
					return
				}
			default:
			}
		}
		if n%shrinkTicks == shrinkTicks-1 {
			s.shrink()
		}
	}
}

// verdict is nil, or why the session must end now.
func (s *session) verdict(now, known time.Time) error {
	switch {
	case s.wire.silence() > s.link.cfg.Silence:
		return errSilent
	case s.link.cfg.Revoked(s.cert):
		return errRevoked
	case now.Sub(known) > unknownGrace:
		return errUnknown
	case now.After(s.peer.provenUntil()):
		return errExpired
	}
	if !s.called {
		return nil
	}
	if now.After(s.renewAt) {
		s.peer.renew(s)
	}
	used := s.peer.uses(s) // before s.mu; once it is not, nobody can hold it any more
	s.mu.Lock()
	unused := s.users == 0 && (now.Sub(s.idle) > s.link.cfg.Idle || !used)
	if unused && s.err == nil {
		s.err = errIdle // nobody can hold it after this
	}
	s.mu.Unlock()
	if unused {
		_ = s.wire.Close()
		_ = s.mux.Close()
		return errIdle
	}
	return nil
}

// shrink takes buffers back from streams that have been silent for a while.
func (s *session) shrink() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for t := range s.tunnels {
		if !t.moved.Swap(false) {
			t.stream.Shrink()
		}
	}
}

// why is the reason in words for the log; plain ends have none.
func why(err error) string {
	if errors.Is(err, io.EOF) || errors.Is(err, os.ErrClosed) {
		return "it closed the connection"
	}
	return err.Error()
}
