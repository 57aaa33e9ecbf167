// Package detector turns hints that a node is dead into facts. Gossip gives the
// hints: it says within a second who fell silent, and whoever holds its key can
// say so of anyone. So nothing follows from a hint but a look, at the node's own
// port, whose certificate proves which node answers: from this machine, and from
// one or two other nodes, so that a cut between two machines kills no third. Only
// what nobody can reach is dead. The package knows nodes, their ports and time;
// it never learns what follows from a death, and it writes nothing.
//
//	d, err := detector.New(detector.Config{Gossip: g, Nodes: local, Ports: detector.NewPorts(dialer, local), Self: "n1"})
//	go d.Run(ctx)              // while this member leads
//	at, dead := d.Dead("n2")   // nodelifecycle asks, and is told by Follow
//
// A leader that begins looks at every node that gossip does not hold as alive, so
// a node that died together with the leader before is noticed as any other.
// Without gossip nothing is ever found here, and leases decide.
package detector

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"copepod/gossip"
	"copepod/plane/controllers/api"
)

// Gossip gives hints. *gossip.Gossip is one.
type Gossip interface {
	Events(ctx context.Context) <-chan gossip.Event
}

// Nodes is the cluster's Node objects.
type Nodes interface {
	View() api.View
}

// Config says what a Detector works with. Nodes and Ports are needed.
type Config struct {
	Gossip Gossip // nil: there is none
	Nodes  Nodes
	Ports  Ports
	// Self is the node on this machine: it is no second vantage point.
	Self string
	// Again is the wait between two looks at the same node; it grows while they
	// find the same. Zero: 1 s.
	Again time.Duration
	// Settle is how long after the start nodes may be unknown to gossip before
	// they are looked at. Zero: 1 s.
	Settle time.Duration
	Log    *slog.Logger
	// Metrics, when set, shows what was found.
	Metrics prometheus.Registerer
}

// Detector looks for nodes while this member leads. Its methods may be called at
// once.
type Detector struct {
	cfg   Config
	found *prometheus.CounterVec

	mu        sync.Mutex // guards what follows
	dead      map[string]time.Time
	followers map[*func(string)]struct{}
}

// New checks cfg and registers metrics.
func New(cfg Config) (*Detector, error) {
	if cfg.Nodes == nil || cfg.Ports == nil {
		return nil, errors.New("detector: config: Nodes and Ports are needed")
	}
	cfg.Again = cmp.Or(cfg.Again, time.Second)
	cfg.Settle = cmp.Or(cfg.Settle, time.Second)
	cfg.Log = cmp.Or(cfg.Log, slog.Default()).With("part", "detector")
	d := &Detector{
		cfg: cfg, dead: map[string]time.Time{}, followers: map[*func(string)]struct{}{},
		found: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "copepod_detector_rounds_total", Help: "Looks for nodes that were said to be dead, by what was found: alive, dead or unsure.",
		}, []string{"found"}),
	}
	if cfg.Metrics != nil {
		if err := cfg.Metrics.Register(d.found); err != nil {
			return nil, fmt.Errorf("detector: metrics: %w", err)
		}
	}
	return d, nil
}

// Dead says whether a node was found dead, and at which moment: what was heard of
// it later refutes that.
func (d *Detector) Dead(node string) (at time.Time, dead bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	at, dead = d.dead[node]
	return at, dead
}

// Follow calls f with each node of which Dead has news, until stop is called. f
// must only take note.
func (d *Detector) Follow(f func(node string)) (stop func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.followers[&f] = struct{}{}
	return func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		delete(d.followers, &f)
	}
}

// set notes what was found of a node and tells the followers.
func (d *Detector) set(node string, at time.Time, dead bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, was := d.dead[node]; !was && !dead {
		return
	}
	if delete(d.dead, node); dead {
		d.dead[node] = at
	}
	for f := range d.followers {
		(*f)(node)
	}
}

// Run looks for nodes until ctx ends. It may run again with each leadership;
// nothing is carried over.
func (d *Detector) Run(ctx context.Context) error {
	defer func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		clear(d.dead)
	}()
	if d.cfg.Gossip == nil {
		<-ctx.Done()
		return nil
	}
	newTerm(d).run(ctx)
	return nil
}
