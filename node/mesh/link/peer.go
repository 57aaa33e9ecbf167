package link

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

const (
	firstRetry = 100 * time.Millisecond
	interest   = time.Minute // how long after the last dial a lost node is still called
	mostCalls  = 4           // sessions that one node may have with us; the oldest goes
)

// peer is another node: the sessions with it, and whether it is known to be lost.
type peer struct {
	link *Link
	name string
	kick chan struct{} // it has called: worth a try

	complaint rate.Sometimes // about it, in the log

	mu         sync.Mutex    // guards what follows; before session.mu
	current    *session      // that new streams use
	sessions   []*session    // all that live, oldest first
	connecting chan struct{} // closed after the first try; nil: nobody tries
	down       error         // why it is lost; nil: it is not known to be
	wanted     time.Time     // when somebody last wished to reach it
	proven     time.Time     // until when its certificates hold
	accepted   int64         // streams that it has opened here
}

// session returns one to open a stream on, held; a lost node is an error at once.
func (p *peer) session(ctx context.Context) (*session, error) {
	for {
		s, wait, err := p.ready()
		if s != nil || err != nil {
			return s, err
		}
		select {
		case <-wait:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// ready is a session, or what to wait for.
func (p *peer) ready() (s *session, wait <-chan struct{}, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.wanted = time.Now()
	if p.current != nil {
		err := p.current.hold()
		if err == nil {
			return p.current, nil, nil
		}
		if !errors.Is(err, errIdle) { // leave will say so
			return nil, nil, fmt.Errorf("the connection to it is lost: %w", err)
		}
		p.current = nil
	}
	if p.down != nil {
		return nil, nil, p.down
	}
	if p.connecting == nil {
		ch := make(chan struct{})
		if !p.link.start(func(ctx context.Context) { p.connect(ctx, ch) }) {
			return nil, nil, errStopped
		}
		p.connecting = ch
	}
	return nil, p.connecting, nil
}

// connect calls the node until it answers, or nobody is interested any more.
// first closes after the first try; it may be closed already.
func (p *peer) connect(ctx context.Context, first chan struct{}) {
	tell := sync.OnceFunc(func() { close(first) })
	defer tell()
	for wait := firstRetry; ; wait = min(2*wait, p.link.cfg.Retry) {
		s, err := p.call(ctx)
		if p.settle(s, err) || ctx.Err() != nil {
			return
		}
		tell()
		t := time.NewTimer(wait/2 + rand.N(wait)) //nolint:gosec // jitter
		select {
		case <-ctx.Done():
		case <-t.C:
		case <-p.kick:
		}
		t.Stop()
	}
}

// settle takes what a call came to; true: no more calls.
func (p *peer) settle(s *session, err error) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err == nil {
		p.current, p.down, p.connecting = s, nil, nil
		return true
	}
	if p.down == nil {
		p.link.log.Warn("node not reached", "peer", p.name, "err", err)
	}
	p.down = err
	if time.Since(p.wanted) > interest || errors.Is(err, errUnknown) {
		p.down, p.connecting = nil, nil
		return true
	}
	return false
}

// call makes a session.
func (p *peer) call(ctx context.Context) (*session, error) {
	l := p.link
	to, ok := l.cfg.Peers.Peer(p.name)
	if !ok {
		return nil, errUnknown
	}
	if !to.Addr.IsValid() {
		return nil, errors.New("its address is not known yet")
	}
	ctx, cancel := context.WithTimeout(ctx, l.cfg.Handshake)
	defer cancel()
	var d net.Dialer
	raw, err := d.DialContext(ctx, "tcp", to.Addr.String())
	if err != nil {
		return nil, err
	}
	c := tls.Client(raw, l.callTLS(p.name))
	if err := c.HandshakeContext(ctx); err != nil {
		_ = raw.Close()
		return nil, fmt.Errorf("%s: %w", to.Addr, err)
	}
	s, err := l.newSession(p, c, raw, c.ConnectionState().PeerCertificates[0], true)
	if err != nil {
		_ = raw.Close()
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { s.end(ctx.Err()) })
	defer stop()
	_ = s.mux.GoAway()                      // it opens no streams on a call of ours
	if _, err := s.mux.Ping(); err != nil { // in TLS 1.3 a refusal of our certificate comes after the handshake
		s.end(err)
		return nil, fmt.Errorf("%s: it closed the connection after the handshake; does it trust this node's certificate?", to.Addr)
	}
	if !stop() {
		return nil, ctx.Err()
	}
	if !p.enter(s) {
		return nil, errStopped
	}
	return s, nil
}

// enter takes a session in and watches it; false if the link stops.
func (p *peer) enter(s *session) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.link.start(func(ctx context.Context) {
		s.watch(ctx)
		p.leave(s)
	}) {
		s.end(errStopped)
		return false
	}
	p.sessions = append(p.sessions, s)
	if p.proven.Before(s.cert.NotAfter) {
		p.proven = s.cert.NotAfter
	}
	p.link.stats.peers.Add(1)
	return true
}

// leave takes out a session that has ended. If it was the one in use and broke,
// the node is lost until it answers again.
func (p *peer) leave(s *session) {
	s.mu.Lock()
	err := s.err
	s.mu.Unlock()
	p.link.stats.peers.Add(-1)
	p.link.log.Debug("link closed", "peer", p.name, "called", s.called, "why", why(err))
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, other := range p.sessions {
		if other == s {
			p.sessions = append(p.sessions[:i], p.sessions[i+1:]...)
			break
		}
	}
	if p.current != s {
		return
	}
	p.current = nil
	if !errors.Is(err, errIdle) && !errors.Is(err, errStopped) {
		p.link.log.Warn("node lost", "peer", p.name, "why", why(err))
		p.lose(err)
	}
}

// lose takes that the node is lost, and sees to it that it is called until it
// answers. The caller holds p.mu.
func (p *peer) lose(err error) {
	p.down = fmt.Errorf("the connection to it is lost: %w", err)
	if p.connecting != nil {
		return
	}
	p.connecting = make(chan struct{})
	p.wanted = time.Now()
	ch := p.connecting
	if !p.link.start(func(ctx context.Context) { p.connect(ctx, ch) }) {
		p.connecting = nil
	}
}

// cut ends all sessions with the node and takes it for lost.
func (p *peer) cut(err error) {
	p.mu.Lock()
	list := append([]*session(nil), p.sessions...)
	if p.current != nil {
		p.current = nil
		p.lose(err)
	}
	p.mu.Unlock()
	for _, s := range list {
		s.end(err)
	}
}

// retire lets new streams use another session than one that has no more to give.
func (p *peer) retire(s *session) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.current == s && !s.mux.IsClosed() {
		p.current = nil
	}
}

// uses says whether new streams go to the session.
func (p *peer) uses(s *session) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.current == s
}

func (p *peer) provenUntil() time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.proven
}

// renew makes the session that takes over from one whose certificates are near
// their end; connections on the old one go on, for the node has proven itself
// anew.
func (p *peer) renew(s *session) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.current != s || p.connecting != nil {
		return
	}
	ch := make(chan struct{})
	if p.link.start(func(ctx context.Context) { p.connect(ctx, ch) }) {
		p.connecting = ch
	}
}
