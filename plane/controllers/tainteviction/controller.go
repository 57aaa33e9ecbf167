// Package tainteviction deletes pods from nodes with NoExecute taints, each when
// its tolerations run out. It knows taints and tolerations, not why a node has
// them.
//
//	c := tainteviction.New(tainteviction.Config{Client: client, Nodes: nodes, Pods: book, Events: recorder})
//	err := c.Run(ctx)
package tainteviction

import (
	"context"
	"fmt"
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
	"copepod/plane/controllers/record"
)

// Client is what the controller asks of the cluster.
type Client interface {
	View() api.View
	UpdateStatusAll(ctx context.Context, objs []api.Object) ([]api.Object, []error)
	DeleteAll(ctx context.Context, gr schema.GroupResource, names []types.NamespacedName, opts metav1.DeleteOptions) []error
}

// Recorder takes events.
type Recorder interface {
	Event(on corev1.ObjectReference, kind, reason, format string, args ...any)
}

// Config is what a controller works with; every field but Loop is needed.
type Config struct {
	Client Client
	Nodes  *cache.Cache[*corev1.Node]
	Pods   *pods.Book
	Events Recorder
	Loop   loop.Config
}

// Controller reconciles nodes, keyed by name.
type Controller struct {
	Config
	*loop.Loop[string]

	mu    sync.Mutex           // guards what follows
	since map[string]time.Time // when a node was first seen with such a taint
}

// New subscribes to the caches, which must not run yet.
func New(cfg Config) *Controller {
	c := &Controller{Config: cfg, since: map[string]time.Time{}}
	c.Loop = loop.New(cfg.Loop, c.reconcile)
	cfg.Nodes.OnChange(func(ch cache.Change[*corev1.Node]) {
		if !ch.HasNew || len(evicting(ch.New)) == 0 {
			c.mu.Lock()
			delete(c.since, ch.Key.Name)
			c.mu.Unlock()
			return
		}
		c.Add(ch.Key.Name)
	})
	cfg.Pods.OnChange(func(ch cache.Change[*pods.Pod]) {
		if !ch.HasNew || ch.New.Node == "" || ch.HadOld && ch.Old.Node == ch.New.Node {
			return
		}
		if n, ok := c.Nodes.Get(types.NamespacedName{Name: ch.New.Node}); ok && len(evicting(n)) > 0 {
			c.Add(ch.New.Node)
		}
	})
	return c
}

func (c *Controller) firstSeen(node string) time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.since[node]; !ok {
		c.since[node] = time.Now()
	}
	return c.since[node]
}

func (c *Controller) reconcile(ctx context.Context, name string) (loop.Result, error) {
	n, ok := c.Nodes.Get(types.NamespacedName{Name: name})
	if !ok {
		return loop.Result{}, nil
	}
	taints := evicting(n)
	if len(taints) == 0 {
		return loop.Result{}, nil
	}
	since, view := c.firstSeen(name), c.Client.View()
	var leave []*corev1.Pod
	var next time.Duration
	for _, p := range c.Pods.OnNode(name) {
		if !p.Active() {
			continue
		}
		o, ok := view.Get(api.Pods, p.Key.Namespace, p.Key.Name)
		if !ok || o.GetUID() != p.UID {
			continue
		}
		pod := o.(*corev1.Pod)
		at, leaves := deadline(pod.Spec.Tolerations, taints, since)
		switch left := time.Until(at); {
		case !leaves:
		case left <= 0:
			leave = append(leave, pod)
		case next == 0 || left < next:
			next = left
		}
	}
	if err := c.evict(ctx, leave); err != nil {
		return loop.Result{}, fmt.Errorf("node %s: %w", name, err)
	}
	return loop.Result{After: next}, nil
}

func (c *Controller) evict(ctx context.Context, list []*corev1.Pod) error {
	if len(list) == 0 {
		return nil
	}
	marked := make([]api.Object, len(list))
	names := make([]types.NamespacedName, len(list))
	for i, p := range list {
		marked[i], names[i] = disrupted(p), api.Key(p)
	}
	// The condition tells others why the pod went; not having it must not keep
	// the pod.
	c.Client.UpdateStatusAll(ctx, marked)
	var first error
	for i, err := range c.Client.DeleteAll(ctx, api.Pods, names, metav1.DeleteOptions{}) {
		switch {
		case err == nil:
			c.Pods.Doom(names[i], list[i].UID)
			c.Events.Event(record.Reference(list[i], corev1.SchemeGroupVersion.WithKind("Pod")), corev1.EventTypeNormal, "TaintManagerEviction", "Marking for deletion Pod %s", names[i])
		case apierrors.IsNotFound(err):
		case first == nil:
			first = fmt.Errorf("pod %s: %w", names[i], err)
		}
	}
	return first
}

// disrupted is the pod with the condition that says who deletes it.
func disrupted(p *corev1.Pod) *corev1.Pod {
	p = p.DeepCopy()
	next := corev1.PodCondition{
		Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, LastTransitionTime: metav1.Now(),
		Reason: "DeletionByTaintManager", Message: "Taint manager: deleting due to NoExecute taint",
	}
	for i := range p.Status.Conditions {
		if p.Status.Conditions[i].Type == next.Type {
			p.Status.Conditions[i] = next
			return p
		}
	}
	p.Status.Conditions = append(p.Status.Conditions, next)
	return p
}
