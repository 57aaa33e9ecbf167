package kubestore

import (
	"context"
	"sync"

	"copepod/plane/store"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/apiserver/pkg/storage"
)

// change is one event of the store as the watchers of one resource see it. It
// is shared by all of them: its objects are decoded once and encoded once.
type change struct {
	r   *resource
	rev store.Revision
	cur *store.KV // nil: deleted
	old *store.KV // nil: created

	mu      sync.Mutex // guards what follows
	curObj  *decoded
	oldObj  *decoded
	tomb    runtime.Object // the old object with the version of the change
	after   *encodedOnce   // of cur
	removed *encodedOnce   // of tomb
}

func newChange(r *resource, e store.Event) *change {
	return &change{r: r, rev: e.Rev, cur: e.Cur, old: e.Prev}
}

// corruptDeletion is the deletion of an object that could not be read.
type corruptDeletion struct{ err error }

func (e *corruptDeletion) Error() string {
	return "saw a DELETED event, but object data is corrupt - " + e.err.Error()
}
func (e *corruptDeletion) Unwrap() error { return e.err }

// object is the object after the change; there must be one.
func (c *change) object(ctx context.Context) (runtime.Object, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.load(ctx, &c.curObj, c.cur)
}

// previous is the object before the change; there must be one.
func (c *change) previous(ctx context.Context) (runtime.Object, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.load(ctx, &c.oldObj, c.old)
}

func (c *change) load(ctx context.Context, slot **decoded, kv *store.KV) (runtime.Object, error) {
	if *slot == nil {
		d, err := c.r.decoded(ctx, kv)
		if err != nil {
			return nil, err
		}
		*slot = d
	}
	return (*slot).obj, nil
}

// tombstone is the object as it last was, with the version of the change that
// took it away. previous must have succeeded.
func (c *change) tombstone() runtime.Object {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.tombLocked()
}

func (c *change) tombLocked() runtime.Object {
	if c.tomb == nil {
		c.tomb = shallow(c.oldObj.obj, version(c.rev))
	}
	return c.tomb
}

// encoded is what a watcher over HTTP gets for an event of that type, for
// which object or previous has succeeded.
func (c *change) encoded(t watch.EventType) runtime.Object {
	c.mu.Lock()
	defer c.mu.Unlock()
	if t == watch.Deleted {
		if c.removed == nil {
			c.removed = &encodedOnce{obj: c.tombLocked()}
		}
		return c.removed
	}
	if c.after == nil {
		c.after = &encodedOnce{obj: c.curObj.obj}
	}
	return c.after
}

// seen is what the change is to somebody who only sees objects that match the
// predicate: empty if it is nothing.
func (c *change) seen(ctx context.Context, pred *storage.SelectionPredicate) (watch.EventType, error) {
	all := pred.Empty()
	var now, before bool
	if c.cur != nil {
		obj, err := c.object(ctx)
		if err != nil {
			return "", err
		}
		now = all || matches(pred, obj)
	}
	if c.old != nil {
		before = all
		if c.cur == nil || !all {
			obj, err := c.previous(ctx)
			if err != nil {
				if c.cur == nil {
					err = &corruptDeletion{err}
				}
				return "", err
			}
			before = all || matches(pred, obj)
		}
	}
	return transition(before, now), nil
}

// transition is the event by which something that was or was not seen before
// is or is not seen now.
func transition(before, now bool) watch.EventType {
	switch {
	case before && now:
		return watch.Modified
	case now:
		return watch.Added
	case before:
		return watch.Deleted
	}
	return ""
}

func matches(pred *storage.SelectionPredicate, obj runtime.Object) bool {
	ok, err := pred.Matches(obj)
	return err == nil && ok
}
