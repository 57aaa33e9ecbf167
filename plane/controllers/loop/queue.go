package loop

import (
	"container/heap"
	"context"
	"sync"
	"time"
)

// queue hands out keys, each at most once at a time, in the order they became
// due. Time is part of it: backoff, wishes for later and rests are all "not
// before".
type queue[K comparable] struct {
	wake  chan struct{} // holds one token while someone should look
	depth func(int)

	mu    sync.Mutex // guards what follows
	ready []K
	state map[K]*entry
	later timers[K]
}

// entry exists for a key that is queued, runs, rests, or has failed.
type entry struct {
	queued  bool      // in ready
	running bool      // handed out
	again   bool      // added while running
	at      time.Time // earliest wish in later, zero for none
	rest    time.Time // not before
	fails   int
}

func newQueue[K comparable](depth func(int)) *queue[K] {
	return &queue[K]{wake: make(chan struct{}, 1), depth: depth, state: map[K]*entry{}}
}

func (q *queue[K]) entry(key K) *entry {
	e := q.state[key]
	if e == nil {
		e = &entry{}
		q.state[key] = e
	}
	return e
}

func (q *queue[K]) add(key K) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.addLocked(key, q.entry(key))
}

func (q *queue[K]) addLocked(key K, e *entry) {
	switch {
	case e.queued:
	case e.running:
		e.again = true
	case time.Now().Before(e.rest):
		q.schedule(key, e, e.rest)
	default:
		q.push(key, e)
	}
}

func (q *queue[K]) push(key K, e *entry) {
	e.queued = true
	q.ready = append(q.ready, key)
	q.depth(len(q.ready))
	q.signal()
}

func (q *queue[K]) addAt(key K, at time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.schedule(key, q.entry(key), at)
}

func (q *queue[K]) schedule(key K, e *entry, at time.Time) {
	if !e.at.IsZero() && !at.Before(e.at) {
		return
	}
	e.at = at
	heap.Push(&q.later, timer[K]{at: at, key: key})
	q.signal()
}

func (q *queue[K]) signal() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// next blocks until a key is due; false when ctx ended.
func (q *queue[K]) next(ctx context.Context) (key K, ok bool) {
	for ctx.Err() == nil {
		key, ok, wait := q.take()
		if ok {
			return key, true
		}
		var due <-chan time.Time
		if wait > 0 {
			due = time.After(wait)
		}
		select {
		case <-ctx.Done():
		case <-q.wake:
		case <-due:
		}
	}
	return key, false
}

// take pops a due key, or says how long until the next (0: none is waiting).
func (q *queue[K]) take() (key K, ok bool, wait time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	wait = q.promote()
	if len(q.ready) == 0 {
		return key, false, wait
	}
	key = q.ready[0]
	var zero K
	q.ready[0] = zero
	q.ready = q.ready[1:]
	e := q.state[key]
	e.queued, e.running = false, true
	q.depth(len(q.ready))
	if len(q.ready) > 0 || len(q.later) > 0 {
		q.signal() // another worker may take the next, or watch the clock
	}
	return key, true, 0
}

// promote moves keys whose time has come to ready.
func (q *queue[K]) promote() time.Duration {
	now := time.Now()
	for len(q.later) > 0 {
		t := q.later[0]
		if t.at.After(now) {
			return t.at.Sub(now)
		}
		heap.Pop(&q.later)
		e := q.state[t.key]
		if e != nil && t.forget {
			q.forget(t.key, e, now)
			continue
		}
		if e == nil || !e.at.Equal(t.at) {
			continue // an earlier wish took its place
		}
		e.at = time.Time{}
		q.addLocked(t.key, e)
	}
	return 0
}

// forget drops the entry of a key that only rested.
func (q *queue[K]) forget(key K, e *entry, now time.Time) {
	if !e.queued && !e.running && e.at.IsZero() && e.fails == 0 && !now.Before(e.rest) {
		delete(q.state, key)
	}
}

func (q *queue[K]) done(key K, res Result) {
	q.mu.Lock()
	defer q.mu.Unlock()
	e := q.state[key]
	e.running, e.fails, e.rest = false, 0, time.Time{}
	if res.Rest > 0 {
		e.rest = time.Now().Add(res.Rest)
	}
	if res.After > 0 {
		q.schedule(key, e, time.Now().Add(res.After))
	}
	switch {
	case e.again:
		e.again = false
		q.addLocked(key, e)
	case res.Rest > 0:
		heap.Push(&q.later, timer[K]{at: e.rest, key: key, forget: true})
		q.signal()
	case e.at.IsZero():
		delete(q.state, key)
	}
}

func (q *queue[K]) failed(key K, base, limit time.Duration) int {
	q.mu.Lock()
	defer q.mu.Unlock()
	e := q.state[key]
	e.running, e.again = false, false
	wait := base << min(e.fails, 30)
	if wait > limit || wait <= 0 {
		wait = limit
	}
	e.fails++
	// Being added does not cut the wait short: a key that fails because of what
	// it is would else spin as fast as events arrive.
	e.rest = time.Now().Add(wait)
	q.schedule(key, e, e.rest)
	return e.fails
}

type timer[K comparable] struct {
	at     time.Time
	key    K
	forget bool // not a wish: only a time to drop the entry
}

// timers is a heap, earliest first.
type timers[K comparable] []timer[K]

func (t timers[K]) Len() int           { return len(t) }
func (t timers[K]) Less(i, j int) bool { return t[i].at.Before(t[j].at) }
func (t timers[K]) Swap(i, j int)      { t[i], t[j] = t[j], t[i] }
func (t *timers[K]) Push(x any)        { *t = append(*t, x.(timer[K])) }
func (t *timers[K]) Pop() any {
	last := len(*t) - 1
	x := (*t)[last]
	*t = (*t)[:last]
	return x
}
