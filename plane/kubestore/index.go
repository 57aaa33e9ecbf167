package kubestore

import (
	"context"
	"iter"
	"slices"
	"sort"
	"strings"
	"sync"

	"copepod/plane/store"

	"k8s.io/apiserver/pkg/storage"
)

// index knows which objects of a resource have a value, as of a revision. The
// hub keeps it up; a reader at any other revision adds the keys that changed
// in between, and looks at what each of them has at its own.
type index struct {
	mu       sync.RWMutex // guards what follows
	pos      store.Revision
	keys     map[string]map[string]struct{} // nil: not built
	building bool
}

const (
	// indexFrom is how many objects a resource has before an index is worth
	// its memory.
	indexFrom = 512
	// maxCatchUp is how many events a reader makes up for. With more it is
	// quicker to look at all objects.
	maxCatchUp = 8192
)

// indexed returns the value of the resource's index that all matching objects
// have, if the predicate asks for one.
func (r *resource) indexed(pred *storage.SelectionPredicate) (value string, ok bool) {
	if r.index == "" || pred.Field == nil {
		return "", false
	}
	return pred.Field.RequiresExactMatch(r.index)
}

// selected walks, in order, over the keys in a snapshot that may match the
// predicate: at least those that do.
func (r *resource) selected(ctx context.Context, snap *store.Snapshot, prefix, from string, pred *storage.SelectionPredicate) iter.Seq[*store.KV] {
	value, ok := r.indexed(pred)
	if !ok {
		return snap.Range(prefix, from)
	}
	if keys, ok := r.candidates(ctx, snap, value); ok {
		return func(yield func(*store.KV) bool) {
			i, _ := slices.BinarySearch(keys, max(prefix, from))
			for _, key := range keys[i:] {
				if !strings.HasPrefix(key, prefix) {
					return
				}
				if kv := snap.Get(key); kv != nil && !yield(kv) {
					return
				}
			}
		}
	}
	f := r.form.Load()
	return func(yield func(*store.KV) bool) {
		for kv := range snap.Range(prefix, from) {
			if c := cellOf(kv, f); c != nil && c.trigger != value {
				continue
			}
			if !yield(kv) {
				return
			}
		}
	}
}

// candidates are the keys that may have the value in a snapshot, sorted. ok is
// false if all have to be looked at.
func (r *resource) candidates(ctx context.Context, snap *store.Snapshot, value string) (keys []string, ok bool) {
	x := &r.values
	if value == "" { // of which there are most, for a while
		return nil, false
	}
	pos, keys := x.lookup(value)
	if pos == 0 {
		if snap.Count(r.prefix) < indexFrom || !r.buildIndex(ctx) {
			return nil, false
		}
		pos, keys = x.lookup(value)
	}
	events, ok := r.between(pos, snap)
	if !ok || pos == 0 {
		return nil, false
	}
	for _, e := range events {
		if key := e.Key(); strings.HasPrefix(key, r.prefix) {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	return slices.Compact(keys), true
}

// between are the events that lead from a revision to a snapshot or from the
// snapshot to the revision.
func (r *resource) between(pos store.Revision, snap *store.Snapshot) ([]store.Event, bool) {
	low, high := pos, snap.Revision()
	if low == high {
		return nil, true
	}
	if low > high {
		low, high, snap = high, low, r.k.backend.Snapshot()
	}
	events, err := snap.Events(low + 1)
	if err != nil {
		return nil, false
	}
	n := sort.Search(len(events), func(i int) bool { return events[i].Rev > high })
	return events[:n], n <= maxCatchUp
}

// lookup copies the keys that have a value; a position of 0 is that of an
// index that was not built.
func (x *index) lookup(value string) (store.Revision, []string) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	if x.keys == nil {
		return 0, nil
	}
	keys := make([]string, 0, len(x.keys[value])+8)
	for key := range x.keys[value] {
		keys = append(keys, key)
	}
	return x.pos, keys
}

// buildIndex makes the index of the present, unless somebody else is at it.
func (r *resource) buildIndex(ctx context.Context) bool {
	x := &r.values
	x.mu.Lock()
	busy := x.building
	x.building = true
	x.mu.Unlock()
	if busy {
		return false
	}
	snap := r.k.backend.Snapshot()
	keys := make(map[string]map[string]struct{})
	readable := true
	for kv := range snap.Range(r.prefix, "") {
		value, err := r.triggerOf(ctx, kv)
		if err != nil {
			readable = false
			break
		}
		include(keys, value, kv.Key)
	}
	r.k.hub.install(r, snap, keys, readable)
	return readable
}

// install has the hub keep up an index that was made of a snapshot.
func (h *hub) install(r *resource, snap *store.Snapshot, keys map[string]map[string]struct{}, readable bool) {
	h.mu.Lock() // so that no event is missed between here and there
	defer h.mu.Unlock()
	x := &r.values
	x.mu.Lock()
	defer x.mu.Unlock()
	x.building = false
	if !readable {
		return
	}
	x.keys, x.pos = keys, snap.Revision()
	if h.position() <= x.pos {
		return
	}
	now := r.k.backend.Snapshot()
	events, err := now.Events(x.pos + 1)
	if err != nil {
		x.keys = nil
		return
	}
	for _, e := range events {
		if e.Rev <= h.position() && strings.HasPrefix(e.Key(), r.prefix) {
			x.apply(r, e)
		}
	}
	x.pos = h.position()
}

func include(keys map[string]map[string]struct{}, value, key string) {
	if value == "" {
		return
	}
	if keys[value] == nil {
		keys[value] = make(map[string]struct{})
	}
	keys[value][key] = struct{}{}
}

// apply takes in an event. The caller holds the lock until the position says
// so too: a reader must not see the one without the other.
func (x *index) apply(r *resource, e store.Event) {
	if x.keys == nil || e.Rev <= x.pos {
		return
	}
	var old, cur string
	var err error
	if e.Prev != nil {
		old, err = r.triggerOf(context.Background(), e.Prev)
	}
	if e.Cur != nil && err == nil {
		cur, err = r.triggerOf(context.Background(), e.Cur)
	}
	if err != nil { // what cannot be read cannot be found by its value
		x.keys = nil
		return
	}
	if old != cur {
		delete(x.keys[old], e.Key())
		if len(x.keys[old]) == 0 {
			delete(x.keys, old)
		}
		include(x.keys, cur, e.Key())
	}
}

// drop forgets the index; the next reader builds it anew.
func (x *index) drop() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.keys = nil
}
