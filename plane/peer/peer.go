// Package peer is the one port by which the members of the plane reach each
// other: TLS 1.3 with certificates of the cluster CA on both sides, and two
// protocols that ALPN tells apart. copepod-raft/1 is a plain stream, for Raft;
// copepod-store/1 carries requests and answers in frames.
//
// It knows certificates, connections and frames. It never learns what is in
// them, who may be a member (Authorize says so), or who leads.
//
//	p, err := peer.New(peer.Config{Listener: l, Member: "n1", CAs: pool,
//		GetCertificate: serving.GetCertificate, GetClientCertificate: client.GetClientCertificate,
//		Authorize: member})
//	st, err := store.Open(store.Config{NodeID: "n1", Transport: p.Raft(), Forwarder: p, …})
//	go p.Run(ctx, st.Serve) // until the store has stopped
//	go st.Run(ctx)
package peer

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// The protocols of the port.
const (
	RaftProtocol  = "copepod-raft/1"
	StoreProtocol = "copepod-store/1"
)

// Config is how members reach each other. Listener, Member, CAs, the two
// certificates and Authorize are required.
type Config struct {
	// Listener is where others connect; Run closes it.
	Listener net.Listener
	// Member is our own name.
	Member string
	// CAs verify both ends of a connection.
	CAs *x509.CertPool
	// GetCertificate is what we show to those who connect to us, and
	// GetClientCertificate to those to whom we connect. They are asked for
	// each connection, so that certificates can rotate.
	GetCertificate       func(*tls.ClientHelloInfo) (*tls.Certificate, error)
	GetClientCertificate func(*tls.CertificateRequestInfo) (*tls.Certificate, error)
	// Authorize names the member to whom a verified certificate belongs, or
	// says why it may not take part: not a member, or revoked. It is asked
	// at each handshake and each request, and every second for each open
	// connection; it must answer at once and be safe for concurrent use.
	Authorize func(*x509.Certificate) (member string, err error)
	// Dial connects to others. Nil is a net.Dialer.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// MaxConns bounds the connections that others open, in handshake or
	// after it, MaxConnsPerMember those of one member. Defaults 1024 and 32.
	MaxConns          int
	MaxConnsPerMember int
	// HandshakeTimeout bounds a handshake from the first byte to the last.
	// Default 5 s.
	HandshakeTimeout time.Duration
	// Log receives what an operator should know. Default slog.Default().
	Log *slog.Logger
	// Registerer receives the metrics copepod_peer_*. Nil for none.
	Registerer prometheus.Registerer
}

// Handler answers one request of a member. A request may be delivered twice:
// when its answer was lost, the caller asks again. ctx ends when the answer
// would come too late.
type Handler func(ctx context.Context, member string, request []byte) ([]byte, error)

const (
	defaultConns          = 1024
	defaultConnsPerMember = 32
	defaultHandshake      = 5 * time.Second
	// handshakesPerAddress bounds the unfinished handshakes of one IP
	// address, so that a stranger cannot take all of MaxConns.
	handshakesPerAddress = 32
	// recheckEvery is how late a connection ends whose certificate was
	// revoked or has expired.
	recheckEvery = time.Second
)

// Peer is our end of all connections to other members.
type Peer struct {
	cfg     Config
	log     *slog.Logger
	server  *tls.Config
	raft    *raftTransport
	calls   *calls
	metrics *metrics

	mu    sync.Mutex // guards what follows
	conns connTable
}

// New checks the configuration. Nothing is accepted before Run; connections to
// others can be made at once.
func New(cfg Config) (*Peer, error) {
	switch {
	case cfg.Listener == nil || cfg.Member == "" || cfg.CAs == nil || cfg.Authorize == nil:
		return nil, errors.New("peer: config: Listener, Member, CAs and Authorize are needed")
	case cfg.GetCertificate == nil || cfg.GetClientCertificate == nil:
		return nil, errors.New("peer: config: GetCertificate and GetClientCertificate are needed: both ends show who they are")
	case cfg.MaxConns < 0 || cfg.MaxConnsPerMember < 0 || cfg.HandshakeTimeout < 0:
		return nil, errors.New("peer: config: MaxConns, MaxConnsPerMember and HandshakeTimeout must not be negative")
	}
	cfg.MaxConns = cmp.Or(cfg.MaxConns, defaultConns)
	cfg.MaxConnsPerMember = cmp.Or(cfg.MaxConnsPerMember, defaultConnsPerMember)
	cfg.HandshakeTimeout = cmp.Or(cfg.HandshakeTimeout, defaultHandshake)
	if cfg.Dial == nil {
		cfg.Dial = new(net.Dialer).DialContext
	}
	p := &Peer{cfg: cfg, log: cmp.Or(cfg.Log, slog.Default()).With("part", "peer")}
	p.conns = newConnTable()
	p.server = p.serverTLS()
	p.raft = newRaftTransport(p)
	p.calls = newCalls()
	var err error
	if p.metrics, err = newMetrics(p, cfg.Registerer); err != nil {
		return nil, fmt.Errorf("peer: metrics: %w", err)
	}
	return p, nil
}

// Addr is the address of the listener.
func (p *Peer) Addr() net.Addr { return p.cfg.Listener.Addr() }

// Run accepts members until ctx ends: their streams go to Raft, their requests
// to handle. When it returns, all connections are closed, those that we made
// included, and a Peer does not run again.
func (p *Peer) Run(ctx context.Context, handle Handler) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	wg.Go(func() { p.recheck(ctx) })
	stop := context.AfterFunc(ctx, func() { p.cfg.Listener.Close() })
	defer stop()
	err := p.accept(ctx, &wg, handle)
	cancel()
	p.raft.Close()
	p.calls.close()
	p.closeAll()
	wg.Wait()
	p.metrics.unregister()
	if err != nil {
		return fmt.Errorf("peer: %w", err)
	}
	return nil
}

// accept takes connections. An error of the listener that is not its end (no
// more file descriptors) is waited out.
func (p *Peer) accept(ctx context.Context, wg *sync.WaitGroup, handle Handler) error {
	const patience = 100 * time.Millisecond
	for {
		conn, err := p.cfg.Listener.Accept()
		switch {
		case ctx.Err() != nil:
			if err == nil {
				conn.Close()
			}
			return nil
		case errors.Is(err, net.ErrClosed):
			return fmt.Errorf("accept on %v: %w", p.Addr(), err)
		case err != nil:
			p.refused(reasonAccept, p.Addr(), err)
			select {
			case <-ctx.Done():
			case <-time.After(patience):
			}
			continue
		}
		c, err := p.admit(conn)
		if err != nil {
			p.refused(reasonLimit, conn.RemoteAddr(), err)
			conn.Close()
			continue
		}
		wg.Go(func() { p.welcome(ctx, c, handle) })
	}
}

// welcome makes the handshake and hands the connection to its protocol.
func (p *Peer) welcome(ctx context.Context, c *memberConn, handle Handler) {
	deadline := time.Now().Add(p.cfg.HandshakeTimeout)
	c.Conn.SetDeadline(deadline)
	handshake, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	if err := p.introduce(handshake, c); err != nil {
		if ctx.Err() == nil {
			p.refused(reasonOf(err), c.Conn.RemoteAddr(), err)
		}
		c.Close()
		return
	}
	c.Conn.SetDeadline(time.Time{})
	if c.Conn.(*tls.Conn).ConnectionState().NegotiatedProtocol == RaftProtocol {
		p.raft.offer(ctx, c, p.cfg.HandshakeTimeout)
		return
	}
	defer c.Close()
	p.serve(ctx, c, handle)
}

// recheck ends connections whose certificates no longer count.
func (p *Peer) recheck(ctx context.Context) {
	tick := time.NewTicker(recheckEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			p.Recheck()
		}
	}
}

// Recheck asks Authorize about every open connection now, instead of within a
// second, and ends those that it refuses.
func (p *Peer) Recheck() {
	p.mu.Lock()
	open := p.conns.authenticated()
	p.mu.Unlock()
	for _, c := range open {
		if err := p.stillWelcome(c); err != nil {
			p.refused(reasonUnauthorized, c.RemoteAddr(), err)
			c.Close()
		}
	}
}
