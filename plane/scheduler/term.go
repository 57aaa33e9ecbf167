package scheduler

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	nodev1 "k8s.io/api/node/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"copepod/plane/controllers/api"
	"copepod/plane/controllers/record"
	"copepod/plane/scheduler/place"
)

// term is one picture of the cluster, from a snapshot on, for as long as its
// watches last. One goroutine owns it all.
type term struct {
	*Scheduler
	cluster *place.Cluster
	queue   *queue
	pods    map[types.NamespacedName]*pod

	binds    chan []*pod
	bindings int // batches on their way
	results  chan outcome
	refusals *refusals
	events   *record.Recorder

	retry   []*pod // could not be bound
	backoff time.Duration
	timer   *time.Timer // due when retry is to be tried
}

func newTerm(s *Scheduler) *term {
	events := record.New(record.Config{
		Client: s.cfg.Client, Component: s.cfg.Name, Queue: 1 << 16, Log: s.cfg.Log, Dropped: s.metrics.dropped.Inc,
	})
	return &term{
		Scheduler: s, cluster: place.New(), queue: newQueue(), pods: map[types.NamespacedName]*pod{},
		binds: make(chan []*pod, s.cfg.Binders+1), results: make(chan outcome, s.cfg.Binders+1),
		refusals: newRefusals(s.cfg, events), events: events,
	}
}

// errExpired ends a term whose watch fell behind: a new snapshot is needed.
var errExpired = errors.New("watch ended")

func (t *term) run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	view := t.cfg.Client.View()
	inbox := make(chan message)
	for _, gr := range []schema.GroupResource{api.Pods, api.Nodes, api.Namespaces, api.RuntimeClasses} {
		events, err := t.cfg.Client.Watch(ctx, gr, view.Revision())
		if err != nil {
			return fmt.Errorf("watch %s: %w", gr, err)
		}
		wg.Go(func() { pump(ctx, gr, events, inbox) })
	}
	t.load(view)
	t.timer = time.NewTimer(time.Hour)
	defer t.timer.Stop()
	for range t.cfg.Binders {
		wg.Go(func() { t.bind(ctx) })
	}
	wg.Go(func() { t.refusals.run(ctx) })
	wg.Go(func() { t.events.Run(ctx) })
	t.cfg.Log.Info("scheduler runs", "nodes", t.cluster.Nodes(), "pods", len(t.pods))
	return t.loop(ctx, inbox)
}

// message is a batch of events of one resource; no events: its watch has ended.
type message struct {
	resource schema.GroupResource
	events   []api.Event
}

func pump(ctx context.Context, gr schema.GroupResource, from <-chan []api.Event, to chan<- message) {
	send := func(m message) {
		select {
		case <-ctx.Done():
		case to <- m:
		}
	}
	for events := range from {
		if len(events) > 0 {
			send(message{gr, events})
		}
	}
	send(message{resource: gr})
}

func (t *term) load(view api.View) {
	for o := range view.List(api.RuntimeClasses, "") {
		t.cluster.SetRuntimeClass(o.(*nodev1.RuntimeClass))
	}
	for o := range view.List(api.Namespaces, "") {
		t.cluster.SetNamespace(o.GetName(), o.GetLabels())
	}
	for o := range view.List(api.Nodes, "") {
		t.cluster.SetNode(o.(*corev1.Node))
	}
	for o := range view.List(api.Pods, "") {
		t.podIs(o.(*corev1.Pod), nil)
	}
}

// loop takes changes as they come, and places a batch after each as long as some
// pods are ready and a binder is free.
func (t *term) loop(ctx context.Context, inbox <-chan message) error {
	now := make(chan struct{})
	close(now)
	for {
		var goOn <-chan struct{} // nothing to wait for
		if t.busy() {
			goOn = now
		}
		var err error
		select {
		case <-ctx.Done():
			return nil
		case m := <-inbox:
			err = t.handle(m)
		case done := <-t.results:
			t.settle(done)
		case <-t.timer.C:
			t.tryAgain()
		case <-goOn:
		}
		if err != nil {
			return err
		}
		if t.busy() {
			t.cycle()
		}
		t.metrics.pending.WithLabelValues("active").Set(float64(t.queue.active + len(t.retry)))
		t.metrics.pending.WithLabelValues("unschedulable").Set(float64(t.queue.asleep))
	}
}

func (t *term) busy() bool { return t.queue.active > 0 && t.bindings <= t.cfg.Binders }

func (t *term) handle(m message) error {
	if len(m.events) == 0 {
		return fmt.Errorf("watch %s: %w", m.resource, errExpired)
	}
	for i := range m.events {
		e := &m.events[i]
		switch m.resource {
		case api.Pods:
			t.podEvent(e)
		case api.Nodes:
			t.nodeEvent(e)
		case api.Namespaces:
			t.namespaceEvent(e)
		case api.RuntimeClasses:
			t.runtimeClassEvent(e)
		}
	}
	return nil
}

// cycle places one batch and sends it to a binder.
func (t *term) cycle() {
	k, list := t.queue.take(t.cfg.Batch)
	if len(list) == 0 {
		return
	}
	start := time.Now()
	nodes, failure := t.cluster.Place(k, len(list))
	t.metrics.place.Observe(time.Since(start).Seconds())
	placed, rest := list[:len(nodes)], list[len(nodes):]
	for i, p := range placed {
		p.node, p.state = nodes[i], bound
	}
	if len(placed) > 0 {
		t.bindings++
		t.binds <- placed // has room: bindings is bounded
		t.wakeMinding(k)
	}
	if l := t.queue.lines[k]; len(rest) == 0 && l != nil {
		t.queue.wake(l, 2*len(placed)) // where these fitted, more may
	}
	if len(rest) > 0 {
		t.queue.park(k, rest, failure.Causes)
		t.refusals.add(rest, failure.Error())
		t.metrics.placed.WithLabelValues("unschedulable").Add(float64(len(rest)))
	}
}
