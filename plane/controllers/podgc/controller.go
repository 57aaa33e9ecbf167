// Package podgc removes pods that nobody else will: those on nodes that do not
// exist any longer, and the oldest finished ones when there are too many. It
// knows pods and the names of nodes.
//
//	c := podgc.New(podgc.Config{Client: client, Nodes: nodes, Pods: book})
//	err := c.Run(ctx)
package podgc

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"copepod/plane/controllers/api"
	"copepod/plane/controllers/cache"
	"copepod/plane/controllers/loop"
	"copepod/plane/controllers/pods"
)

// Client is what the controller asks of the cluster.
type Client interface {
	DeleteAll(ctx context.Context, gr schema.GroupResource, names []types.NamespacedName, opts metav1.DeleteOptions) []error
}

// Config is what a controller works with; Client, Nodes and Pods are needed.
type Config struct {
	Client Client
	Nodes  *cache.Cache[*corev1.Node]
	Pods   *pods.Book
	// Quarantine is how long a node must be missing before its pods go; default
	// 40 s, so that a node may be registered anew meanwhile.
	Quarantine time.Duration
	// Finished is how many finished pods may be kept; default 12,500.
	Finished int
	Loop     loop.Config
}

// Controller reconciles nodes, keyed by name, and the finished pods as a whole,
// keyed by the name that no node has: "".
type Controller struct {
	Config
	*loop.Loop[string]

	mu       sync.Mutex // guards what follows
	missing  map[string]time.Time
	finished map[*pods.Pod]struct{}
}

// New subscribes to the caches, which must not run yet.
func New(cfg Config) *Controller {
	cfg.Quarantine = cmp.Or(cfg.Quarantine, 40*time.Second)
	cfg.Finished = cmp.Or(cfg.Finished, 12500)
	c := &Controller{Config: cfg, missing: map[string]time.Time{}, finished: map[*pods.Pod]struct{}{}}
	c.Loop = loop.New(cfg.Loop, c.reconcile)
	cfg.Nodes.OnChange(func(ch cache.Change[*corev1.Node]) {
		if !ch.HasNew || !ch.HadOld {
			c.Add(ch.Key.Name)
		}
	})
	cfg.Pods.Derive(c.note)
	cfg.Pods.OnChange(func(ch cache.Change[*pods.Pod]) {
		if ch.HasNew && ch.New.Node != "" && (!ch.HadOld || ch.Old.Node != ch.New.Node) {
			if _, ok := c.Nodes.Get(types.NamespacedName{Name: ch.New.Node}); !ok {
				c.Add(ch.New.Node)
			}
		}
	})
	return c
}

// note keeps the set of finished pods in step.
func (c *Controller) note(ch cache.Change[*pods.Pod]) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if ch.HadOld {
		delete(c.finished, ch.Old)
	}
	if ch.HasNew && ch.New.Terminal() && !ch.New.Deleting {
		if c.finished[ch.New] = struct{}{}; len(c.finished) > c.Config.Finished {
			c.Add("")
		}
	}
}

func (c *Controller) reconcile(ctx context.Context, node string) (loop.Result, error) {
	if node == "" {
		return loop.Result{}, c.remove(ctx, c.surplus())
	}
	left := c.quarantine(node)
	if left != 0 {
		return loop.Result{After: max(left, 0)}, nil
	}
	if err := c.remove(ctx, c.Pods.OnNode(node)); err != nil {
		return loop.Result{}, fmt.Errorf("node %s: %w", node, err)
	}
	return loop.Result{}, nil
}

// quarantine is how long a missing node has left; 0 when its pods may go, below
// zero when it is not missing.
func (c *Controller) quarantine(node string) time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.Nodes.Get(types.NamespacedName{Name: node}); ok {
		delete(c.missing, node)
		return -1
	}
	since, ok := c.missing[node]
	if !ok {
		since = time.Now()
		c.missing[node] = since
	}
	left := max(0, c.Quarantine-time.Since(since))
	if left == 0 {
		delete(c.missing, node)
	}
	return left
}

// surplus is the finished pods above the limit, oldest first.
func (c *Controller) surplus() []*pods.Pod {
	c.mu.Lock()
	defer c.mu.Unlock()
	list := make([]*pods.Pod, 0, len(c.finished))
	for p := range c.finished {
		list = append(list, p)
	}
	slices.SortFunc(list, func(a, b *pods.Pod) int { return a.Created.Compare(b.Created) })
	return list[:max(0, len(list)-c.Config.Finished)]
}

// remove deletes pods at once: no node will ever confirm that they stopped.
func (c *Controller) remove(ctx context.Context, list []*pods.Pod) error {
	zero := int64(0)
	for part := range slices.Chunk(list, 500) {
		names := make([]types.NamespacedName, len(part))
		for i, p := range part {
			names[i] = p.Key
		}
		for i, err := range c.Client.DeleteAll(ctx, api.Pods, names, metav1.DeleteOptions{GracePeriodSeconds: &zero}) {
			if err != nil && !apierrors.IsNotFound(err) {
				return fmt.Errorf("pod %s: %w", names[i], err)
			}
		}
	}
	return nil
}
