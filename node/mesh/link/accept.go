package link

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/hashicorp/yamux"

	"copepod/node/mesh/vnet"
)

// accept takes calls of other nodes until the listener closes.
func (l *Link) accept(ctx context.Context) error {
	for {
		raw, err := l.cfg.Listener.Accept()
		switch {
		case ctx.Err() != nil, errors.Is(err, net.ErrClosed):
			if err == nil {
				_ = raw.Close()
			}
			return nil
		case err != nil: // out of descriptors: give others a moment to end
			l.log.Warn("call not accepted", "err", err)
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(50 * time.Millisecond):
			}
			continue
		}
		if !l.guests.TryAcquire(1) {
			l.stats.refused.Add(1)
			_ = raw.Close()
			continue
		}
		if !l.start(func(ctx context.Context) { l.greet(ctx, raw) }) {
			_ = raw.Close()
			return nil
		}
	}
}

// greet has a caller prove who it is, and then serves its streams.
func (l *Link) greet(ctx context.Context, raw net.Conn) {
	s, err := l.prove(ctx, raw)
	l.guests.Release(1)
	if err != nil {
		l.stats.hostile.Add(1)
		l.log.Debug("caller refused", "addr", raw.RemoteAddr().String(), "err", err)
		_ = raw.Close()
		return
	}
	p := s.peer
	if !p.enter(s) {
		return
	}
	p.crowd()
	select { // it lives: a call of ours that waits need not
	case p.kick <- struct{}{}:
	default:
	}
	for {
		stream, err := s.mux.AcceptStream()
		if err != nil {
			s.end(err)
			return
		}
		s.admit(stream)
	}
}

func (l *Link) prove(ctx context.Context, raw net.Conn) (*session, error) {
	ctx, cancel := context.WithTimeout(ctx, l.cfg.Handshake)
	defer cancel()
	c := tls.Server(raw, l.server)
	if err := c.HandshakeContext(ctx); err != nil {
		return nil, err
	}
	state := c.ConnectionState()
	if state.NegotiatedProtocol != protocol {
		return nil, fmt.Errorf("it does not speak %s", protocol)
	}
	name, err := caller(state.PeerCertificates[0])
	if err != nil {
		return nil, err
	}
	return l.newSession(l.peer(name), c, raw, state.PeerCertificates[0], false)
}

// crowd ends the oldest calls of a node that has too many.
func (p *peer) crowd() {
	p.mu.Lock()
	var calls []*session
	for _, s := range p.sessions {
		if !s.called {
			calls = append(calls, s)
		}
	}
	p.mu.Unlock()
	for _, s := range calls[:max(0, len(calls)-mostCalls)] {
		s.end(errors.New("it has called too often"))
	}
}

// admit serves a stream, if the node has not too many.
func (s *session) admit(stream *yamux.Stream) {
	p, most := s.peer, s.link.cfg.Streams
	if int64(s.mux.NumStreams()) > most+2*opening { // also of those that were refused
		s.link.stats.hostile.Add(1)
		s.end(errFlood)
		return
	}
	p.mu.Lock()
	full := p.accepted >= most
	if !full {
		p.accepted++
	}
	p.mu.Unlock()
	if full {
		s.refuse(stream, errBusy)
		return
	}
	leave := func() {
		p.mu.Lock()
		p.accepted--
		p.mu.Unlock()
	}
	if s.hold() != nil || !s.link.start(func(ctx context.Context) {
		defer leave()
		s.serve(ctx, stream)
	}) {
		leave()
		_ = stream.Close() // and the session ends, or has ended
	}
}

// refuse answers no.
func (s *session) refuse(stream *yamux.Stream, err error) {
	s.link.stats.refused.Add(1)
	_ = stream.SetWriteDeadline(time.Now().Add(s.link.cfg.Answer))
	_, _ = stream.Write([]byte{answerFor(err)})
	_ = stream.Close()
}

// serve reads a request, and carries the stream to the pod that it is for. The
// session is held, and released here.
func (s *session) serve(ctx context.Context, stream *yamux.Stream) {
	_ = stream.SetDeadline(time.Now().Add(s.link.cfg.Answer))
	conn, err := s.deliver(ctx, stream)
	if err != nil {
		s.refuse(stream, err)
		s.release()
		return
	}
	if _, err := stream.Write([]byte{answerOK}); err != nil {
		conn.Reset()
		_ = stream.Close()
		s.release()
		return
	}
	_ = stream.SetDeadline(time.Time{})
	s.link.stats.accepted.Add(1)
	s.carry(&tunnel{pod: conn, stream: stream, stats: &s.link.stats})
}

func (s *session) deliver(ctx context.Context, stream *yamux.Stream) (vnet.Conn, error) {
	r, err := readRequest(stream)
	if err == nil {
		err = s.check(r)
	}
	if err != nil {
		if errors.Is(err, errBadRequest) || errors.Is(err, errDenied) {
			s.link.stats.hostile.Add(1)
			s.peer.complaint.Do(func() { s.link.log.Warn("request of a node refused", "peer", s.peer.name, "err", err) })
		}
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, s.link.cfg.Answer)
	defer cancel()
	return s.link.pods.Deliver(ctx, r.from, r.to)
}

// check refuses what the node may not say or ask: it speaks for its own pods, and
// reaches ours.
func (s *session) check(r request) error {
	there, ok := s.link.cfg.Peers.Peer(s.peer.name)
	if !ok || len(there.Pods) == 0 {
		return fmt.Errorf("node %s has no range yet: %w", s.peer.name, vnet.ErrUnroutable)
	}
	here, ok := s.link.cfg.Peers.Peer(s.link.cfg.Node)
	switch {
	case r.protocol != protocolTCP:
		return fmt.Errorf("protocol %d: %w", r.protocol, errUnsupported)
	case s.link.cfg.Revoked(s.cert):
		return errors.Join(errRevoked, errDenied)
	case !there.owns(r.from.Addr()):
		return fmt.Errorf("it speaks for %s, which is not of its range: %w", r.from.Addr(), errDenied)
	case !ok || !here.owns(r.to.Addr()):
		return fmt.Errorf("it asks for %s, which is not of this node's range: %w", r.to.Addr(), errDenied)
	}
	return nil
}
