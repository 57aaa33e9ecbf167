package kubestore

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"copepod/plane/store"

	"k8s.io/apiserver/pkg/storage"
)

// errEnded says that the resource or all of K ends.
var errEnded = errors.New("watch has ended")

// scope is which keys of a resource a feed is about.
type scope struct {
	key     string // a key, or with recursive the prefix of keys
	subtree bool
	value   string // with indexed: only objects whose index has it
	indexed bool
}

// scopeOf narrows key by what the predicate asks of the resource's index.
func (r *resource) scopeOf(key string, subtree bool, pred *storage.SelectionPredicate) scope {
	s := scope{key: key, subtree: subtree}
	if subtree && pred != nil {
		s.value, s.indexed = r.indexed(pred)
	}
	return s
}

func (s *scope) covers(key string) bool {
	if s.subtree {
		return strings.HasPrefix(key, s.key)
	}
	return key == s.key
}

// feed is the changes in a scope, in order and without gaps, as one consumer
// takes them. While it keeps up the hub gives it what happens; when it falls
// behind, or at first, it reads the history of the store.
type feed struct {
	r       *resource
	scope   scope
	pos     store.Revision // everything up to it was returned
	live    bool           // known to the hub
	kicked  atomic.Bool    // progress was asked for
	wake    chan struct{}  // holds one
	pending []*change      // owned by the hub
	joined  store.Revision // owned by the hub: it gives what is after it

	mu      sync.Mutex // guards what follows
	queue   []*change
	lagging bool // the hub has let go of it
}

func (r *resource) feed(s scope, from store.Revision) *feed {
	return &feed{r: r, scope: s, pos: from, wake: make(chan struct{}, 1)}
}

// close has the hub forget the feed.
func (f *feed) close() { f.r.k.hub.leave(f) }

// next waits for changes. It returns none when the timer fires or progress is
// asked for; then and after it returned changes, everything up to f.pos was
// returned. The error is *ExpiredError, errEnded or that of ctx.
func (f *feed) next(ctx context.Context, timer <-chan time.Time) ([]*change, error) {
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if !f.live {
			changes, err := f.catchUp(ctx)
			if err != nil || len(changes) > 0 {
				return changes, err
			}
			if f.live, err = f.r.k.hub.join(f); err != nil {
				return nil, err
			}
			continue
		}
		if changes := f.take(); len(changes) > 0 {
			return changes, nil
		}
		if !f.live {
			continue
		}
		select {
		case <-f.wake:
			if f.kicked.Swap(false) {
				return f.take(), nil
			}
		case <-timer:
			return f.take(), nil
		case <-f.r.done:
			return nil, errEnded
		case <-f.r.k.hub.done:
			return nil, errEnded
		case <-ctx.Done():
		}
	}
}

// take empties the queue.
func (f *feed) take() []*change {
	seen := f.r.k.hub.position() // before the queue: all up to it is in there
	f.mu.Lock()
	changes := f.queue
	f.queue = nil
	if f.lagging {
		f.lagging, f.live = false, false
		seen = 0
	}
	f.mu.Unlock()
	if n := len(changes); n > 0 {
		f.pos = changes[n-1].rev
	} else {
		f.pos = max(f.pos, seen)
	}
	return changes
}

// deliver appends what is pending, which ends between two revisions. It
// returns false if that is too much for the queue.
func (f *feed) deliver(limit int) bool {
	f.mu.Lock()
	fits := len(f.queue)+len(f.pending) <= limit
	if fits {
		f.queue = append(f.queue, f.pending...)
	} else {
		f.lagging = true
	}
	f.mu.Unlock()
	clear(f.pending)
	if f.pending = f.pending[:0]; cap(f.pending) > 64 { // of a burst
		f.pending = nil
	}
	f.signal()
	return fits
}

// drop makes the feed find its own way.
func (f *feed) drop() {
	f.mu.Lock()
	f.lagging = true
	f.mu.Unlock()
	f.signal()
}

func (f *feed) signal() {
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// stride is how many events of all resources one catchUp looks at.
const stride = 8192

// catchUp reads the history of the store from where the feed is.
func (f *feed) catchUp(ctx context.Context) ([]*change, error) {
	snap := f.r.k.backend.Snapshot()
	if snap.Revision() <= f.pos {
		return nil, nil
	}
	events, err := snap.Events(f.pos + 1)
	if errors.Is(err, store.ErrCompacted) {
		return nil, &ExpiredError{From: version(f.pos), Oldest: version(snap.Compacted())}
	}
	if err != nil {
		return nil, fmt.Errorf("read history: %w", err)
	}
	var changes []*change
	for i, e := range events {
		if i >= stride && e.Rev != events[i-1].Rev {
			f.pos = events[i-1].Rev
			return changes, nil
		}
		if f.wants(ctx, e) {
			changes = append(changes, newChange(f.r, e))
		}
	}
	f.pos = snap.Revision()
	return changes, nil
}

// wants says whether the event may matter. One that cannot be told does: its
// consumer has to learn of the error.
func (f *feed) wants(ctx context.Context, e store.Event) bool {
	if e.IsProgress() || !f.scope.covers(e.Key()) {
		return false
	}
	if !f.scope.indexed {
		return true
	}
	for _, kv := range []*store.KV{e.Cur, e.Prev} {
		if kv == nil {
			continue
		}
		if v, err := f.r.triggerOf(ctx, kv); err != nil || v == f.scope.value {
			return true
		}
	}
	return false
}
