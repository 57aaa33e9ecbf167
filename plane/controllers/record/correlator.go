package record

import (
	"strings"
	"time"
)

// The limits of Kubernetes' event correlator.
const (
	similarLimit  = 10               // different messages of one reason before they are combined
	similarWindow = 10 * time.Minute // how long a group of similar events stays one
	floodBurst    = 25               // events on one object at once
	floodRefill   = 5 * time.Minute  // one more each
	combined      = "(combined from similar events): "
)

type verdict int

const (
	isNew verdict = iota
	isRepeat
	isFlood
)

// series is an event that was written and may repeat.
type series struct {
	occurrence
	key, name   string
	first, last time.Time
	count       int32
}

// correlator decides what becomes of each occurrence. It is a function of what
// it was told: it has no clock and one owner.
type correlator struct {
	series  recent[*series]
	similar recent[*group]
	floods  recent[*bucket]
	newest  time.Time
}

// group is the occurrences on one object with one reason.
type group struct {
	messages map[string]struct{}
	last     time.Time
}

type bucket struct {
	tokens float64
	last   time.Time
}

func newCorrelator() *correlator { return &correlator{} }

// observe answers with the series as it now stands, nil for a flood.
func (c *correlator) observe(o occurrence) (*series, verdict) {
	object := strings.Join([]string{o.on.Kind, o.on.Namespace, o.on.Name, string(o.on.UID), o.on.FieldPath}, "\x00")
	key := c.combine(object, &o)
	if !c.admit(object, o.at) {
		return nil, isFlood
	}
	if s, ok := c.series.get(key); ok {
		next := *s // the old one may still be part of a batch
		next.count++
		next.last, next.message, next.on = o.at, o.message, o.on
		c.series.put(key, &next)
		return &next, isRepeat
	}
	s := &series{occurrence: o, key: key, name: eventName(o.on.Name, c.stamp(o.at)), first: o.at, last: o.at, count: 1}
	c.series.put(key, s)
	return s, isNew
}

// combine gives the key under which the occurrence is counted, and changes its
// message when it is one of too many alike.
func (c *correlator) combine(object string, o *occurrence) string {
	alike := object + "\x00" + o.kind + "\x00" + o.reason
	g, ok := c.similar.get(alike)
	if !ok || o.at.Sub(g.last) > similarWindow {
		g = &group{messages: map[string]struct{}{}}
		c.similar.put(alike, g)
	}
	g.last = o.at
	if _, known := g.messages[o.message]; !known && len(g.messages) >= similarLimit {
		o.message = combined + o.message
		return alike
	}
	g.messages[o.message] = struct{}{}
	return alike + "\x00" + o.message
}

func (c *correlator) admit(object string, now time.Time) bool {
	b, ok := c.floods.get(object)
	if !ok {
		b = &bucket{tokens: floodBurst, last: now}
		c.floods.put(object, b)
	}
	b.tokens = min(floodBurst, b.tokens+float64(now.Sub(b.last))/float64(floodRefill))
	b.last = now
	if b.tokens < 1 {
		return false
	}
	b.tokens--
	return true
}

func (c *correlator) forget(key string) { c.series.drop(key) }

// stamp makes times unique, because an event's name is made of one.
func (c *correlator) stamp(at time.Time) time.Time {
	if !at.After(c.newest) {
		at = c.newest.Add(1)
	}
	c.newest = at
	return at
}

// recent remembers the last few thousand keys: two generations, the older one
// dropped when the younger is full.
type recent[V any] struct{ young, old map[string]V }

const generation = 2048

func (r *recent[V]) get(key string) (V, bool) {
	if v, ok := r.young[key]; ok {
		return v, true
	}
	v, ok := r.old[key]
	if ok {
		r.put(key, v)
	}
	return v, ok
}

func (r *recent[V]) put(key string, v V) {
	if r.young == nil || len(r.young) >= generation {
		r.old, r.young = r.young, map[string]V{}
	}
	r.young[key] = v
}

func (r *recent[V]) drop(key string) {
	delete(r.young, key)
	delete(r.old, key)
}
