package gossip

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
)

const (
	packetSize = 1400 // of a datagram; fits every path that carries 1500
	maxPacket  = 1500 // some room for what memberlist does not count

	packetContext = "copepod gossip packet 1"
	// sealVersion leads every packet and stream, in the clear.
	sealVersion = 1
)

var errStopped = errors.New("gossip has stopped")

// guard is the transport that memberlist sees: it seals what goes out, opens,
// bounds and checks what comes in, and tells watch what passes. memberlist's own
// encryption is off: it would read 20 MB before it asks for a key, and it trusts
// the rest of what has one.
//
// It also knows which calls and connections memberlist still has in hand, which
// is what lets Run end after them.
type guard struct {
	inner    memberlist.NodeAwareTransport
	ring     *Keyring
	watch    watcher
	report   *report
	members  int // the most that a state may hold, before the slack of wire.go
	patience time.Duration

	packets chan *memberlist.Packet
	streams chan net.Conn
	large   chan struct{} // a place for each large stream that is being read
	done    chan struct{}
	loops   sync.WaitGroup // our goroutines
	calls   sync.WaitGroup // memberlist's calls and connections

	mu     sync.Mutex // guards what follows
	closed bool
	open   map[*stream]struct{}
	from   map[netip.Addr]int // incoming streams by source
	inward int                // incoming streams
	dials  map[string]error   // last error by address, for those that Join watches
}

// watcher learns what memberlist does not tell.
type watcher interface {
	sent(n news)  // suspect or alive, passed on by memberlist: it believes it
	heard(n news) // alive or dead, about to be handed to memberlist
}

func newGuard(g *Gossip, inner memberlist.NodeAwareTransport) *guard {
	return &guard{
		inner: inner, ring: g.ring, watch: g, report: g.report,
		members: g.cfg.MaxMembers, patience: g.cfg.Pace.StreamTimeout,
		packets: make(chan *memberlist.Packet), streams: make(chan net.Conn),
		large: make(chan struct{}, maxLarge), done: make(chan struct{}),
		open: map[*stream]struct{}{}, from: map[netip.Addr]int{}, dials: map[string]error{},
	}
}

func (g *guard) start() {
	g.loops.Go(g.openPackets)
	g.loops.Go(g.openStreams)
}

// Shutdown ends everything that touches the network: memberlist calls it first
// when it shuts down. Calls after it fail.
func (g *guard) Shutdown() error {
	g.mu.Lock()
	if g.closed {
		g.mu.Unlock()
		return nil
	}
	g.closed = true
	for s := range g.open {
		_ = s.Conn.Close()
	}
	g.mu.Unlock()
	close(g.done)
	err := g.inner.Shutdown()
	g.loops.Wait()
	return err
}

// wait returns when memberlist has let go of the last call and connection. Call
// it after memberlist's Shutdown.
func (g *guard) wait() { g.calls.Wait() }

// enter registers a call of memberlist's; leave with g.calls.Done.
func (g *guard) enter() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return errStopped
	}
	g.calls.Add(1)
	return nil
}

func (g *guard) FinalAdvertiseAddr(ip string, port int) (net.IP, int, error) {
	return g.inner.FinalAdvertiseAddr(ip, port)
}

func (g *guard) PacketCh() <-chan *memberlist.Packet { return g.packets }
func (g *guard) StreamCh() <-chan net.Conn           { return g.streams }

func (g *guard) WriteTo(b []byte, addr string) (time.Time, error) {
	return g.WriteToAddress(b, memberlist.Address{Addr: addr})
}

func (g *guard) WriteToAddress(b []byte, to memberlist.Address) (time.Time, error) {
	if err := g.enter(); err != nil {
		return time.Time{}, err
	}
	defer g.calls.Done()
	messages, err := splitPacket(b)
	if err != nil {
		return time.Time{}, fmt.Errorf("not sent, as nobody would take it: %w", err)
	}
	for _, m := range messages {
		if m.kind != kindSuspect && m.kind != kindAlive {
			continue
		}
		if n, err := m.decode(); err == nil { // memberlist wrote it
			g.watch.sent(n)
		}
	}
	sealed := make([]byte, 1, 1+sealOverhead+len(b))
	sealed[0] = sealVersion
	return g.inner.WriteToAddress(g.ring.seal(sealed, b, packetContext), to)
}

func (g *guard) openPackets() {
	for {
		select {
		case p := <-g.inner.PacketCh():
			if !g.openPacket(p) {
				continue
			}
			select {
			case g.packets <- p:
			case <-g.done:
				return
			}
		case <-g.done:
			return
		}
	}
}

// openPacket replaces what p holds by what was sealed in it.
func (g *guard) openPacket(p *memberlist.Packet) bool {
	if len(p.Buf) > maxPacket {
		g.report.refuse(RefusedSize, nameOf(p.From), fmt.Errorf("packet of more than %d bytes", maxPacket))
		return false
	}
	if len(p.Buf) == 0 || p.Buf[0] != sealVersion {
		g.report.refuse(RefusedKey, nameOf(p.From), errors.New("packet is not sealed"))
		return false
	}
	plain, err := g.ring.open(p.Buf[1:], packetContext)
	if err != nil {
		g.report.refuse(RefusedKey, nameOf(p.From), fmt.Errorf("packet %w", err))
		return false
	}
	messages, err := splitPacket(plain)
	if err != nil {
		g.report.refuse(RefusedMalformed, nameOf(p.From), err)
		return false
	}
	for _, m := range messages {
		if m.kind != kindDead && m.kind != kindAlive {
			continue
		}
		if n, err := m.decode(); err == nil { // memberlist will drop it otherwise
			g.watch.heard(n)
		}
	}
	p.Buf = plain
	return true
}
