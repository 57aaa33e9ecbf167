// Package scheduler gives pods their nodes: one loop that keeps package place's
// picture of the cluster in step with the watch, and binds pods in batches. It
// knows queues, events and writes; where a pod may go is place's business alone.
//
// A pod that fits nowhere is told so once, and is tried again when something
// changes that may let it in: never on a timer.
//
// It runs on the leader only, and may run again with each leadership.
//
//	s, err := scheduler.New(scheduler.Config{Client: server.Local().As("system:kube-scheduler")})
//	err = s.Run(ctx)
package scheduler

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"copepod/plane/controllers/api"
)

// Client is what the scheduler asks of the cluster.
type Client interface {
	api.Source
	BindAll(ctx context.Context, bindings []*corev1.Binding) []error
	UpdateStatusAll(ctx context.Context, objs []api.Object) ([]api.Object, []error)
	CreateAll(ctx context.Context, objs []api.Object) ([]api.Object, []error)
	Modify(ctx context.Context, gr schema.GroupResource, namespace, name, subresource string, change func(api.Object) error) (api.Object, error)
}

// Config says what a scheduler works with. Only Client is needed.
type Config struct {
	Client Client
	// Name is the schedulerName of the pods that are placed; default
	// "default-scheduler".
	Name string
	// Batch is how many pods of one class are placed and bound together; default
	// 1,024.
	Batch int
	// Binders is how many batches may be bound at a time, while the next is being
	// placed; default 2.
	Binders int
	Log     *slog.Logger
	// Metrics, when set, shows pods placed and pending, and durations.
	Metrics prometheus.Registerer
}

// Scheduler places pods.
type Scheduler struct {
	cfg     Config
	metrics *metrics
}

// New validates cfg and registers metrics.
func New(cfg Config) (*Scheduler, error) {
	if cfg.Client == nil {
		return nil, errors.New("scheduler: config: Client is nil")
	}
	cfg.Name = cmp.Or(cfg.Name, corev1.DefaultSchedulerName)
	cfg.Batch = cmp.Or(cfg.Batch, 1024)
	cfg.Binders = cmp.Or(cfg.Binders, 2)
	cfg.Log = cmp.Or(cfg.Log, slog.Default()).With("part", "scheduler")
	m, err := newMetrics(cfg.Metrics)
	if err != nil {
		return nil, fmt.Errorf("scheduler: metrics: %w", err)
	}
	return &Scheduler{cfg: cfg, metrics: m}, nil
}

// Run places pods until ctx ends.
func (s *Scheduler) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		if err := newTerm(s).run(ctx); err != nil && ctx.Err() == nil {
			s.cfg.Log.Warn("scheduler starts over", "err", err)
			select {
			case <-ctx.Done():
			case <-time.After(100 * time.Millisecond):
			}
		}
	}
	return nil
}
