package mvcc

import (
	"fmt"
	"iter"
	"sort"
	"strings"

	"github.com/tidwall/btree"
)

// tree is ordered by key. A tree that was published is never written to.
type tree = btree.Map[string, *KV]

// Snapshot is the whole store at one revision. It never changes; readers
// share it without a lock and it costs nothing to keep but the versions that
// it alone still refers to.
type Snapshot struct {
	keys  *tree
	due   *deadlines
	rev   Revision
	floor Revision // events and snapshots at or below are gone
	// compacted is the part of floor that was asked for through the log.
	compacted Revision
	bytes     int64
	history   []Event // of (floor, rev], in order
}

// Revision is the revision of the snapshot.
func (s *Snapshot) Revision() Revision { return s.rev }

// Compacted is the latest revision whose events are no longer kept: At takes
// revisions from it on, a watch can start right after it.
func (s *Snapshot) Compacted() Revision { return s.floor }

// Len is the number of keys.
func (s *Snapshot) Len() int { return s.keys.Len() }

// Bytes is the memory that keys and values take, overhead included.
func (s *Snapshot) Bytes() int64 { return s.bytes }

// Get returns the current version of a key, nil if it is absent.
func (s *Snapshot) Get(key string) *KV {
	kv, _ := s.keys.Get(key)
	return kv
}

// Range walks the keys that start with prefix in ascending order, beginning
// with the first that is not less than from; an empty from is the beginning.
func (s *Snapshot) Range(prefix, from string) iter.Seq[*KV] {
	return func(yield func(*KV) bool) {
		s.keys.Ascend(max(prefix, from), func(key string, kv *KV) bool {
			return strings.HasPrefix(key, prefix) && yield(kv)
		})
	}
}

// Count is the number of keys that start with prefix. It does not walk them.
func (s *Snapshot) Count(prefix string) int {
	return s.CountFrom(prefix, prefix)
}

// CountFrom is the number of keys that Range(prefix, from) walks.
func (s *Snapshot) CountFrom(prefix, from string) int {
	end := s.keys.Len()
	if after, ok := afterPrefix(prefix); ok {
		end = s.rank(after)
	}
	return max(0, end-s.rank(max(prefix, from)))
}

// rank is the number of keys less than key.
func (s *Snapshot) rank(key string) int {
	return sort.Search(s.keys.Len(), func(i int) bool {
		at, _, _ := s.keys.GetAt(i)
		return at >= key
	})
}

// afterPrefix is the least string greater than all that start with prefix;
// there is none after an empty prefix or one of 0xff only.
func afterPrefix(prefix string) (string, bool) {
	for i := len(prefix) - 1; i >= 0; i-- {
		if prefix[i] != 0xff {
			return prefix[:i] + string([]byte{prefix[i] + 1}), true
		}
	}
	return "", false
}

// Events returns the changes of the revisions [from, s.Revision()] in order,
// shared and not to be changed. ErrCompacted if from is no longer kept; none
// when from has not happened yet.
func (s *Snapshot) Events(from Revision) ([]Event, error) {
	if from <= s.floor {
		return nil, fmt.Errorf("events from revision %d: %w: the oldest is %d", from, ErrCompacted, s.floor+1)
	}
	i := sort.Search(len(s.history), func(i int) bool { return s.history[i].Rev >= from })
	return s.history[i:len(s.history):len(s.history)], nil
}

// At returns the store as it was at rev, by undoing the events after it: the
// cost is linear in their number and nothing is pinned until somebody asks.
// It fails with ErrCompacted and ErrFutureRevision.
func (s *Snapshot) At(rev Revision) (*Snapshot, error) {
	switch {
	case rev == s.rev:
		return s, nil
	case rev > s.rev:
		return nil, fmt.Errorf("revision %d: %w: the current one is %d", rev, ErrFutureRevision, s.rev)
	case rev < s.floor:
		return nil, fmt.Errorf("revision %d: %w: the oldest is %d", rev, ErrCompacted, s.floor)
	}
	// A plain copy of a published tree is private: it writes only to nodes
	// that it has copied, since a published tree owns no node itself.
	work := *s.keys
	past := &Snapshot{due: s.due, rev: rev, floor: s.floor, compacted: s.compacted, bytes: s.bytes}
	for i := len(s.history) - 1; i >= 0 && s.history[i].Rev > rev; i-- {
		e := s.history[i]
		if e.Cur != nil {
			past.bytes -= e.Cur.size()
		}
		if e.Prev == nil {
			work.Delete(e.Cur.Key)
			continue
		}
		past.bytes += e.Prev.size()
		work.Set(e.Prev.Key, e.Prev)
	}
	past.keys = work.Copy() // which owns no node, so that At works on it too
	i := sort.Search(len(s.history), func(i int) bool { return s.history[i].Rev > rev })
	past.history = s.history[:i:i]
	return past, nil
}

// Due reports whether a key has a deadline at or before now (Unix
// milliseconds). Only the latest snapshot is worth asking.
func (s *Snapshot) Due(now int64) bool {
	first, ok := s.due.first()
	return ok && first <= now
}

// NextDeadline is the earliest deadline of any key in Unix milliseconds.
func (s *Snapshot) NextDeadline() (int64, bool) { return s.due.first() }
