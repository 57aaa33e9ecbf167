package gossip

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"
	"golang.org/x/time/rate"
)

// Gossip is one member of a cluster. Its methods are safe for concurrent use.
type Gossip struct {
	cfg    Config
	ring   *Keyring
	report *report
	news   *rate.Limiter // of lines about members, of whom peers make as many as they like

	meta      atomic.Pointer[[]byte] // encoded
	advertise chan struct{}          // holds one token when meta changed
	started   atomic.Bool
	ready     chan struct{}  // closed when Run serves
	stopping  chan struct{}  // closed when Run ends
	callers   sync.WaitGroup // goroutines that calls started; Run waits for them

	engine *memberlist.Memberlist // set before ready closes, like what follows
	guard  *guard

	mu            sync.Mutex // guards what follows; nothing is called under it
	stopped       bool
	table         *table
	subscriptions map[*subscription]struct{}
}

// ErrStopped is returned by calls after Run has returned.
var ErrStopped = errors.New("gossip: has stopped")

// New checks cfg and builds a member; nothing moves before Run.
// Errors: ErrNoKeys, ErrKeySize, ErrMeta, or the field that is wrong.
func New(cfg Config) (*Gossip, error) {
	cfg, err := cfg.filled()
	if err != nil {
		return nil, fmt.Errorf("gossip: config: %w", err)
	}
	ring, err := newKeyring(cfg.Keys)
	if err != nil {
		return nil, fmt.Errorf("gossip: config: %w", err)
	}
	cfg.Keys = nil // the ring has them, and should be the only one
	g := &Gossip{
		cfg: cfg, ring: ring, report: newReport(cfg.Log), news: rate.NewLimiter(1, 50),
		advertise: make(chan struct{}, 1), ready: make(chan struct{}), stopping: make(chan struct{}),
		table: newTable(cfg.MaxMembers), subscriptions: map[*subscription]struct{}{},
	}
	return g, g.storeMeta(cfg.Meta)
}

// Run binds, serves until ctx ends, says goodbye to the others, and returns when
// everything it started has ended: no packet is sent, no connection open and no
// event delivered after it. (A probe of memberlist's that still waits for an
// answer ends by itself within its interval, and reaches nothing any more.)
// It runs once.
func (g *Gossip) Run(ctx context.Context) error {
	if g.started.Swap(true) {
		return errors.New("gossip: Run was called before: make a new one")
	}
	defer g.finish()
	undo, err := g.register()
	if err != nil {
		return fmt.Errorf("gossip: %w", err)
	}
	defer undo()
	if err := g.start(); err != nil {
		return fmt.Errorf("gossip: %w", err)
	}
	close(g.ready)
	g.cfg.Log.Info("gossip serves", "addr", g.Addr(), "key", g.ring.IDs()[0])
	var loops sync.WaitGroup
	loops.Go(func() { g.announce(ctx) })
	loops.Go(func() { g.rejoin(ctx) })
	<-ctx.Done()
	err = g.leave()
	loops.Wait()
	return err
}

// Ready is closed when the member can be reached and Join goes ahead.
func (g *Gossip) Ready() <-chan struct{} { return g.ready }

// Addr is the advertised address; it is valid once Ready is closed.
func (g *Gossip) Addr() netip.AddrPort {
	select {
	case <-g.ready:
	default:
		return netip.AddrPort{}
	}
	ip, port, err := g.guard.FinalAdvertiseAddr("", 0)
	a, ok := netip.AddrFromSlice(ip)
	if err != nil || !ok {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(a.Unmap(), uint16(port))
}

// Members is everyone known, this member included, by name.
func (g *Gossip) Members() []Member {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.table.members()
}

// Keys is the ring that seals and opens; see Keyring on how to rotate.
func (g *Gossip) Keys() *Keyring { return g.ring }

// Refused is how often something was refused for that reason.
func (g *Gossip) Refused(why Reason) uint64 { return g.report.count(why) }

// SetMeta replaces what the others learn about this member. It does not wait
// for them to learn it. Errors: ErrMeta.
func (g *Gossip) SetMeta(m Meta) error {
	if err := g.storeMeta(m); err != nil {
		return err
	}
	select {
	case g.advertise <- struct{}{}:
	default: // one announcement will do for both
	}
	return nil
}

func (g *Gossip) storeMeta(m Meta) error {
	b, err := m.Encode()
	if err != nil {
		return fmt.Errorf("gossip: %w", err)
	}
	g.meta.Store(&b)
	return nil
}

// start makes the transport and memberlist, which is running when this returns.
func (g *Gossip) start() error {
	inner := g.cfg.Transport
	if inner == nil {
		s, err := listen(g.cfg.Bind, g.cfg.Advertise)
		if err != nil {
			return err
		}
		inner = s
	}
	g.guard = newGuard(g, inner)
	g.guard.start()
	engine, err := memberlist.Create(g.engineConfig())
	if err != nil {
		return errors.Join(fmt.Errorf("start memberlist: %w", err), g.guard.Shutdown())
	}
	g.engine = engine
	return nil
}

func (g *Gossip) engineConfig() *memberlist.Config {
	p, d := g.cfg.Pace, delegate{g}
	c := memberlist.DefaultLANConfig()
	c.Name, c.Transport, c.BindPort = g.cfg.Name, g.guard, DefaultPort
	c.ProtocolVersion = protocol
	c.Delegate, c.Events, c.Alive, c.Conflict = d, d, d, d
	c.ProbeInterval, c.ProbeTimeout = p.ProbeInterval, p.ProbeTimeout
	c.IndirectChecks, c.SuspicionMult = p.IndirectProbes, p.SuspicionMult
	c.SuspicionMaxTimeoutMult = suspicionSpread
	c.GossipInterval, c.GossipNodes, c.RetransmitMult = p.GossipInterval, p.GossipNodes, p.RetransmitMult
	c.PushPullInterval, c.TCPTimeout = p.SyncInterval, p.StreamTimeout
	// A machine that comes back under another address gets its name back
	// once the others have had time to agree that it was gone.
	c.DeadNodeReclaimTime = 2 * p.ProbeInterval
	c.EnableCompression = false // the guard refuses it
	c.UDPBufferSize = packetSize - 1 - sealOverhead
	c.Logger = engineLog(g.cfg.Log)
	return c
}

// suspicionSpread times the time of SuspicionMult is how long a member stays
// suspect when nobody else suspects it as well.
const suspicionSpread = 3

// leave says goodbye, stops memberlist, and waits for what it holds.
func (g *Gossip) leave() error {
	g.heard(news{kindDead, claim{Node: g.cfg.Name, From: g.cfg.Name, Incarnation: math.MaxUint32}})
	if err := g.engine.Leave(20 * g.cfg.Pace.GossipInterval); err != nil {
		g.cfg.Log.Warn("nobody heard the goodbye", "error", err)
	}
	err := g.engine.Shutdown()
	g.guard.wait()
	if err != nil {
		return fmt.Errorf("gossip: stop: %w", err)
	}
	return nil
}

// finish ends what callers wait for.
func (g *Gossip) finish() {
	g.mu.Lock()
	g.stopped = true
	g.mu.Unlock()
	close(g.stopping)
	g.callers.Wait()
}

// learn puts one piece of news into the table and passes on what it makes.
func (g *Gossip) learn(change func(*table, time.Time) (Event, bool)) (Event, bool) {
	e, ok := g.publish(change)
	if ok && e.Kind != Conflicted && g.news.Allow() {
		g.cfg.Log.Info("member changed", "to", e.Kind.String(), "name", e.Member.Name, "addr", e.Member.Addr)
	}
	return e, ok
}

func (g *Gossip) publish(change func(*table, time.Time) (Event, bool)) (Event, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.stopped {
		return Event{}, false
	}
	e, ok := change(g.table, time.Now())
	if ok {
		for s := range g.subscriptions {
			s.put(e)
		}
	}
	return e, ok
}

// announce tells the others when Meta changed.
func (g *Gossip) announce(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-g.advertise:
			// It can only fail by not waiting until the news is out, and
			// there is no need to wait: memberlist spreads it all the same.
			_ = g.engine.UpdateNode(time.Nanosecond)
		}
	}
}

// rejoin goes back to those who failed, one at a time: memberlist talks to the
// dead for half a minute only, so two halves of a cluster that were apart for
// longer would never find each other again.
func (g *Gossip) rejoin(ctx context.Context) {
	tick := time.NewTicker(g.cfg.Pace.RejoinInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			g.settle(now)
			g.mu.Lock()
			g.table.forget(now.Add(-g.cfg.Pace.Forget))
			failed := g.table.failed()
			g.mu.Unlock()
			if len(failed) == 0 {
				continue
			}
			m := failed[rand.IntN(len(failed))]
			if err := g.sync(m.Addr); err != nil {
				g.cfg.Log.Debug("still failed", "name", m.Name, "error", err)
			}
		}
	}
}

// settle ends suspicions that memberlist must have ended by now: it reports each
// that ends in death, so these were refuted, and every sign of it was lost.
func (g *Gossip) settle(now time.Time) {
	p := g.cfg.Pace
	for {
		e, ok := g.learn(func(t *table, _ time.Time) (Event, bool) {
			scale := max(1, math.Log10(float64(len(t.records))))
			limit := suspicionSpread*scale*float64(p.SuspicionMult)*float64(p.ProbeInterval) + float64(p.StreamTimeout)
			return t.cleared(now.Add(-time.Duration(limit)), now)
		})
		if !ok {
			return
		}
		g.cfg.Log.Debug("suspicion ran out", "name", e.Member.Name)
	}
}

// Join meets the cluster at addrs, each "host:port", "host" or an IP address,
// and returns how many of them answered. It fails when none did, with the error
// of each; ErrNoAnswer among them usually means another key. It waits for Ready,
// and returns early when ctx ends.
func (g *Gossip) Join(ctx context.Context, addrs []string) (int, error) {
	select {
	case <-g.ready:
	case <-g.stopping:
		return 0, ErrStopped
	case <-ctx.Done():
		return 0, fmt.Errorf("gossip: join: not running: %w", context.Cause(ctx))
	}
	var errs []error
	met := 0
	for _, addr := range addrs {
		if err := g.meet(ctx, addr); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", addr, err))
			continue
		}
		met++
	}
	if met == 0 && len(addrs) > 0 {
		return 0, fmt.Errorf("gossip: join: %w", errors.Join(errs...))
	}
	return met, nil
}

// meet exchanges states with addr, trying each of its IP addresses.
func (g *Gossip) meet(ctx context.Context, addr string) error {
	all, err := resolve(ctx, addr)
	if err != nil {
		return err
	}
	for _, a := range all {
		result := make(chan error, 1)
		g.mu.Lock()
		if g.stopped {
			g.mu.Unlock()
			return ErrStopped
		}
		g.callers.Go(func() { result <- g.sync(a) })
		g.mu.Unlock()
		select {
		case err = <-result:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if err == nil {
			return nil
		}
	}
	return err
}

// sync exchanges the whole state with the member at a; it takes at most a few
// times Pace.StreamTimeout.
func (g *Gossip) sync(a netip.AddrPort) error {
	why := g.guard.trace(a.String())
	_, err := g.engine.Join([]string{a.String()})
	if cause := why(); err != nil && cause != nil {
		return cause
	}
	return err
}

// resolve turns "host:port", "host" or an address into addresses.
func resolve(ctx context.Context, s string) ([]netip.AddrPort, error) {
	if a, err := netip.ParseAddrPort(s); err == nil {
		return []netip.AddrPort{a}, nil
	}
	if a, err := netip.ParseAddr(s); err == nil {
		return []netip.AddrPort{netip.AddrPortFrom(a, DefaultPort)}, nil
	}
	host, service, err := net.SplitHostPort(s)
	if err != nil {
		host, service = s, fmt.Sprint(DefaultPort)
	}
	port, err := net.DefaultResolver.LookupPort(ctx, "udp", service)
	if err != nil {
		return nil, err
	}
	ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return nil, err
	}
	all := make([]netip.AddrPort, 0, len(ips))
	for _, ip := range ips {
		all = append(all, netip.AddrPortFrom(ip.Unmap(), uint16(port)))
	}
	return all, nil
}
