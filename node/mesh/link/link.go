// Package link joins the pod networks of nodes: a TLS 1.3 connection to each
// other node that is spoken to, and in it a stream for each connection between
// pods. Both ends show the node's certificate, so a pod's address is worth what
// its node's word is: it must lie in the range that the cluster gave that node.
// It knows nodes, ranges and byte streams; it never learns of Services, nor where
// the list of nodes comes from.
//
//	l, err := link.New(link.Config{Node: "n1", Listener: ln, Peers: peers, CA: pool, …})
//	pods := vnet.New(vnet.Config{Remote: l, …})
//	err = l.Run(ctx, pods)
//
// When a node dies, its connections end as if reset (ECONNRESET), and dials to
// its pods fail at once (EHOSTUNREACH) until it answers again.
package link

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"
	"golang.org/x/time/rate"

	"copepod/node/mesh/vnet"
)

// DefaultPort is where nodes listen for each other unless they say otherwise.
const DefaultPort = 7948

// Peer is a node as the cluster knows it.
type Peer struct {
	Name string
	Addr netip.AddrPort // of its link
	Pods []netip.Prefix // the addresses of its pods
}

// owns says whether the address is one of the peer's pods'.
func (p Peer) owns(ip netip.Addr) bool {
	for _, r := range p.Pods {
		if r.Contains(ip) {
			return true
		}
	}
	return false
}

// Peers is the list of nodes, this one too. It is asked for each connection, so
// it must answer from memory. *peers.Directory is one.
type Peers interface {
	Peer(name string) (Peer, bool)    // by name
	Owner(ip netip.Addr) (Peer, bool) // whose pods have that address
}

// Pods are those of this node. *vnet.Net is one.
type Pods interface {
	Deliver(ctx context.Context, from, to netip.AddrPort) (vnet.Conn, error)
}

// Config configures a Link. Fields without a default are required.
type Config struct {
	Node     string       // this node's name
	Listener net.Listener // plain TCP; Run closes it
	Peers    Peers
	CA       *x509.CertPool // that signs nodes
	// Serving and Client give the certificates that this node shows where it is
	// called and where it calls; asked for each handshake, so that they may rotate.
	Serving func(*tls.ClientHelloInfo) (*tls.Certificate, error)
	Client  func(*tls.CertificateRequestInfo) (*tls.Certificate, error)
	// Revoked says whether a certificate counts no more, though it is valid; it is
	// asked again and again while a connection lives. Nil: none is.
	Revoked func(*x509.Certificate) bool

	Handshake  time.Duration // for a connection and its TLS handshake; default 5 s
	Answer     time.Duration // for a stream's request, and for its answer; default 3 s
	Silence    time.Duration // without a byte, pings included, after which a node is lost; default 5 s
	Idle       time.Duration // without a stream, after which a connection closes; default 5 min
	Retry      time.Duration // the longest wait between tries to reach a lost node; default 5 s
	Streams    int64         // from one node at a time; default 16384
	Handshakes int64         // unproven connections at a time; default 256
	Log        *slog.Logger
}

// Link is this node's end of its connections to the others.
type Link struct {
	cfg    Config
	log    *slog.Logger
	client *tls.Config
	server *tls.Config
	guests *semaphore.Weighted // unproven connections
	stats  counters
	ready  chan struct{} // closed by Run

	mu      sync.Mutex // guards what follows
	run     context.Context
	pods    Pods
	peers   map[string]*peer
	workers sync.WaitGroup
}

// Stats counts what the link has carried since it started.
type Stats struct {
	Peers    int64 // nodes connected to now
	Streams  int64 // connections of pods now, both ways
	Opened   int64 // dials of pods here that reached another node
	Failed   int64 // and those that did not
	Accepted int64 // connections from pods of other nodes
	Refused  int64 // and those that were refused
	Hostile  int64 // callers without a right to call, and requests that no honest node makes
	Sent     int64 // bytes, of pods
	Received int64
}

type counters struct {
	peers, streams, opened, failed, accepted, refused, hostile, sent, received atomic.Int64
}

// New checks the configuration; Run does the work.
func New(cfg Config) (*Link, error) {
	switch {
	case cfg.Node == "", cfg.Listener == nil, cfg.Peers == nil:
		return nil, errors.New("link: config: Node, Listener and Peers are needed")
	case cfg.CA == nil, cfg.Serving == nil, cfg.Client == nil:
		return nil, errors.New("link: config: CA, Serving and Client are needed")
	}
	if cfg.Revoked == nil {
		cfg.Revoked = func(*x509.Certificate) bool { return false }
	}
	cfg.Handshake = cmp.Or(cfg.Handshake, 5*time.Second)
	cfg.Answer = cmp.Or(cfg.Answer, 3*time.Second)
	cfg.Silence = cmp.Or(cfg.Silence, 5*time.Second)
	cfg.Idle = cmp.Or(cfg.Idle, 5*time.Minute)
	cfg.Retry = cmp.Or(cfg.Retry, 5*time.Second)
	cfg.Streams = cmp.Or(cfg.Streams, 16384)
	cfg.Handshakes = cmp.Or(cfg.Handshakes, 256)
	l := &Link{
		cfg: cfg, log: cmp.Or(cfg.Log, slog.Default()).With("part", "link", "node", cfg.Node),
		guests: semaphore.NewWeighted(cfg.Handshakes), peers: map[string]*peer{}, ready: make(chan struct{}),
	}
	l.client, l.server = l.clientTLS(), l.serverTLS()
	return l, nil
}

// Stats says what has been carried.
func (l *Link) Stats() Stats {
	c := &l.stats
	return Stats{
		Peers: c.peers.Load(), Streams: c.streams.Load(), Opened: c.opened.Load(), Failed: c.failed.Load(),
		Accepted: c.accepted.Load(), Refused: c.refused.Load(), Hostile: c.hostile.Load(), Sent: c.sent.Load(), Received: c.received.Load(),
	}
}

// Run connects pods, which are this node's, with those of other nodes until ctx
// ends; then it cuts all connections and returns after the last. It is called once.
func (l *Link) Run(ctx context.Context, pods Pods) error {
	ctx, cancel := context.WithCancel(ctx)
	l.mu.Lock()
	l.run, l.pods = ctx, pods
	l.mu.Unlock()
	close(l.ready)
	stop := context.AfterFunc(ctx, func() { _ = l.cfg.Listener.Close() })
	err := l.accept(ctx)
	cancel()
	stop()
	_ = l.cfg.Listener.Close()
	l.mu.Lock()
	l.run = nil // nobody starts after this
	l.mu.Unlock()
	l.workers.Wait()
	return err
}

// Ready closes when Run has begun: dials before that fail.
func (l *Link) Ready() <-chan struct{} { return l.ready }

// start runs f until the link stops; false if it has, or has not begun.
func (l *Link) start(f func(ctx context.Context)) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.run == nil || l.run.Err() != nil {
		return false
	}
	ctx := l.run
	l.workers.Go(func() { f(ctx) })
	return true
}

// Lost takes that a node is thought dead, as gossip does: its connections are
// cut, and dials to its pods fail until it answers again.
func (l *Link) Lost(node string) {
	l.mu.Lock()
	p := l.peers[node]
	l.mu.Unlock()
	if p != nil {
		p.cut(errDeclaredLost)
	}
}

// Dial implements vnet.Remote.
func (l *Link) Dial(ctx context.Context, from, to netip.AddrPort, conn vnet.Conn) error {
	err := l.dial(ctx, from, to, conn)
	if err != nil {
		l.stats.failed.Add(1)
		return err
	}
	l.stats.opened.Add(1)
	return nil
}

func (l *Link) dial(ctx context.Context, from, to netip.AddrPort, conn vnet.Conn) (err error) {
	owner, ok := l.cfg.Peers.Owner(to.Addr())
	if !ok || owner.Name == l.cfg.Node {
		return vnet.ErrUnroutable // no node has it, or no pod here
	}
	self, ok := l.cfg.Peers.Peer(l.cfg.Node)
	if !ok || len(self.Pods) == 0 {
		return fmt.Errorf("this node's range of addresses is not known yet: %w", vnet.ErrUnroutable)
	}
	if !from.Addr().IsValid() { // the node itself speaks as the first address of its range, which is no pod's
		from = netip.AddrPortFrom(self.Pods[0].Masked().Addr().Next(), from.Port())
	}
	if !self.owns(from.Addr()) {
		return fmt.Errorf("%s is not of this node's range: %w", from.Addr(), vnet.ErrUnroutable)
	}
	p := l.peer(owner.Name)
	for range 2 { // a session may end just as it is chosen
		var s *session
		if s, err = p.session(ctx); err != nil {
			return fmt.Errorf("node %s: %w: %w", p.name, err, vnet.ErrUnroutable)
		}
		if err = s.open(ctx, request{protocol: protocolTCP, from: from, to: to}, conn); !errors.Is(err, errStale) {
			break
		}
	}
	if err != nil {
		return fmt.Errorf("node %s: %w", p.name, err)
	}
	return nil
}

// peer is the node of that name as one that we call.
func (l *Link) peer(name string) *peer {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.peers[name]
	if p == nil {
		p = &peer{link: l, name: name, kick: make(chan struct{}, 1), complaint: rate.Sometimes{Interval: time.Minute}}
		l.peers[name] = p
	}
	return p
}
