// Package nodelifecycle notices nodes that fall silent and says so: conditions
// become Unknown, taints keep new pods away and let others evict the old, and the
// pods there stop counting as ready. It also turns a node's other conditions, and
// being cordoned, into taints. It knows leases and conditions; eviction is
// another controller's.
//
// A node lives as long as its lease or its status changes. Both are timed by the
// clock here, at the moment of the change, so that a node with a wrong clock is
// not taken for dead.
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

// Config is what a controller works with; every field but Grace and Loop is
// needed.
type Config struct {
	Client Client
	Nodes  *cache.Cache[*corev1.Node]
	// Leases need keep no others than those of nodes.
	Leases *cache.Cache[*coordinationv1.Lease]
	Pods   *pods.Book
	Events Recorder
	// Grace is how long a node may be silent; default 40 s.
	Grace time.Duration
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

	mu    sync.Mutex           // guards what follows
	heard map[string]time.Time // last sign of life of each node
	lost  map[string]bool      // nodes whose time was over when they were looked at
}

// New subscribes to the caches, which must not run yet.
func New(cfg Config) *Controller {
	cfg.Grace = cmp.Or(cfg.Grace, 40*time.Second)
	c := &Controller{Config: cfg, heard: map[string]time.Time{}, lost: map[string]bool{}}
	c.Loop = loop.New(cfg.Loop, c.reconcile)
	cfg.Nodes.OnChange(c.nodeChanged)
	cfg.Leases.OnChange(func(ch cache.Change[*coordinationv1.Lease]) {
		// No reconcile: the timer of the node looks at heard when it fires.
		if ch.HasNew && (!ch.HadOld || !ch.Old.Spec.RenewTime.Equal(ch.New.Spec.RenewTime)) {
			c.hear(ch.Key.Name)
		}
	})
	return c
}

func (c *Controller) hear(node string) {
	c.mu.Lock()
	c.heard[node] = time.Now()
	c.mu.Unlock()
}

func (c *Controller) nodeChanged(ch cache.Change[*corev1.Node]) {
	if !ch.HasNew {
		c.mu.Lock()
		delete(c.heard, ch.Key.Name)
		delete(c.lost, ch.Key.Name)
		c.mu.Unlock()
		return
	}
	if !ch.HadOld || heartbeat(ch.New).After(heartbeat(ch.Old)) {
		c.hear(ch.Key.Name)
	}
	c.Add(ch.Key.Name)
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
	left := c.left(name)
	if left <= 0 && (readiness(n) != corev1.ConditionUnknown || condition(n, corev1.NodeReady) == nil) {
		var err error
		if n, err = c.silenced(ctx, n); err != nil || n == nil {
			return loop.Result{}, err
		}
	}
	// A node that says itself that it is not ready still reports on its pods.
	if readiness(n) == corev1.ConditionUnknown {
		if err := c.markPods(ctx, n); err != nil {
			return loop.Result{}, err
		}
	}
	if err := c.taint(ctx, n); err != nil {
		return loop.Result{}, err
	}
	return loop.Result{After: max(left, 0)}, nil
}

// left is how long the node may stay silent yet. This function runs when that is
// over; if it runs much later, it is this process that slept, and the node could
// not be heard: it gets another chance.
func (c *Controller) left(node string) time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	left := c.Grace - time.Since(c.heard[node])
	if left < -c.Grace/2 && !c.lost[node] {
		c.heard[node] = time.Now()
		return c.Grace
	}
	c.lost[node] = left <= 0
	return left
}

// silenced writes that the node has fallen silent.
func (c *Controller) silenced(ctx context.Context, n *corev1.Node) (*corev1.Node, error) {
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

// taint brings the node's taints in line with its conditions.
func (c *Controller) taint(ctx context.Context, n *corev1.Node) error {
	if _, changed := taints(n, time.Now()); !changed {
		return nil
	}
	o, err := c.Client.Modify(ctx, api.Nodes, "", n.Name, "", func(o api.Object) error {
		fresh := o.(*corev1.Node)
		fresh.Spec.Taints, _ = taints(fresh, time.Now())
		return nil
	})
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("node %s: taints: %w", n.Name, err)
	}
	c.Nodes.Put(o)
	return nil
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
