// Package controllers runs the loops that make the cluster what its objects ask
// for: a table of controllers over shared caches. It knows which controllers
// there are and what each needs; what they decide stands in their packages, each
// with a pure plan.go.
//
// They run on the leader only. Run may be called again with each leadership:
// nothing is carried over from one to the next.
//
//	c, err := controllers.New(controllers.Config{Client: server.Local(), As: …})
//	err = c.Run(ctx)
package controllers

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"copepod/plane/controllers/api"
	"copepod/plane/controllers/loop"
	"copepod/plane/controllers/nodeipam"
	"copepod/plane/controllers/nodelifecycle"
	"copepod/plane/controllers/record"
)

// Config says what the controllers work with. Only Client is needed.
type Config struct {
	// Client is the cluster, read by the caches of all controllers.
	Client api.Client
	// As is the cluster as one user, for writes: each controller has an identity
	// of its own and no more rights than that. Nil: all write as Client.
	As func(user string) api.Client
	// RootCA is the PEM bundle that pods check the API server with; empty: no
	// ConfigMap kube-root-ca.crt is published.
	RootCA []byte
	// Resources are those that garbage collection and namespace deletion work
	// through; default api.Resources.
	Resources []api.Resource
	// NodeGrace is how long a node may be silent before it counts as lost; default
	// 40 s.
	NodeGrace time.Duration
	// Deaths, when set, tells of nodes that are dead before their grace is over.
	Deaths nodelifecycle.Deaths
	// PodCIDR is the range of all pods; not valid: nodes get no range of it.
	PodCIDR netip.Prefix
	// NodeMaskSize is the length of a node's part of it; default
	// nodeipam.DefaultMaskSize.
	NodeMaskSize int
	// Workers is how many keys one controller works on at a time; default 4.
	Workers int
	// Without names controllers that are not to run.
	Without []string
	Log     *slog.Logger
	// Metrics, when set, shows queue depths, durations and errors.
	Metrics prometheus.Registerer
}

// Controllers is the set of controllers.
type Controllers struct {
	cfg     Config
	metrics *loop.Metrics
	dropped prometheus.Counter
}

// New validates cfg and registers metrics.
func New(cfg Config) (*Controllers, error) {
	if cfg.Client == nil {
		return nil, errors.New("controllers: config: Client is nil")
	}
	for _, name := range cfg.Without {
		if _, ok := Table[name]; !ok {
			return nil, fmt.Errorf("controllers: config: Without: there is no controller %q, only %v", name, slices.Sorted(maps.Keys(Table)))
		}
	}
	if cfg.PodCIDR.IsValid() {
		if err := nodeipam.Check(cfg.PodCIDR, cfg.NodeMaskSize); err != nil {
			return nil, fmt.Errorf("controllers: config: %w", err)
		}
	}
	if cfg.As == nil {
		cfg.As = func(string) api.Client { return cfg.Client }
	}
	if cfg.Resources == nil {
		cfg.Resources = api.Resources()
	}
	cfg.Workers = cmp.Or(cfg.Workers, 4)
	cfg.Log = cmp.Or(cfg.Log, slog.Default()).With("part", "controllers")
	m, err := loop.NewMetrics(cfg.Metrics)
	if err != nil {
		return nil, fmt.Errorf("controllers: metrics: %w", err)
	}
	dropped := prometheus.NewCounter(prometheus.CounterOpts{
		Name: "copepod_controller_events_dropped_total", Help: "Events that were not recorded because too many waited.",
	})
	if cfg.Metrics != nil {
		if err := cfg.Metrics.Register(dropped); err != nil {
			return nil, fmt.Errorf("controllers: metrics: %w", err)
		}
	}
	return &Controllers{cfg: cfg, metrics: m, dropped: dropped}, nil
}

// Run runs every controller until ctx ends and returns after the last.
func (c *Controllers) Run(ctx context.Context) error {
	s := newShared(c)
	var loops []func(context.Context) error
	for _, name := range slices.Sorted(maps.Keys(Table)) {
		if !slices.Contains(c.cfg.Without, name) {
			loops = append(loops, Table[name](s, name)...)
		}
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	for _, run := range s.caches {
		wg.Go(func() { run(ctx) })
	}
	for _, run := range loops {
		run = loop.After(run, s.synced...)
		wg.Go(func() { run(ctx) })
	}
	wg.Go(func() {
		loop.After(func(context.Context) error {
			c.cfg.Log.Info("controllers run", "controllers", len(Table)-len(c.cfg.Without))
			return nil
		}, s.synced...)(ctx)
	})
	return nil
}

// loop is the configuration of one controller's loop.
func (s *shared) loop(name string) loop.Config {
	return loop.Config{Name: name, Workers: s.cfg.Workers, Log: s.cfg.Log, Metrics: s.metrics}
}

// as is the cluster as the service account of a controller.
func (s *shared) as(account string) api.Client {
	return s.cfg.As("system:serviceaccount:kube-system:" + account)
}

// recorder speaks as a component, with the rights of client.
func (s *shared) recorder(client api.Client, component string) *record.Recorder {
	return record.New(record.Config{Client: client, Component: component, Log: s.cfg.Log, Dropped: s.dropped})
}
