package scheduler

import (
	"container/heap"

	"k8s.io/apimachinery/pkg/types"

	"copepod/plane/scheduler/place"
)

// pod is what the scheduler keeps of a pod.
type pod struct {
	key     types.NamespacedName
	uid     types.UID
	class   *place.Class
	node    string
	runtime string // name of its RuntimeClass
	seq     uint64 // order of arrival
	state   state
}

type state uint8

const (
	gone   state = iota
	ready        // about to be tried
	parked       // fits nowhere for now
	failed       // could not be bound and waits a little
	bound        // on a node, or on the way there
)

// line is the pods of one class that have no node.
type line struct {
	class  *place.Class
	ready  []*pod // oldest first; those of another state are passed over
	parked []*pod // same
	asleep int    // of state parked
	causes place.Cause
	at     int // in queue.order, -1 when it has no ready pod
}

// queue orders the lines: higher priority first, then the one that has waited
// longest.
type queue struct {
	lines  map[*place.Class]*line
	order  order
	seq    uint64
	active int // pods of state ready
	asleep int // pods of state parked
}

func newQueue() *queue { return &queue{lines: map[*place.Class]*line{}} }

func (q *queue) line(k *place.Class) *line {
	l := q.lines[k]
	if l == nil {
		l = &line{class: k, at: -1}
		q.lines[k] = l
	}
	return l
}

// push makes a pod ready.
func (q *queue) push(p *pod) {
	if p.seq == 0 {
		q.seq++
		p.seq = q.seq
	}
	p.state = ready
	q.active++
	l := q.line(p.class)
	l.ready = append(l.ready, p)
	q.enter(l)
}

// enter puts a line with ready pods into the order, if it is not there.
func (q *queue) enter(l *line) {
	if l.at < 0 && l.trim() {
		heap.Push(&q.order, l)
	}
}

// trim drops pods from the front that are not ready any more; false when none is
// left.
func (l *line) trim() bool {
	for len(l.ready) > 0 && l.ready[0].state != ready {
		l.ready = l.ready[1:]
	}
	return len(l.ready) > 0
}

// take removes up to n ready pods of the first line.
func (q *queue) take(n int) (*place.Class, []*pod) {
	for len(q.order) > 0 {
		l := q.order[0]
		var list []*pod
		for len(list) < n && l.trim() {
			list = append(list, l.ready[0])
			l.ready = l.ready[1:]
		}
		if l.trim() {
			heap.Fix(&q.order, 0)
		} else {
			heap.Pop(&q.order)
		}
		if len(list) > 0 {
			q.active -= len(list)
			return l.class, list
		}
		q.tidy(l)
	}
	return nil, nil
}

// park keeps pods that fit nowhere, and why.
func (q *queue) park(k *place.Class, list []*pod, causes place.Cause) {
	l := q.line(k)
	l.causes = causes
	for _, p := range list {
		p.state = parked
		l.parked = append(l.parked, p)
	}
	l.asleep += len(list)
	q.asleep += len(list)
}

// wake makes up to n parked pods of a line ready, oldest first.
func (q *queue) wake(l *line, n int) {
	for n > 0 && len(l.parked) > 0 {
		p := l.parked[0]
		l.parked = l.parked[1:]
		if p.state == parked {
			l.asleep--
			q.asleep--
			q.push(p)
			n--
		}
	}
	if l.asleep == 0 {
		l.parked = nil
	}
}

// remove forgets a pod.
func (q *queue) remove(p *pod) {
	was := p.state
	p.state = gone
	if was != ready && was != parked {
		return
	}
	l := q.line(p.class)
	if was == ready {
		q.active--
	} else {
		l.asleep--
		q.asleep--
		if l.asleep == 0 {
			l.parked = nil
		}
	}
	q.tidy(l)
}

// tidy drops a line that holds nothing.
func (q *queue) tidy(l *line) {
	if l.at < 0 && l.asleep == 0 && !l.trim() {
		delete(q.lines, l.class)
	}
}

// order is a heap of lines that have ready pods.
type order []*line

func (o order) Len() int { return len(o) }
func (o order) Less(i, j int) bool {
	a, b := o[i], o[j]
	if a.class.Priority != b.class.Priority {
		return a.class.Priority > b.class.Priority
	}
	return a.first() < b.first()
}

func (l *line) first() uint64 {
	if len(l.ready) == 0 {
		return 0 // its pods went meanwhile; take will find out
	}
	return l.ready[0].seq
}

func (o order) Swap(i, j int) {
	o[i], o[j] = o[j], o[i]
	o[i].at, o[j].at = i, j
}

func (o *order) Push(x any) {
	l := x.(*line)
	l.at = len(*o)
	*o = append(*o, l)
}

func (o *order) Pop() any {
	last := len(*o) - 1
	l := (*o)[last]
	(*o)[last] = nil
	*o = (*o)[:last]
	l.at = -1
	return l
}
