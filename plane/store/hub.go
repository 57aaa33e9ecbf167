package store

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"copepod/plane/store/mvcc"

	iradix "github.com/hashicorp/go-immutable-radix/v2"
)

// hub carries the events of the state machine to the watches. It reads them
// from history at its own pace, so the writer never waits for it; each event
// costs a walk along its key, not a look at every watch.
type hub struct {
	state func() *mvcc.Snapshot
	log   *slog.Logger
	more  chan struct{} // holds one
	pumps sync.WaitGroup

	mu     sync.Mutex // guards what follows
	groups *iradix.Tree[*group]
	cursor Revision // all events up to it are in the watches
	swept  time.Time
	count  int
	behind uint64 // watches ended because they fell behind
	closed bool
}

// group is the watches of one prefix: they share their batches.
type group struct {
	prefix  string
	watches map[*Watch]struct{}
	batch   []Event // while dispatching
}

// sweepEvery is how often watches are checked for falling behind.
const sweepEvery = 100 * time.Millisecond

func newHub(state func() *mvcc.Snapshot, log *slog.Logger) *hub {
	return &hub{
		state:  state,
		log:    log,
		more:   make(chan struct{}, 1),
		groups: iradix.New[*group](),
		cursor: state().Revision(),
	}
}

// wake tells the hub that there is a new state.
func (h *hub) wake() {
	select {
	case h.more <- struct{}{}:
	default:
	}
}

func (h *hub) run(ctx context.Context) {
	for {
		select {
		case <-h.more:
			h.dispatch()
		case <-ctx.Done():
			return
		}
	}
}

func (h *hub) dispatch() {
	h.mu.Lock()
	defer h.mu.Unlock()
	snap := h.state()
	if snap.Revision() <= h.cursor {
		return
	}
	events, err := snap.Events(h.cursor + 1)
	h.cursor = snap.Revision()
	if err != nil { // a snapshot of another member replaced the state, or we are slow
		h.each(func(w *Watch) { h.drop(w, err) })
		return
	}
	if h.count > 0 {
		h.spread(events)
	}
	if time.Since(h.swept) >= sweepEvery {
		h.swept = time.Now()
		h.each(func(w *Watch) {
			if w.behind(snap.Compacted()) {
				h.drop(w, fmt.Errorf("reader is behind revision %d: %w", snap.Compacted(), ErrCompacted))
			}
		})
	}
}

// spread sorts the events into the groups whose prefix they match, then gives
// each watch the batch of its group.
func (h *hub) spread(events []Event) {
	root := h.groups.Root()
	var touched []*group
	var key []byte
	for _, e := range events {
		key = append(key[:0], e.Key()...)
		root.WalkPath(key, func(_ []byte, g *group) bool {
			if len(g.batch) == 0 {
				touched = append(touched, g)
			}
			g.batch = append(g.batch, e)
			return false
		})
	}
	for _, g := range touched {
		for w := range g.watches {
			w.add(g.batch)
		}
		g.batch = nil
	}
}

func (h *hub) drop(w *Watch, err error) {
	h.behind++
	h.log.Debug("watch ended", "prefix", w.group.prefix, "reason", err)
	w.fail(err)
}

func (h *hub) each(do func(*Watch)) {
	h.groups.Root().Walk(func(_ []byte, g *group) bool {
		for w := range g.watches {
			do(w)
		}
		return false
	})
}

func (h *hub) subscribe(prefix string, from Revision) (*Watch, error) {
	w := &Watch{
		hub:    h,
		from:   from,
		events: make(chan []Event, watchBuffer),
		more:   make(chan struct{}, 1),
		dead:   make(chan struct{}),
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, errStopped)
	}
	snap := h.state()
	if from == 0 {
		w.from = snap.Revision() + 1
	}
	if w.from <= h.cursor {
		events, err := snap.Events(w.from)
		if err != nil {
			return nil, err
		}
		for len(events) > 0 && events[len(events)-1].Rev > h.cursor {
			events = events[:len(events)-1] // the next dispatch brings them
		}
		if first := withPrefix(events, prefix); len(first) > 0 {
			w.add(first)
		}
	} else if w.from <= snap.Compacted() {
		_, err := snap.Events(w.from)
		return nil, err
	}
	g, ok := h.groups.Get([]byte(prefix))
	if !ok {
		g = &group{prefix: prefix, watches: map[*Watch]struct{}{}}
		h.groups, _, _ = h.groups.Insert([]byte(prefix), g)
	}
	w.group = g
	g.watches[w] = struct{}{}
	h.count++
	h.pumps.Add(1)
	return w, nil
}

// unsubscribe is the last that the pump of a watch does.
func (h *hub) unsubscribe(w *Watch) {
	defer h.pumps.Done()
	h.mu.Lock()
	defer h.mu.Unlock()
	g := w.group
	delete(g.watches, w)
	h.count--
	if len(g.watches) == 0 {
		h.groups, _, _ = h.groups.Delete([]byte(g.prefix))
	}
}

// progress queues the marker behind the events that the watch already has.
func (h *hub) progress(w *Watch) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.cursor >= w.from {
		w.add([]Event{{Rev: h.cursor}})
	}
}

// close ends all watches and waits until they have.
func (h *hub) close() {
	h.mu.Lock()
	h.closed = true
	h.each(func(w *Watch) { w.fail(fmt.Errorf("%w: %w", ErrUnavailable, errStopped)) })
	h.mu.Unlock()
	h.pumps.Wait()
}

// watches is the number of subscriptions, and of those that fell behind.
func (h *hub) watches() (open int, behind uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.count, h.behind
}
