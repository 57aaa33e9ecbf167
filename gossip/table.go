package gossip

import (
	"cmp"
	"maps"
	"slices"
	"time"
)

// table is what this member knows of all, itself included. It is pure: each
// method takes what was learned and when, and says which event that makes.
//
// memberlist reports joins, updates and deaths, but neither suspicion nor
// whether a death was a goodbye. Both are read off the messages: a suspicion
// that memberlist accepted is one that it passes on; it ends with a sign of life
// or with the death that memberlist reports. A goodbye arrives just before the
// death that it explains.
type table struct {
	most    int // records at most
	records map[string]*record
}

type record struct {
	Member
	incarnation uint32 // highest that an accepted alive message had; 0 unknown
	goodbye     bool   // it announced that it leaves, in this incarnation or later
	farewell    uint32 // the incarnation of that announcement
}

func newTable(most int) *table {
	return &table{most: most, records: map[string]*record{}}
}

// room makes sure that name can be recorded; the oldest of those who are gone
// gives way when the table is full. It says false when all others are present.
func (t *table) room(name string) bool {
	if t.records[name] != nil || len(t.records) < t.most {
		return true
	}
	var oldest *record
	for _, r := range t.records {
		if r.State >= StateFailed && (oldest == nil || r.Since.Before(oldest.Since)) {
			oldest = r
		}
	}
	if oldest == nil {
		return false
	}
	delete(t.records, oldest.Name)
	return true
}

func (t *table) joined(m Member, now time.Time) Event {
	m.State, m.Since = StateAlive, now
	t.records[m.Name] = &record{Member: m}
	return Event{Kind: Joined, Member: m}
}

func (t *table) updated(m Member, now time.Time) (Event, bool) {
	r := t.records[m.Name]
	if r == nil {
		return t.joined(m, now), true
	}
	if r.Addr == m.Addr && r.Meta == m.Meta {
		return Event{}, false
	}
	r.Addr, r.Meta = m.Addr, m.Meta
	return Event{Kind: Updated, Member: r.Member}, true
}

// saysGoodbye notes that name announced its leaving; ended makes use of it.
func (t *table) saysGoodbye(name string, incarnation uint32) {
	if r := t.records[name]; r != nil && r.State < StateFailed && incarnation >= r.incarnation {
		r.goodbye, r.farewell = true, incarnation
	}
}

func (t *table) ended(name string, now time.Time) (Event, bool) {
	r := t.records[name]
	if r == nil || r.State >= StateFailed {
		return Event{}, false
	}
	kind := Failed
	r.State, r.Since = StateFailed, now
	if r.goodbye {
		kind, r.State = Left, StateLeft
	}
	return Event{Kind: kind, Member: r.Member}, true
}

func (t *table) suspected(name string, incarnation uint32, now time.Time) (Event, bool) {
	r := t.records[name]
	if r == nil || r.State != StateAlive || incarnation < r.incarnation {
		return Event{}, false
	}
	r.State, r.Since, r.incarnation = StateSuspect, now, incarnation
	return Event{Kind: Suspected, Member: r.Member}, true
}

// alive notes a sign of life of a later incarnation than any before: this is
// how a suspicion is refuted and a forged goodbye undone.
func (t *table) alive(name string, incarnation uint32, now time.Time) (Event, bool) {
	r := t.records[name]
	if r == nil || r.State >= StateFailed || incarnation <= r.incarnation {
		return Event{}, false
	}
	r.incarnation = incarnation
	if r.goodbye && incarnation > r.farewell {
		r.goodbye = false
	}
	if r.State != StateSuspect {
		return Event{}, false
	}
	r.State, r.Since = StateAlive, now
	return Event{Kind: Recovered, Member: r.Member}, true
}

// cleared recovers one member that has been suspect since before.
func (t *table) cleared(before, now time.Time) (Event, bool) {
	for _, r := range t.records {
		if r.State == StateSuspect && r.Since.Before(before) {
			r.State, r.Since = StateAlive, now
			return Event{Kind: Recovered, Member: r.Member}, true
		}
	}
	return Event{}, false
}

// forget drops those who have been gone since before.
func (t *table) forget(before time.Time) {
	maps.DeleteFunc(t.records, func(_ string, r *record) bool {
		return r.State >= StateFailed && r.Since.Before(before)
	})
}

// members returns all, by name.
func (t *table) members() []Member {
	all := make([]Member, 0, len(t.records))
	for _, r := range t.records {
		all = append(all, r.Member)
	}
	slices.SortFunc(all, func(a, b Member) int { return cmp.Compare(a.Name, b.Name) })
	return all
}

func (t *table) count(s State) (n int) {
	for _, r := range t.records {
		if r.State == s {
			n++
		}
	}
	return n
}

func (t *table) failed() (all []Member) {
	for _, r := range t.records {
		if r.State == StateFailed {
			all = append(all, r.Member)
		}
	}
	return all
}
