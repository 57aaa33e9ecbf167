// Package garbage deletes objects whose owners are gone and carries out the
// three ways of deleting an owner: in the background (dependents after it), in
// the foreground (dependents first) and orphaning (dependents stay). It knows
// owner references and finalizers, never kinds.
//
// Work is keyed by owner, not by dependent: ten thousand pods of one ReplicaSet
// ask one question.
//
//	c := garbage.New(garbage.Config{Client: client})
//	err := c.Run(ctx)
package garbage

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"copepod/plane/controllers/api"
	"copepod/plane/controllers/cache"
	"copepod/plane/controllers/loop"
)

// Client is what the controller asks of the cluster.
type Client interface {
	api.Source
	Delete(ctx context.Context, gr schema.GroupResource, namespace, name string, opts metav1.DeleteOptions) error
	DeleteAll(ctx context.Context, gr schema.GroupResource, names []types.NamespacedName, opts metav1.DeleteOptions) []error
	Modify(ctx context.Context, gr schema.GroupResource, namespace, name, subresource string, change func(api.Object) error) (api.Object, error)
}

// Config is what a controller works with; only Client is needed.
type Config struct {
	Client Client
	// Resources are those whose objects may own or be owned; default
	// api.Resources. References to kinds outside of it are left alone.
	Resources []api.Resource
	Log       *slog.Logger
	Loop      loop.Config
}

// Controller reconciles owners.
type Controller struct {
	Config
	*loop.Loop[ident]
	graph  *graph
	kinds  map[schema.GroupKind]api.Resource
	caches []*cache.Cache[*meta]
}

// New builds the controller with caches of its own.
func New(cfg Config) *Controller {
	if cfg.Resources == nil {
		cfg.Resources = api.Resources()
	}
	c := &Controller{Config: cfg, graph: newGraph(), kinds: map[schema.GroupKind]api.Resource{}}
	c.Loop = loop.New(cfg.Loop, c.reconcile)
	for _, r := range cfg.Resources {
		if r.GroupResource == api.Events {
			continue // they own nothing, nobody owns them, and there are many
		}
		c.kinds[schema.GroupKind{Group: r.Group, Kind: r.Kind}] = r
		m := cache.New(cache.Config[*meta]{Source: cfg.Client, Resource: r.GroupResource, Project: project(r.GroupResource), Log: cfg.Log})
		m.Derive(func(ch cache.Change[*meta]) {
			if ch.HadOld {
				c.graph.remove(ch.Old)
			}
			if ch.HasNew {
				c.graph.insert(ch.New)
			}
		})
		m.OnChange(c.changed)
		c.caches = append(c.caches, m)
	}
	return c
}

// Run follows every resource and reconciles until ctx ends. It starts at once:
// what it has not seen yet it does not touch, and owners are looked up in a
// snapshot.
func (c *Controller) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	for _, m := range c.caches {
		wg.Go(func() { m.Run(ctx) })
	}
	return c.Loop.Run(ctx)
}

// changed wakes the owners of an object, and the object itself as an owner.
func (c *Controller) changed(ch cache.Change[*meta]) {
	switch {
	case !ch.HasNew:
		c.wakeOwners(ch.Old)
		if c.graph.has(ch.Old.uid) {
			c.Add(ch.Old.ident)
		}
		return
	case !ch.HadOld, ch.Old.uid != ch.New.uid, !slices.EqualFunc(ch.Old.owners, ch.New.owners, sameOwner):
		c.wakeOwners(ch.New)
	}
	if ch.HadOld && ch.Old.uid != ch.New.uid && c.graph.has(ch.Old.uid) {
		c.Add(ch.Old.ident)
	}
	if ch.New.deleting && (ch.New.orphans || ch.New.foreground) {
		c.Add(ch.New.ident)
	}
}

func sameOwner(a, b metav1.OwnerReference) bool { return a.UID == b.UID }

func (c *Controller) wakeOwners(m *meta) {
	for _, ref := range m.owners {
		if owner, ok := c.owner(m, ref); ok {
			c.Add(owner)
		}
	}
}

// owner resolves a reference; false when its kind is unknown, or when a cluster's
// object names an owner in a namespace, which Kubernetes does not allow.
func (c *Controller) owner(m *meta, ref metav1.OwnerReference) (ident, bool) {
	gv, err := schema.ParseGroupVersion(ref.APIVersion)
	if err != nil {
		return ident{}, false
	}
	r, ok := c.kinds[schema.GroupKind{Group: gv.Group, Kind: ref.Kind}]
	if !ok || r.Namespaced && m.key.Namespace == "" {
		return ident{}, false
	}
	id := ident{resource: r.GroupResource, key: types.NamespacedName{Name: ref.Name}, uid: ref.UID}
	if r.Namespaced {
		id.key.Namespace = m.key.Namespace
	}
	return id, true
}

// find is the present state of an object, nil when it is gone or replaced.
func find(v api.View, id ident) api.Object {
	o, ok := v.Get(id.resource, id.key.Namespace, id.key.Name)
	if !ok || o.GetUID() != id.uid {
		return nil
	}
	return o
}

func (c *Controller) reconcile(ctx context.Context, owner ident) (loop.Result, error) {
	o := find(c.Client.View(), owner)
	var err error
	switch {
	case o == nil:
		err = c.collect(ctx, owner)
	case o.GetDeletionTimestamp() == nil:
	case slices.Contains(o.GetFinalizers(), metav1.FinalizerOrphanDependents):
		err = c.orphan(ctx, owner)
	case slices.Contains(o.GetFinalizers(), metav1.FinalizerDeleteDependents):
		if err = c.collect(ctx, owner); err == nil && !c.graph.blocked(owner.uid) {
			err = c.finishForeground(ctx, owner)
		}
	}
	if err != nil {
		return loop.Result{}, fmt.Errorf("dependents of %s %s: %w", owner.resource, owner.key, err)
	}
	return loop.Result{}, nil
}

// writes bounds the requests of one reconcile that run at a time, batch the
// objects of one request.
const (
	writes = 16
	batch  = 500
)

// collect deletes or detaches the living dependents of an owner that is absent
// or waits for them.
func (c *Controller) collect(ctx context.Context, owner ident) error {
	view := c.Client.View()
	stands := c.standings(view)
	var crowd []types.NamespacedName
	var g errgroup.Group
	g.SetLimit(writes)
	for _, known := range c.graph.living(owner.uid) {
		o := find(view, known.ident)
		if o == nil {
			continue
		}
		// The graph may still show an owner that has been taken out since.
		m, _ := project(known.resource)(o)
		f := judge(m, func(ref metav1.OwnerReference) standing { return stands(m, ref) }, c.graph.has(m.uid))
		switch {
		case len(f.detach) > 0:
			g.Go(func() error { return c.detach(ctx, m.ident, f.detach) })
		case m.deleting:
		case f.remove && m.resource == api.Pods && f.policy == metav1.DeletePropagationBackground:
			crowd = append(crowd, m.key)
		case f.remove:
			g.Go(func() error { return c.remove(ctx, m.ident, f.policy) })
		}
	}
	for part := range slices.Chunk(crowd, batch) {
		g.Go(func() error { return c.removePods(ctx, part) })
	}
	return g.Wait()
}

// standings looks owners up, each once for all dependents that name it.
func (c *Controller) standings(view api.View) func(*meta, metav1.OwnerReference) standing {
	known := map[ident]standing{}
	return func(m *meta, ref metav1.OwnerReference) standing {
		id, ok := c.owner(m, ref)
		if !ok {
			return solid // what we cannot judge, we keep
		}
		s, ok := known[id]
		if !ok {
			s = absent
			if o := find(view, id); o != nil {
				s = solid
				if o.GetDeletionTimestamp() != nil && slices.Contains(o.GetFinalizers(), metav1.FinalizerDeleteDependents) {
					s = waiting
				}
			}
			known[id] = s
		}
		return s
	}
}

func (c *Controller) remove(ctx context.Context, id ident, policy metav1.DeletionPropagation) error {
	err := c.Client.Delete(ctx, id.resource, id.key.Namespace, id.key.Name, metav1.DeleteOptions{
		Preconditions: metav1.NewUIDPreconditions(string(id.uid)), PropagationPolicy: &policy,
	})
	if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
		return fmt.Errorf("%s %s: %w", id.resource, id.key, err)
	}
	return nil
}

// removePods deletes pods in one request. Their UIDs were checked a moment ago;
// a pod's generated name does not come again.
func (c *Controller) removePods(ctx context.Context, names []types.NamespacedName) error {
	background := metav1.DeletePropagationBackground
	for i, err := range c.Client.DeleteAll(ctx, api.Pods, names, metav1.DeleteOptions{PropagationPolicy: &background}) {
		if err != nil && !apierrors.IsNotFound(err) {
			return fmt.Errorf("pod %s: %w", names[i], err)
		}
	}
	return nil
}

// errReplaced stops a change of an object whose name another one has taken.
var errReplaced = errors.New("another object has its name now")

func (c *Controller) modify(ctx context.Context, id ident, change func(api.Object)) error {
	_, err := c.Client.Modify(ctx, id.resource, id.key.Namespace, id.key.Name, "", func(o api.Object) error {
		if o.GetUID() != id.uid {
			return errReplaced
		}
		change(o)
		return nil
	})
	if err == nil || apierrors.IsNotFound(err) || errors.Is(err, errReplaced) {
		return nil
	}
	return fmt.Errorf("%s %s: %w", id.resource, id.key, err)
}

func (c *Controller) detach(ctx context.Context, id ident, owners []types.UID) error {
	return c.modify(ctx, id, func(o api.Object) {
		rest := slices.DeleteFunc(slices.Clone(o.GetOwnerReferences()), func(ref metav1.OwnerReference) bool { return slices.Contains(owners, ref.UID) })
		o.SetOwnerReferences(rest)
	})
}

// dependents reads them from a snapshot. The graph trails the cluster a little;
// that does no harm where more looks follow, but a finalizer is dropped once.
func (c *Controller) dependents(owner ident) []*meta {
	var list []*meta
	view := c.Client.View()
	for _, r := range c.kinds {
		if owner.key.Namespace != "" && !r.Namespaced {
			continue
		}
		of := project(r.GroupResource)
		for o := range view.List(r.GroupResource, owner.key.Namespace) {
			if slices.ContainsFunc(o.GetOwnerReferences(), func(ref metav1.OwnerReference) bool { return ref.UID == owner.uid }) {
				m, _ := of(o)
				list = append(list, m)
			}
		}
	}
	return list
}

// finishForeground lets an owner go when no dependent blocks it any longer.
func (c *Controller) finishForeground(ctx context.Context, owner ident) error {
	for _, m := range c.dependents(owner) {
		if m.blocks(owner.uid) {
			return nil // the graph will hear of it and wake us again
		}
	}
	return c.dropFinalizer(ctx, owner, metav1.FinalizerDeleteDependents)
}

// orphan takes an owner out of all its dependents and then lets it go.
func (c *Controller) orphan(ctx context.Context, owner ident) error {
	var g errgroup.Group
	g.SetLimit(writes)
	for _, m := range c.dependents(owner) {
		g.Go(func() error { return c.detach(ctx, m.ident, []types.UID{owner.uid}) })
	}
	if err := g.Wait(); err != nil {
		return err
	}
	return c.dropFinalizer(ctx, owner, metav1.FinalizerOrphanDependents)
}

func (c *Controller) dropFinalizer(ctx context.Context, id ident, finalizer string) error {
	return c.modify(ctx, id, func(o api.Object) {
		o.SetFinalizers(slices.DeleteFunc(slices.Clone(o.GetFinalizers()), func(f string) bool { return f == finalizer }))
	})
}
