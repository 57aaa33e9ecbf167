package store

import (
	"context"
	"fmt"
	"sort"
	"strings"
	"sync"
)

// watchBuffer is how many batches of events lie ready for a reader.
const watchBuffer = 8

// Watch is a subscription to the changes of the keys with one prefix.
type Watch struct {
	hub    *hub
	group  *group
	from   Revision // events before it are not wanted
	events chan []Event
	more   chan struct{} // holds one

	mu      sync.Mutex // guards what follows
	pending [][]Event  // not yet taken by the reader; shared, never changed
	err     error      // why the watch ended
	dead    chan struct{}
}

// Watch subscribes to the changes of keys that start with prefix, from the
// revision on that is wanted first; 0 is the next one. The revisions after
// the one of a snapshot follow it without a gap: watch from its Revision()+1.
//
// Each receive from Events is a batch in order of revisions, in which the
// events of one revision are not split. Batches are shared between watches:
// do not change them. The channel is closed when ctx ends, when the store
// stops, or with ErrCompacted when the reader falls behind the events that
// are kept; Err tells which. A slow reader never holds up anybody else.
//
// Watch fails with ErrCompacted when from is no longer kept.
func (s *Store) Watch(ctx context.Context, prefix string, from Revision) (*Watch, error) {
	w, err := s.hub.subscribe(prefix, from)
	if err != nil {
		return nil, fmt.Errorf("store: watch %q: %w", prefix, err)
	}
	go w.pump(ctx)
	return w, nil
}

// Events delivers the changes; see Store.Watch.
func (w *Watch) Events() <-chan []Event { return w.events }

// Err is why Events was closed: the error of the context, ErrCompacted, or
// ErrUnavailable when the store stopped. It is nil before.
func (w *Watch) Err() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.err
}

// RequestProgress asks for an event without a change (Event.IsProgress) that
// says up to which revision the reader has seen everything.
func (w *Watch) RequestProgress() { w.hub.progress(w) }

// add queues a batch for the reader. The hub calls it, in order.
func (w *Watch) add(batch []Event) {
	if batch[0].Rev < w.from {
		batch = batch[sort.Search(len(batch), func(i int) bool { return batch[i].Rev >= w.from }):]
		if len(batch) == 0 {
			return
		}
	}
	w.mu.Lock()
	w.pending = append(w.pending, batch)
	w.mu.Unlock()
	select {
	case w.more <- struct{}{}:
	default:
	}
}

// behind says that the oldest batch that was not taken is no longer part of
// history up to floor.
func (w *Watch) behind(floor Revision) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.pending) > 0 && !w.pending[0][0].IsProgress() && w.pending[0][0].Rev <= floor
}

// fail ends the watch; the first reason counts.
func (w *Watch) fail(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err == nil {
		w.err = err
		w.pending = nil
		close(w.dead)
	}
}

// pump moves batches to the reader until the watch ends.
func (w *Watch) pump(ctx context.Context) {
	defer w.hub.unsubscribe(w)
	defer close(w.events)
	for {
		batch := w.first()
		if batch == nil {
			select {
			case <-w.more:
				continue
			case <-w.dead:
				return
			case <-ctx.Done():
				w.fail(ctx.Err())
				return
			}
		}
		select {
		case w.events <- batch:
			w.taken()
		case <-w.dead:
			return
		case <-ctx.Done():
			w.fail(ctx.Err())
			return
		}
	}
}

func (w *Watch) first() []Event {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.pending) == 0 {
		return nil
	}
	return w.pending[0]
}

func (w *Watch) taken() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.pending) > 0 {
		w.pending[0] = nil
		w.pending = w.pending[1:]
	}
}

// withPrefix selects the events of keys that start with prefix.
func withPrefix(events []Event, prefix string) []Event {
	var selected []Event
	for _, e := range events {
		if strings.HasPrefix(e.Key(), prefix) {
			selected = append(selected, e)
		}
	}
	return selected
}
