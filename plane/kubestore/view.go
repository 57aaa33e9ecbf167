package kubestore

import (
	"context"
	"errors"
	"iter"

	"copepod/plane/store"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
)

// View is all objects at one resource version, for readers in this process.
// It takes no lock and never changes. Its objects are shared with everybody:
// copy one before changing it.
type View struct {
	k    *K
	snap *store.Snapshot
}

// View is the present as far as it is known here.
func (k *K) View() View { return View{k, k.backend.Snapshot()} }

// Revision is the resource version of the view.
func (v View) Revision() uint64 { return version(v.snap.Revision()) }

// Get returns an object with its resource version set. An object without a
// namespace has an empty one. ok is false if there is none, if the resource is
// not served, or if the object cannot be read, which is logged.
func (v View) Get(group schema.GroupResource, namespace, name string) (obj runtime.Object, ok bool) {
	r := v.k.resource(group)
	if r == nil {
		return nil, false
	}
	kv := v.snap.Get(r.objectKey(namespace, name))
	if kv == nil {
		return nil, false
	}
	return r.shared(kv)
}

// List walks over the objects of a resource in the order of their keys, those
// of all namespaces if the namespace is empty. It passes over objects that
// cannot be read, which is logged.
func (v View) List(group schema.GroupResource, namespace string) iter.Seq[runtime.Object] {
	return func(yield func(runtime.Object) bool) {
		r := v.k.resource(group)
		if r == nil {
			return
		}
		for kv := range v.snap.Range(r.objectKey(namespace, ""), "") {
			if obj, ok := r.shared(kv); ok && !yield(obj) {
				return
			}
		}
	}
}

// Count is the number of objects that List walks over.
func (v View) Count(group schema.GroupResource, namespace string) int {
	r := v.k.resource(group)
	if r == nil {
		return 0
	}
	return v.snap.Count(r.objectKey(namespace, ""))
}

// resource returns what serves a resource, nil if nothing does.
func (k *K) resource(group schema.GroupResource) *resource {
	return k.hub.serving(group)
}

// rootOf is the prefix of a resource's keys, as callers use it.
func rootOf(group schema.GroupResource) string {
	if group.Group == "" {
		return "/core/" + group.Resource
	}
	return "/" + group.Group + "/" + group.Resource
}

// objectKey is the key of an object, or with an empty name the prefix of all
// in a namespace.
func (r *resource) objectKey(namespace, name string) string {
	if namespace == "" {
		return r.prefix + name
	}
	return r.prefix + namespace + "/" + name
}

// shared is the shared object of a version.
func (r *resource) shared(kv *store.KV) (runtime.Object, bool) {
	d, err := r.decoded(context.Background(), kv)
	if err != nil {
		r.k.log.Error("stored object cannot be read", "key", kv.Key, "resourceVersion", version(kv.Rev), "reason", err)
		return nil, false
	}
	return d.obj, true
}

// Event is a change of one object, for readers in this process. Its objects
// are shared: copy one before changing it.
type Event struct {
	// Type is Added, Modified or Deleted.
	Type watch.EventType
	// Object is the object after the change. That of a deletion is the
	// object as it last was, with the resource version of its deletion.
	Object runtime.Object
	// Old is the object before the change, nil when it was added.
	Old runtime.Object
	// Rev is the resource version of the change.
	Rev uint64
}

// Watch delivers the changes of a resource after a resource version, usually
// that of a View, in order, without gaps and in batches. The channel is closed
// when ctx ends and when the consumer is so slow that the changes it waits for
// are no longer kept: then take a new View. A resource version from which that
// is so already is an ErrExpired.
func (k *K) Watch(ctx context.Context, group schema.GroupResource, from uint64) (<-chan []Event, error) {
	r := k.resource(group)
	if r == nil {
		return nil, &NotServedError{group}
	}
	snap := k.backend.Snapshot()
	if from == 0 || version(snap.Compacted()) > from {
		return nil, &ExpiredError{From: from, Oldest: version(snap.Compacted())}
	}
	out := make(chan []Event, 4)
	f := r.feed(r.scopeOf(r.prefix, true, nil), revision(from))
	if !k.hub.start(func() { f.consume(ctx, out) }) {
		return nil, errEnded
	}
	return out, nil
}

// NotServedError says that no storage was made for a resource.
type NotServedError struct{ Resource schema.GroupResource }

func (e *NotServedError) Error() string {
	return "resource " + e.Resource.String() + ": it is not served"
}

// consume moves changes to a channel.
func (f *feed) consume(ctx context.Context, out chan<- []Event) {
	defer close(out)
	defer f.close()
	for {
		changes, err := f.next(ctx, nil)
		if err != nil {
			return
		}
		events := f.events(ctx, changes)
		if len(events) == 0 {
			continue
		}
		select {
		case out <- events:
		case <-ctx.Done():
			return
		case <-f.r.done:
			return
		case <-f.r.k.hub.done:
			return
		}
	}
}

// events converts changes. To readers in this process an object that cannot
// be read does not exist, in views as in watches.
func (f *feed) events(ctx context.Context, changes []*change) []Event {
	events := make([]Event, 0, len(changes))
	for _, c := range changes {
		e, err := c.event(ctx)
		if err != nil {
			f.r.k.log.Error("changed object cannot be read", "resource", f.r.group.String(), "resourceVersion", e.Rev, "reason", err)
		}
		if e.Type != "" {
			events = append(events, e)
		}
	}
	return events
}

// event is the change with shared objects. The error says why one of them is
// missing.
func (c *change) event(ctx context.Context) (e Event, err error) {
	e.Rev = version(c.rev)
	if c.old != nil {
		e.Old, err = c.previous(ctx)
	}
	if c.cur != nil {
		obj, unreadable := c.object(ctx)
		e.Object, err = obj, errors.Join(err, unreadable)
	}
	e.Type = transition(e.Old != nil, e.Object != nil)
	if e.Type == watch.Deleted {
		e.Object = c.tombstone()
	}
	return e, err
}
