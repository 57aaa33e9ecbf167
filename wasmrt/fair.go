package wasmrt

import (
	"container/heap"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// fair shares the processor among the guests of a host by their weights. As
// many run at a time as Go has processors to run them on; the others wait, and
// the one that has had the least for its weight is next. A guest that finds a
// place free never waits, and one that comes back from a wait of its own goes
// before those that run on.
//
// Source: I. Molnár's completely fair scheduler of Linux, for virtual time.
type fair struct {
	waiters atomic.Int32 // turns that wait: guests that run look at it without the lock

	mu      sync.Mutex // guards what follows, and the fields of shares and turns
	free    int        // places that nobody has
	running map[*turn]struct{}
	queue   shares        // of which some turn waits
	clock   time.Duration // virtual: where the one stood that had had the least; never goes back
	watch   *time.Timer   // looks after places while guests wait for one
	armed   bool
}

// share is what guests that belong together get, however many they are: one
// weight. Among themselves they take turns.
type share struct {
	owner   *fair
	weight  int64
	virtual time.Duration // processor time it had while others waited, by its weight
	waiting []*turn       // the longest first
	index   int           // in the queue, or -1
}

// turn is one guest's place in the order of things.
type turn struct {
	*share
	place   atomic.Bool   // it may run
	since   time.Time     // when its slice began
	granted chan struct{} // one slot: it was given a place
}

const (
	// minWeight is what a guest has that asked for nothing: as the 2 shares of
	// 1024 a core that Kubernetes gives a container without a request.
	minWeight = 2
	// wakeBonus puts a guest that waited for something before those that did not.
	wakeBonus = 2 * time.Millisecond
	// maxLead is how much more than its share a guest may have had and be held to
	// it: where weights cannot be honoured (one guest cannot use two cores), what
	// the others get must not count against them for ever.
	maxLead = 10 * time.Millisecond
	// stuck is how long a guest may keep its place without a tick. One that is in
	// a call to the host that takes long, a slow disk say, loses it to others.
	stuck = 20 * time.Millisecond
)

func newFair(places int) *fair {
	f := &fair{free: places, running: map[*turn]struct{}{}}
	f.watch = time.AfterFunc(time.Hour, f.look)
	f.watch.Stop()
	return f
}

// newShare is for guests that belong together.
func (f *fair) newShare(weight int64) *share {
	return &share{owner: f, weight: max(weight, minWeight), index: -1}
}

func (s *share) newTurn() *turn { return &turn{share: s, granted: make(chan struct{}, 1)} }

// newTurn is for a guest that is alone.
func (f *fair) newTurn(weight int64) *turn { return f.newShare(weight).newTurn() }

// enter waits for a place, or for killed; it reports whether it has one.
func (t *turn) enter(killed <-chan struct{}) bool {
	f := t.owner
	f.mu.Lock()
	f.advance()
	f.set(t.share, max(t.virtual, f.clock-t.scaled(wakeBonus)))
	return f.admitOrJoin(t, killed)
}

// leave gives the place up, if it has one, after time that it used.
func (t *turn) leave(spent time.Duration) {
	f := t.owner
	f.mu.Lock()
	defer f.mu.Unlock()
	f.charge(t, spent)
	if t.place.Load() {
		f.vacate(t)
		f.next()
	}
}

// tick charges a slice, and waits if somebody else is to go first. It reports
// whether the guest has a place now.
func (t *turn) tick(spent time.Duration, killed <-chan struct{}) bool {
	f := t.owner
	if f.waiters.Load() == 0 && t.place.Load() {
		return true // what nobody else wants is free
	}
	f.mu.Lock()
	f.charge(t, spent)
	if t.place.Load() { // else it was taken
		if len(f.queue) == 0 || f.queue[0] != t.share && f.queue[0].virtual >= t.virtual {
			t.since = time.Now()
			f.mu.Unlock()
			return true
		}
		f.vacate(t)
		f.next()
	}
	return f.admitOrJoin(t, killed)
}

// scaled is time as it counts for a guest of this weight.
func (s *share) scaled(d time.Duration) time.Duration { return d / time.Duration(s.weight) }

func (t *turn) wait(killed <-chan struct{}) bool {
	select {
	case <-t.granted:
		return true
	case <-killed:
	}
	f := t.owner
	f.mu.Lock()
	defer f.mu.Unlock()
	if n := slices.Index(t.waiting, t); n >= 0 {
		f.remove(t.share, n)
	} else { // it was given a place meanwhile
		<-t.granted
		f.vacate(t)
		f.next()
	}
	return false
}

// What follows is called with the lock.

// charge counts time that others would have had.
func (f *fair) charge(t *turn, spent time.Duration) {
	if len(f.queue) > 0 {
		f.set(t.share, t.virtual+t.scaled(spent))
	}
}

// set moves a share in virtual time, and in the queue if it stands there.
func (f *fair) set(s *share, virtual time.Duration) {
	if s.virtual == virtual {
		return
	}
	s.virtual = virtual
	if s.index >= 0 {
		heap.Fix(&f.queue, s.index)
	}
}

// advance moves the clock up to whoever has had the least.
func (f *fair) advance() {
	var least *share
	if len(f.queue) > 0 {
		least = f.queue[0]
	}
	for t := range f.running {
		if least == nil || t.virtual < least.virtual {
			least = t.share
		}
	}
	if least != nil {
		f.clock = max(f.clock, least.virtual)
	}
}

// admitOrJoin gives the lock back.
func (f *fair) admitOrJoin(t *turn, killed <-chan struct{}) bool {
	if f.free > 0 {
		f.free--
		f.admit(t)
		f.mu.Unlock()
		return true
	}
	f.join(t)
	f.mu.Unlock()
	return t.wait(killed)
}

func (f *fair) admit(t *turn) {
	f.running[t] = struct{}{}
	t.since = time.Now()
	t.place.Store(true)
}

// vacate frees a guest's place.
func (f *fair) vacate(t *turn) {
	delete(f.running, t)
	t.place.Store(false)
	f.free++
}

// next lets in who waits, as far as there are places.
func (f *fair) next() {
	for f.free > 0 && len(f.queue) > 0 {
		t := f.remove(f.queue[0], 0)
		f.free--
		f.admit(t)
		t.granted <- struct{}{}
	}
}

func (f *fair) join(t *turn) {
	f.advance()
	f.set(t.share, min(t.virtual, f.clock+t.scaled(maxLead)))
	if len(f.queue) == 0 { // nobody looked at the time before
		now := time.Now()
		for r := range f.running {
			r.since = now
		}
	}
	t.waiting = append(t.waiting, t)
	if t.index < 0 {
		heap.Push(&f.queue, t.share)
	}
	f.waiters.Add(1)
	if !f.armed {
		f.armed = true
		f.watch.Reset(stuck)
	}
}

// remove takes the nth turn that waits off a share.
func (f *fair) remove(s *share, n int) *turn {
	t := s.waiting[n]
	s.waiting = slices.Delete(s.waiting, n, n+1)
	if len(s.waiting) == 0 {
		heap.Remove(&f.queue, s.index)
	}
	f.waiters.Add(-1)
	return t
}

// look takes the places of guests that do not tick, while others wait.
func (f *fair) look() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.armed = len(f.queue) > 0
	if !f.armed {
		return
	}
	now := time.Now()
	for t := range f.running {
		if now.Sub(t.since) > stuck {
			f.vacate(t)
		}
	}
	f.next()
	f.watch.Reset(stuck)
}

// shares is a heap of those of which some turn waits, the one that is next on top.
type shares []*share

func (q shares) Len() int           { return len(q) }
func (q shares) Less(i, j int) bool { return q[i].virtual < q[j].virtual }

func (q shares) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].index, q[j].index = i, j
}

func (q *shares) Push(x any) {
	s := x.(*share)
	s.index = len(*q)
	*q = append(*q, s)
}

func (q *shares) Pop() any {
	last := len(*q) - 1
	s := (*q)[last]
	(*q)[last] = nil
	*q = (*q)[:last]
	s.index = -1
	return s
}
