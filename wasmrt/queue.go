package wasmrt

import (
	"context"
	"sync"
	"time"
)

// queue is where compilations wait for their turn. Large modules take turns
// among themselves first, so that what is small never waits for more than one
// of them, and for little else: its like may take a short time only.
type queue struct{ large, any chan struct{} }

// largeModule is what makes a module large, in bytes.
const largeModule = 4 << 20

func newQueue(atOnce int) queue {
	return queue{large: make(chan struct{}, 1), any: make(chan struct{}, atOnce)}
}

// enter waits for a turn. The function that it returns ends the turn.
func (q queue) enter(ctx context.Context, size int) (leave func(), err error) {
	if size > largeModule {
		select {
		case q.large <- struct{}{}:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	others := func() {
		if size > largeModule {
			<-q.large
		}
	}
	select {
	case q.any <- struct{}{}:
		return func() { <-q.any; others() }, nil
	case <-ctx.Done():
		others()
		return nil, ctx.Err()
	}
}

// refusals remember the modules whose compilation was not worth its while: what
// ran into a limit would do so again, and cost as much again.
type refusals struct {
	mu   sync.Mutex // guards what follows
	list map[digest]refusal
}

type refusal struct {
	err   error
	until time.Time
}

const (
	refusalKeep = 5 * time.Minute
	maxRefusals = 1024
)

// find is the error that the module failed with lately, or nil.
func (r *refusals) find(key digest, now time.Time) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if found, ok := r.list[key]; ok && now.Before(found.until) {
		return found.err
	}
	return nil
}

func (r *refusals) add(key digest, err error, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.list == nil {
		r.list = map[digest]refusal{}
	}
	for old, f := range r.list {
		if !now.Before(f.until) || len(r.list) >= maxRefusals {
			delete(r.list, old)
		}
	}
	r.list[key] = refusal{err, now.Add(refusalKeep)}
}
