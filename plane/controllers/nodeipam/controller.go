// Package nodeipam gives each node its range of pod addresses, spec.podCIDR, out
// of the cluster's. A range is one node's as long as that node exists, and never
// changes. It knows nodes and ranges; how pods get addresses is the nodes' matter.
//
// Events are those of Kubernetes' range allocator: CIDRNotAvailable when no range
// is left, CIDRAssignmentFailed when one could not be written.
//
//	c, err := nodeipam.New(nodeipam.Config{Client: client, Nodes: nodes, Events: recorder, Cluster: prefix, MaskSize: 18})
//	err = c.Run(ctx)
package nodeipam

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"copepod/plane/controllers/api"
	"copepod/plane/controllers/cache"
	"copepod/plane/controllers/loop"
)

// Client is what the controller asks of the cluster.
type Client interface {
	Modify(ctx context.Context, gr schema.GroupResource, namespace, name, subresource string, change func(api.Object) error) (api.Object, error)
}

// Recorder takes events.
type Recorder interface {
	Event(on corev1.ObjectReference, kind, reason, format string, args ...any)
}

// DefaultMaskSize is the length of a node's range: 16,384 addresses, for the
// 10,000 pods that a node may have.
const DefaultMaskSize = 18

// Config is what a controller works with; every field but MaskSize, Loop and Log
// is needed.
type Config struct {
	Client   Client
	Nodes    *cache.Cache[*corev1.Node]
	Events   Recorder
	Cluster  netip.Prefix // of all pods
	MaskSize int          // of a node's range; default DefaultMaskSize
	Loop     loop.Config
	Log      *slog.Logger
}

// Check says what is wrong with a cluster's range and the mask size, 0 being the
// default, of a node's.
func Check(cluster netip.Prefix, maskSize int) error {
	_, err := newBook(cluster, cmp.Or(maskSize, DefaultMaskSize))
	return err
}

// Controller reconciles nodes, keyed by name.
type Controller struct {
	Config
	*loop.Loop[string]

	mu      sync.Mutex // guards what follows
	book    *book
	waiting map[string]bool // nodes for which there was no range
}

// New subscribes to the cache, which must not run yet.
func New(cfg Config) (*Controller, error) {
	b, err := newBook(cfg.Cluster, cmp.Or(cfg.MaskSize, DefaultMaskSize))
	if err != nil {
		return nil, fmt.Errorf("nodeipam: %w", err)
	}
	cfg.Log = cmp.Or(cfg.Log, slog.Default())
	c := &Controller{Config: cfg, book: b, waiting: map[string]bool{}}
	c.Loop = loop.New(cfg.Loop, c.reconcile)
	cfg.Nodes.Derive(c.note)
	return c, nil
}

// note keeps the book in step with what nodes have. All of them have been noted
// before the first reconcile, which waits for the cache.
func (c *Controller) note(ch cache.Change[*corev1.Node]) {
	name := ch.Key.Name
	c.mu.Lock()
	defer c.mu.Unlock()
	if !ch.HasNew || ch.HadOld && ch.Old.UID != ch.New.UID && ch.New.Spec.PodCIDR == "" {
		delete(c.waiting, name)
		c.release(name)
	}
	switch {
	case !ch.HasNew:
	case ch.New.Spec.PodCIDR == "":
		c.Add(name)
	default:
		delete(c.waiting, name)
		p, err := netip.ParsePrefix(ch.New.Spec.PodCIDR)
		if err != nil { // validation let it pass: it is nobody's
			c.Log.Warn("podCIDR of a node not understood", "node", name, "err", err)
			return
		}
		if other := c.book.occupy(name, p); other != "" {
			c.Log.Warn("podCIDR of a node overlaps with another's", "node", name, "podCIDR", p.String(), "other", other)
		}
	}
}

// release gives a range back, and lets those try who wait for one. The caller
// holds c.mu.
func (c *Controller) release(node string) {
	if c.book.release(node) {
		for other := range c.waiting {
			c.Add(other)
		}
	}
}

func (c *Controller) reconcile(ctx context.Context, name string) (loop.Result, error) {
	n, ok := c.Nodes.Get(types.NamespacedName{Name: name})
	if !ok || n.Spec.PodCIDR != "" {
		return loop.Result{}, nil
	}
	on := corev1.ObjectReference{Kind: "Node", APIVersion: "v1", Name: n.Name, UID: n.UID}
	p, ok := c.reserve(name)
	if _, there := c.Nodes.Get(types.NamespacedName{Name: name}); !there { // note did not see the reservation
		c.mu.Lock()
		defer c.mu.Unlock()
		c.release(name)
		return loop.Result{}, nil
	}
	if !ok {
		c.Events.Event(on, corev1.EventTypeNormal, "CIDRNotAvailable", "Node %s status is now: %s", name, "CIDRNotAvailable")
		return loop.Result{}, nil // it waits until a range is given back
	}
	o, err := c.Client.Modify(ctx, api.Nodes, "", name, "", func(o api.Object) error {
		fresh := o.(*corev1.Node)
		if fresh.Spec.PodCIDR == "" {
			fresh.Spec.PodCIDR, fresh.Spec.PodCIDRs = p.String(), []string{p.String()}
		}
		return nil
	})
	if apierrors.IsNotFound(err) { // note will hear of it
		return loop.Result{}, nil
	}
	if err != nil { // the range stays reserved for the next try
		c.Events.Event(on, corev1.EventTypeNormal, "CIDRAssignmentFailed", "Node %s status is now: %s", name, "CIDRAssignmentFailed")
		return loop.Result{}, fmt.Errorf("node %s: podCIDR: %w", name, err)
	}
	c.Nodes.Put(o)
	return loop.Result{}, nil
}

func (c *Controller) reserve(name string) (netip.Prefix, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	p, ok := c.book.reserve(name)
	if !ok {
		c.waiting[name] = true
	}
	return p, ok
}
