package kubestore

import (
	"context"
	"slices"
	"sort"
	"strings"
	"sync"
	"sync/atomic"

	"copepod/plane/store"

	"k8s.io/apimachinery/pkg/runtime/schema"
)

// hub gives the changes of the store to the feeds that they concern, in one
// goroutine: that of K.Run. It never waits for a consumer.
type hub struct {
	limit int           // of a feed's queue
	pos   atomic.Uint64 // everything up to this revision was delivered
	done  chan struct{} // closed by close
	tasks sync.WaitGroup

	served atomic.Pointer[map[schema.GroupResource]*resource]

	mu        sync.Mutex // guards what follows and the audience of each resource
	prefixes  []string   // of keys, sorted
	resources map[string][]*resource
	indexed   []*resource // those that have an index
	closed    bool
	touched   []*feed
}

func newHub(limit int, pos store.Revision) *hub {
	h := &hub{limit: limit, done: make(chan struct{}), resources: make(map[string][]*resource)}
	h.pos.Store(uint64(pos))
	h.publish()
	return h
}

func (h *hub) position() store.Revision { return store.Revision(h.pos.Load()) }

// audience is who listens to a resource, by what they listen to.
type audience struct {
	all    map[*feed]struct{}            // a subtree
	keys   map[string]map[*feed]struct{} // one key
	values map[string]map[*feed]struct{} // one value of the index, in a subtree
	size   int
}

// add starts to route events to a resource. Several versions of one resource
// share a prefix.
func (h *hub) add(r *resource) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.resources[r.prefix]) == 0 {
		i, _ := slices.BinarySearch(h.prefixes, r.prefix)
		h.prefixes = slices.Insert(h.prefixes, i, r.prefix)
	}
	h.resources[r.prefix] = append(h.resources[r.prefix], r)
	if r.index != "" {
		h.indexed = append(h.indexed, r)
	}
	h.publish()
}

func (h *hub) remove(r *resource) {
	h.mu.Lock()
	defer h.mu.Unlock()
	same := func(x *resource) bool { return x == r }
	h.indexed = slices.DeleteFunc(h.indexed, same)
	rest := slices.DeleteFunc(h.resources[r.prefix], same)
	h.resources[r.prefix] = rest
	if len(rest) == 0 {
		delete(h.resources, r.prefix)
		h.prefixes = slices.DeleteFunc(h.prefixes, func(p string) bool { return p == r.prefix })
	}
	h.publish()
}

// publish lets readers find the resources without a lock. Of several versions
// of one they get the first.
func (h *hub) publish() {
	served := make(map[schema.GroupResource]*resource)
	for _, rs := range h.resources {
		served[rs[0].group] = rs[0]
	}
	h.served.Store(&served)
}

// serving returns what stores a resource, nil if nothing does.
func (h *hub) serving(group schema.GroupResource) *resource {
	return (*h.served.Load())[group]
}

// owners returns the resources that a key belongs to.
func (h *hub) owners(key string) []*resource {
	i := sort.SearchStrings(h.prefixes, key)
	if i == 0 || !strings.HasPrefix(key, h.prefixes[i-1]) {
		return nil
	}
	return h.resources[h.prefixes[i-1]]
}

// join takes in a feed that has caught up; false if it has not.
func (h *hub) join(f *feed) (bool, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return false, errEnded
	}
	if h.position() > f.pos {
		return false, nil
	}
	a, s := &f.r.audience, &f.scope
	switch {
	case s.indexed:
		enlist(&a.values, s.value, f)
	case s.subtree:
		if a.all == nil {
			a.all = make(map[*feed]struct{})
		}
		a.all[f] = struct{}{}
	default:
		enlist(&a.keys, s.key, f)
	}
	f.joined = f.pos
	a.size++
	return true, nil
}

func enlist(m *map[string]map[*feed]struct{}, key string, f *feed) {
	if *m == nil {
		*m = make(map[string]map[*feed]struct{})
	}
	if (*m)[key] == nil {
		(*m)[key] = make(map[*feed]struct{}, 1)
	}
	(*m)[key][f] = struct{}{}
}

// leave forgets a feed, if it is known.
func (h *hub) leave(f *feed) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.forget(f)
}

func (h *hub) forget(f *feed) {
	a, s := &f.r.audience, &f.scope
	known := false
	switch {
	case s.indexed:
		known = discharge(a.values, s.value, f)
	case s.subtree:
		_, known = a.all[f]
		delete(a.all, f)
	default:
		known = discharge(a.keys, s.key, f)
	}
	if known {
		a.size--
	}
}

func discharge(m map[string]map[*feed]struct{}, key string, f *feed) bool {
	_, known := m[key][f]
	delete(m[key], f)
	if len(m[key]) == 0 {
		delete(m, key)
	}
	return known
}

// dispatch gives events to feeds. They are whole revisions, and so is what a
// feed gets.
func (h *hub) dispatch(events []store.Event) {
	if len(events) == 0 {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, r := range h.indexed {
		r.values.mu.Lock()
	}
	for _, e := range events {
		if e.IsProgress() {
			continue
		}
		for _, r := range h.owners(e.Key()) {
			if r.index != "" {
				r.values.apply(r, e)
			}
			if r.audience.size > 0 {
				h.route(r, e)
			}
		}
	}
	end := max(h.position(), events[len(events)-1].Rev)
	for _, r := range h.indexed {
		r.values.pos = max(r.values.pos, end)
		r.values.mu.Unlock()
	}
	for i, f := range h.touched {
		if !f.deliver(h.limit) {
			h.forget(f)
		}
		h.touched[i] = nil
	}
	h.touched = h.touched[:0]
	h.pos.Store(uint64(end))
}

// route leaves a change with the feeds of a resource that it may concern.
func (h *hub) route(r *resource, e store.Event) {
	c := newChange(r, e)
	for f := range r.audience.all {
		h.pend(f, c, e.Key())
	}
	for f := range r.audience.keys[e.Key()] {
		h.pend(f, c, e.Key())
	}
	if len(r.audience.values) == 0 {
		return
	}
	cur, old, ok := r.triggers(e)
	if !ok { // all have to learn of the error
		for _, feeds := range r.audience.values {
			for f := range feeds {
				h.pend(f, c, e.Key())
			}
		}
		return
	}
	for f := range r.audience.values[cur] {
		h.pend(f, c, e.Key())
	}
	if old != cur {
		for f := range r.audience.values[old] {
			h.pend(f, c, e.Key())
		}
	}
}

// triggers is the index of an object after and before an event; twice the
// same if there is no before or no after.
func (r *resource) triggers(e store.Event) (cur, old string, ok bool) {
	kvs := [2]*store.KV{e.Cur, e.Prev}
	if e.Cur == nil {
		kvs[0] = e.Prev
	}
	if e.Prev == nil {
		kvs[1] = e.Cur
	}
	cur, err := r.triggerOf(context.Background(), kvs[0])
	if err != nil {
		return "", "", false
	}
	old, err = r.triggerOf(context.Background(), kvs[1])
	return cur, old, err == nil
}

func (h *hub) pend(f *feed, c *change, key string) {
	if c.rev <= f.joined || !f.scope.covers(key) {
		return
	}
	if len(f.pending) == 0 {
		h.touched = append(h.touched, f)
	}
	f.pending = append(f.pending, c)
}

// skip goes on at a revision; feeds have to read for themselves what was
// before.
func (h *hub) skip(to store.Revision) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, rs := range h.resources {
		for _, r := range rs {
			for f := range r.audience.feeds() {
				f.drop()
			}
			r.audience = audience{}
		}
	}
	for _, r := range h.indexed {
		r.values.drop()
	}
	h.pos.Store(max(h.pos.Load(), uint64(to)))
}

// feeds walks over everybody.
func (a *audience) feeds() func(yield func(*feed) bool) {
	return func(yield func(*feed) bool) {
		for _, group := range append(values(a.keys), append(values(a.values), a.all)...) {
			for f := range group {
				if !yield(f) {
					return
				}
			}
		}
	}
}

func values(m map[string]map[*feed]struct{}) []map[*feed]struct{} {
	all := make([]map[*feed]struct{}, 0, len(m)+1)
	for _, v := range m {
		all = append(all, v)
	}
	return all
}

// progress asks the feeds of a resource to say where they are.
func (h *hub) progress(r *resource) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for f := range r.audience.feeds() {
		f.kicked.Store(true)
		f.signal()
	}
}

// start runs a consumer; close waits for it.
func (h *hub) start(consume func()) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return false
	}
	h.tasks.Go(consume)
	return true
}

// close ends all consumers and waits for them.
func (h *hub) close() {
	h.mu.Lock()
	closed := h.closed
	h.closed = true
	h.mu.Unlock()
	if !closed {
		close(h.done)
	}
	h.tasks.Wait()
}
