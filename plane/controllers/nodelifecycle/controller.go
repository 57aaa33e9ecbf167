// Package nodelifecycle notices nodes that fall silent and says so: conditions
// become Unknown, taints keep new pods away and let others evict the old, and the
// pods there stop counting as ready. It also turns a node's other conditions, and
// being cordoned, into taints. It knows leases and conditions; eviction is
// another controller's.
//
// A node lives as long as its lease or its status changes. Both are timed by the
// clock here, at the moment of the change, so that a node with a wrong clock is
// not taken for dead. Somebody else may have looked for it and found it dead
// (Deaths): then nobody waits for the rest of its time. A node that is found dead
// and goes on to write its status refutes that, and until it is found alive only
// its silence counts.
//
// Where many nodes of a zone are lost at once, the fault is more likely between
// them and us than in each of them: pods are then evicted slowly or not at all,
// as in Kubernetes; see zones.go.
//
//	c := nodelifecycle.New(nodelifecycle.Config{Client: client, Nodes: nodes, Leases: leases, Pods: book, Events: recorder})
//	err := c.Run(ctx)
package nodelifecycle

import (
	"cmp"
	"context"
	"fmt"
	"sync"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"copepod/plane/controllers/api"
	"copepod/plane/controllers/cache"
	"copepod/plane/controllers/loop"
	"copepod/plane/controllers/pods"
	"copepod/plane/controllers/record"
)

// Client is what the controller asks of the cluster.
type Client interface {
	View() api.View
	UpdateStatusAll(ctx context.Context, objs []api.Object) ([]api.Object, []error)
	Modify(ctx context.Context, gr schema.GroupResource, namespace, name, subresource string, change func(api.Object) error) (api.Object, error)
}

// Recorder takes events.
type Recorder interface {
	Event(on corev1.ObjectReference, kind, reason, format string, args ...any)
}

// Deaths tells of nodes that somebody looked for and found dead.
// *detector.Detector does.
type Deaths interface {
	// Dead says whether a node was found dead, and at which moment.
	Dead(node string) (at time.Time, dead bool)
	// Follow calls f with each node of which Dead has news, until stop is called.
	Follow(f func(node string)) (stop func())
}

// Config is what a controller works with; every field but Deaths, Grace, Evict
// and Loop is needed.
type Config struct {
	Client Client
	Nodes  *cache.Cache[*corev1.Node]
	// Leases need keep no others than those of nodes.
	Leases *cache.Cache[*coordinationv1.Lease]
	Pods   *pods.Book
	Events Recorder
	Deaths Deaths // nil: only silence counts
	// Grace is how long a node may be silent; default 40 s.
	Grace time.Duration
	// Evict is how fast nodes are emptied; zero fields are the defaults.
	Evict Rates
	Loop  loop.Config
}

// Project leaves out leases that are not of nodes.
func Project(o api.Object) (*coordinationv1.Lease, bool) {
	l, ok := o.(*coordinationv1.Lease)
	return l, ok && l.Namespace == corev1.NamespaceNodeLease
}

// Controller reconciles nodes, keyed by name.
type Controller struct {
	Config
	*loop.Loop[string]
	zones *zones

	mu     sync.Mutex // guards what follows
	pulses map[string]*pulse
}

// pulse is what is known of a node's life.
type pulse struct {
	heard   time.Time // when it last showed life, or was first seen
	sign    time.Time // when it last showed life; zero: not yet, as far as is known here
	lost    bool      // its time was over when it was looked at
	blamed  bool      // it was written off because it was found dead
	refuted bool      // it was, and wrote its status all the same
}

// New subscribes to the caches, which must not run yet.
func New(cfg Config) *Controller {
	cfg.Grace = cmp.Or(cfg.Grace, 40*time.Second)
	c := &Controller{Config: cfg, pulses: map[string]*pulse{}, zones: newZones(cfg.Evict)}
	c.Loop = loop.New(cfg.Loop, c.reconcile)
	cfg.Nodes.OnChange(c.nodeChanged)
	cfg.Leases.OnChange(func(ch cache.Change[*coordinationv1.Lease]) {
		// No reconcile: the timer of the node looks at its pulse when it fires.
		if ch.HasNew && ch.HadOld && !ch.Old.Spec.RenewTime.Equal(ch.New.Spec.RenewTime) {
			c.sign(ch.Key.Name, false)
		}
	})
	return c
}

// Run works until ctx ends.
func (c *Controller) Run(ctx context.Context) error {
	if c.Deaths != nil {
		stop := c.Deaths.Follow(c.Add)
		defer stop()
	}
	return c.Loop.Run(ctx)
}

// of is the pulse of a node. The caller holds c.mu.
func (c *Controller) of(node string) *pulse {
	p := c.pulses[node]
	if p == nil {
		p = &pulse{}
		c.pulses[node] = p
	}
	return p
}

// hear takes that a node is there.
func (c *Controller) hear(node string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.of(node).heard = time.Now()
}

// sign takes that a node showed life; back says that it had been written off.
func (c *Controller) sign(node string, back bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := c.of(node)
	p.heard = time.Now()
	p.sign = p.heard
	if back && p.blamed {
		p.blamed, p.refuted = false, true
	}
}

func (c *Controller) nodeChanged(ch cache.Change[*corev1.Node]) {
	if !ch.HasNew {
		c.mu.Lock()
		delete(c.pulses, ch.Key.Name)
		c.mu.Unlock()
		c.addAll(c.zones.drop(ch.Key.Name))
		return
	}
	// Only the node itself writes that it is anything but Unknown.
	back := ch.HadOld && readiness(ch.Old) == corev1.ConditionUnknown && readiness(ch.New) != corev1.ConditionUnknown
	switch {
	case !ch.HadOld:
		c.hear(ch.Key.Name)
	case back || heartbeat(ch.New).After(heartbeat(ch.Old)):
		c.sign(ch.Key.Name, back)
	}
	c.addAll(c.zones.set(ch.New))
	c.Add(ch.Key.Name)
}

func (c *Controller) addAll(nodes []string) {
	for _, n := range nodes {
		c.Add(n)
	}
}

// heartbeat is when the node last wrote its condition Ready, by its own clock.
// What this controller writes does not move it.
func heartbeat(n *corev1.Node) time.Time {
	if r := condition(n, corev1.NodeReady); r != nil {
		return r.LastHeartbeatTime.Time
	}
	return time.Time{}
}

func (c *Controller) reconcile(ctx context.Context, name string) (loop.Result, error) {
	n, ok := c.Nodes.Get(types.NamespacedName{Name: name})
	if !ok {
		return loop.Result{}, nil
	}
	left, dead := c.left(name), c.dead(name)
	if (left <= 0 || dead) && (readiness(n) != corev1.ConditionUnknown || condition(n, corev1.NodeReady) == nil) {
		var err error
		if n, err = c.silenced(ctx, n, dead); err != nil || n == nil {
			return loop.Result{}, err
		}
	}
	// A node that says itself that it is not ready still reports on its pods.
	if readiness(n) == corev1.ConditionUnknown {
		if err := c.markPods(ctx, n); err != nil {
			return loop.Result{}, err
		}
	}
	wait, err := c.taint(ctx, n)
	if err != nil {
		return loop.Result{}, err
	}
	if left = max(left, 0); wait > 0 && (left == 0 || wait < left) {
		left = wait
	}
	return loop.Result{After: left}, nil
}

// left is how long the node may stay silent yet. This function runs when that is
// over; if it runs much later, it is this process that slept, and the node could
// not be heard: it gets another chance.
func (c *Controller) left(node string) time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := c.of(node)
	left := c.Grace - time.Since(p.heard)
	if left < -c.Grace/2 && !p.lost {
		p.heard = time.Now()
		return c.Grace
	}
	p.lost = left <= 0
	return left
}

// dead says whether the node was found dead and has shown no life since.
func (c *Controller) dead(node string) bool {
	if c.Deaths == nil {
		return false
	}
	at, dead := c.Deaths.Dead(node)
	c.mu.Lock()
	defer c.mu.Unlock()
	p := c.of(node)
	if !dead {
		p.blamed, p.refuted = false, false
		return false
	}
	return !p.refuted && at.After(p.sign)
}

// blame notes that the node is written off because it was found dead.
func (c *Controller) blame(node string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.of(node).blamed = true
}

// silenced writes that the node has fallen silent.
func (c *Controller) silenced(ctx context.Context, n *corev1.Node, dead bool) (*corev1.Node, error) {
	if dead {
		c.blame(n.Name) // first: its answer may come before that of the write
	}
	o, err := c.Client.Modify(ctx, api.Nodes, "", n.Name, "status", func(o api.Object) error {
		fresh := o.(*corev1.Node)
		if heartbeat(fresh).Equal(heartbeat(n)) {
			fresh.Status.Conditions = silence(fresh, time.Now())
		}
		return nil
	})
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("node %s: status: %w", n.Name, err)
	}
	c.Nodes.Put(o)
	on := corev1.ObjectReference{Kind: "Node", APIVersion: "v1", Name: n.Name, UID: n.UID}
	c.Events.Event(on, corev1.EventTypeNormal, "NodeNotReady", "Node %s status is now: NodeNotReady", n.Name)
	return o.(*corev1.Node), nil
}

// taint brings the node's taints in line with its conditions. wait says when it is
// to be asked again whether pods may be evicted; zero: when something changes.
func (c *Controller) taint(ctx context.Context, n *corev1.Node) (wait time.Duration, err error) {
	evict := evictHold
	if lost(n) && !evicts(n) {
		evict, wait = c.zones.evict(n.Name, time.Now())
	} else if c.zones.stopped() {
		evict = evictStop
	}
	if _, changed := taints(n, time.Now(), evict); !changed {
		return wait, nil
	}
	o, err := c.Client.Modify(ctx, api.Nodes, "", n.Name, "", func(o api.Object) error {
		fresh := o.(*corev1.Node)
		fresh.Spec.Taints, _ = taints(fresh, time.Now(), evict)
		return nil
	})
	if apierrors.IsNotFound(err) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("node %s: taints: %w", n.Name, err)
	}
	c.Nodes.Put(o)
	return wait, nil
}

// markPods takes the pods of a node that is not ready out of service.
func (c *Controller) markPods(ctx context.Context, n *corev1.Node) error {
	var changed []api.Object
	view := c.Client.View()
	for _, p := range c.Pods.OnNode(n.Name) {
		if !p.Ready {
			continue
		}
		o, ok := view.Get(api.Pods, p.Key.Namespace, p.Key.Name)
		if !ok || o.GetUID() != p.UID {
			continue
		}
		if conditions, differ := unready(o.(*corev1.Pod).Status.Conditions, time.Now()); differ {
			next := o.(*corev1.Pod).DeepCopy()
			next.Status.Conditions = conditions
			changed = append(changed, next)
		}
	}
	if len(changed) == 0 {
		return nil
	}
	done, errs := c.Client.UpdateStatusAll(ctx, changed)
	var first error
	for i, err := range errs {
		switch {
		case err == nil:
			c.Pods.Put(done[i])
			on := record.Reference(done[i], corev1.SchemeGroupVersion.WithKind("Pod"))
			c.Events.Event(on, corev1.EventTypeWarning, "NodeNotReady", "Node is not ready")
		case apierrors.IsNotFound(err):
		case first == nil:
			first = fmt.Errorf("node %s: pod %s: status: %w", n.Name, api.Key(changed[i]), err)
		}
	}
	return first
}
