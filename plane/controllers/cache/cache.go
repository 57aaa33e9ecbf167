// Package cache follows one resource of the cluster and keeps what its users
// need of each object: the object itself, or a smaller projection. It is fed by
// a snapshot and the watch that follows it, answers reads from memory, and tells
// subscribers what changed. It knows revisions; it never writes to the cluster.
//
// A user that wrote an object puts the answer in (Put, Doom), so that its next
// read sees its own write before the watch delivers it. Without that, a
// controller that has just created ten pods would create them again.
//
//	c := cache.New(cache.Config[*appsv1.Deployment]{Source: api, Resource: api.Deployments, Project: cache.As[*appsv1.Deployment]})
//	c.OnChange(func(ch cache.Change[*appsv1.Deployment]) { loop.Add(ch.Key) })
//	go c.Run(ctx)
//	<-c.Synced()
package cache

import (
	"cmp"
	"context"
	"fmt"
	"iter"
	"log/slog"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"

	"copepod/plane/controllers/api"
)

// Config says what a cache follows. Source, Resource and Project are needed.
type Config[T any] struct {
	Source   api.Source
	Resource schema.GroupResource
	// Project makes the kept value; false keeps nothing of the object.
	Project func(api.Object) (T, bool)
	// Doomed returns a copy of a value that is marked as being deleted. Only
	// caches on which Doom is called need it.
	Doomed func(T) T
	Log    *slog.Logger
}

// As is the Project of a cache that keeps whole objects of one type.
func As[T any](o api.Object) (T, bool) {
	t, ok := o.(T)
	return t, ok
}

// Change is one key's step. HadOld and HasNew tell an addition, an update and a
// removal apart.
type Change[T any] struct {
	Key            types.NamespacedName
	Old, New       T
	HadOld, HasNew bool
}

// Cache holds the projected objects of one resource.
type Cache[T any] struct {
	cfg    Config[T]
	synced chan struct{}
	once   sync.Once
	derive []func(Change[T]) // under mu, in order
	notify []func(Change[T]) // after mu is released

	mu     sync.RWMutex // guards what follows
	items  map[types.NamespacedName]item[T]
	doomed map[types.UID]struct{}
	rev    uint64 // the watch has delivered everything up to here
}

type item[T any] struct {
	value T
	uid   types.UID
	rev   uint64
}

// New builds a cache; it is empty until Run.
func New[T any](cfg Config[T]) *Cache[T] {
	cfg.Log = cmp.Or(cfg.Log, slog.Default())
	return &Cache[T]{
		cfg: cfg, synced: make(chan struct{}),
		items: map[types.NamespacedName]item[T]{}, doomed: map[types.UID]struct{}{},
	}
}

// OnChange subscribes f to every change; call it before Run. f is called from
// several goroutines, holds no lock, and must only take note.
func (c *Cache[T]) OnChange(f func(Change[T])) { c.notify = append(c.notify, f) }

// Derive keeps a structure in step with the cache; call it before Run. f is
// called in order, one at a time, before readers can see the change.
func (c *Cache[T]) Derive(f func(Change[T])) { c.derive = append(c.derive, f) }

// Synced closes when the first snapshot is in.
func (c *Cache[T]) Synced() <-chan struct{} { return c.synced }

// Run follows the resource until ctx ends.
func (c *Cache[T]) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		if err := c.follow(ctx); err != nil && ctx.Err() == nil {
			c.cfg.Log.Warn("watch starts again", "resource", c.cfg.Resource.String(), "err", err)
			select {
			case <-ctx.Done():
			case <-time.After(100 * time.Millisecond):
			}
		}
	}
	return nil
}

// follow takes a snapshot and applies the watch after it until that closes.
func (c *Cache[T]) follow(ctx context.Context) error {
	view := c.cfg.Source.View()
	events, err := c.cfg.Source.Watch(ctx, c.cfg.Resource, view.Revision())
	if err != nil {
		return fmt.Errorf("watch %s from revision %d: %w", c.cfg.Resource, view.Revision(), err)
	}
	c.replace(view)
	c.once.Do(func() { close(c.synced) })
	for batch := range events {
		c.apply(batch)
	}
	return nil
}

// replace makes the cache equal to a snapshot.
func (c *Cache[T]) replace(view api.View) {
	var changes []Change[T]
	c.mu.Lock()
	seen := make(map[types.NamespacedName]struct{}, len(c.items))
	doomed := map[types.UID]struct{}{}
	for o := range view.List(c.cfg.Resource, "") {
		seen[api.Key(o)] = struct{}{}
		if _, ok := c.doomed[o.GetUID()]; ok {
			doomed[o.GetUID()] = struct{}{}
		}
		changes = c.set(changes, o, api.Revision(o))
	}
	for key, it := range c.items {
		// A write of our own that is newer than the snapshot stays.
		if _, ok := seen[key]; !ok && it.rev <= view.Revision() {
			changes = c.drop(changes, key)
		}
	}
	c.doomed = doomed
	c.rev = max(c.rev, view.Revision())
	c.mu.Unlock()
	c.tell(changes)
}

func (c *Cache[T]) apply(batch []api.Event) {
	changes := make([]Change[T], 0, len(batch))
	c.mu.Lock()
	for _, e := range batch {
		switch e.Type {
		case watch.Added, watch.Modified:
			changes = c.set(changes, e.Object, e.Rev)
		case watch.Deleted:
			delete(c.doomed, e.Object.GetUID())
			if it, ok := c.items[api.Key(e.Object)]; ok && it.rev <= e.Rev {
				changes = c.drop(changes, api.Key(e.Object))
			}
		}
		c.rev = max(c.rev, e.Rev)
	}
	c.mu.Unlock()
	c.tell(changes)
}

// Put enters the answer of a write. What the watch already delivered wins.
func (c *Cache[T]) Put(objs ...api.Object) {
	changes := make([]Change[T], 0, len(objs))
	c.mu.Lock()
	for _, o := range objs {
		if rev := api.Revision(o); rev > c.rev {
			changes = c.set(changes, o, rev)
		}
	}
	c.mu.Unlock()
	c.tell(changes)
}

// Doom notes that the deletion of an object was accepted: from now on it reads
// as being deleted, whatever older state the watch still delivers.
func (c *Cache[T]) Doom(key types.NamespacedName, uid types.UID) {
	c.mu.Lock()
	it, ok := c.items[key]
	if !ok || it.uid != uid || c.cfg.Doomed == nil {
		c.mu.Unlock()
		return
	}
	c.doomed[uid] = struct{}{}
	change := Change[T]{Key: key, Old: it.value, New: c.cfg.Doomed(it.value), HadOld: true, HasNew: true}
	c.items[key] = item[T]{change.New, uid, it.rev}
	c.derived(change)
	c.mu.Unlock()
	c.tell([]Change[T]{change})
}

func (c *Cache[T]) set(changes []Change[T], o api.Object, rev uint64) []Change[T] {
	key := api.Key(o)
	old, had := c.items[key]
	if had && old.rev >= rev {
		return changes
	}
	value, keep := c.cfg.Project(o)
	if !keep {
		return c.drop(changes, key)
	}
	if _, ok := c.doomed[o.GetUID()]; ok {
		value = c.cfg.Doomed(value)
	}
	c.items[key] = item[T]{value, o.GetUID(), rev}
	change := Change[T]{Key: key, Old: old.value, New: value, HadOld: had, HasNew: true}
	c.derived(change)
	return append(changes, change)
}

func (c *Cache[T]) drop(changes []Change[T], key types.NamespacedName) []Change[T] {
	old, had := c.items[key]
	if !had {
		return changes
	}
	delete(c.items, key)
	change := Change[T]{Key: key, Old: old.value, HadOld: true}
	c.derived(change)
	return append(changes, change)
}

func (c *Cache[T]) derived(ch Change[T]) {
	for _, f := range c.derive {
		f(ch)
	}
}

func (c *Cache[T]) tell(changes []Change[T]) {
	for _, ch := range changes {
		for _, f := range c.notify {
			f(ch)
		}
	}
}

// Get is the value of a key.
func (c *Cache[T]) Get(key types.NamespacedName) (T, bool) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	it, ok := c.items[key]
	return it.value, ok
}

// Len is the number of kept objects.
func (c *Cache[T]) Len() int {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return len(c.items)
}

// All yields every kept value in no order. The cache is locked for reading
// meanwhile: the loop's body must not write to it.
func (c *Cache[T]) All() iter.Seq2[types.NamespacedName, T] {
	return func(yield func(types.NamespacedName, T) bool) {
		c.mu.RLock()
		defer c.mu.RUnlock()
		for key, it := range c.items {
			if !yield(key, it.value) {
				return
			}
		}
	}
}
