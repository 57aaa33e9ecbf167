// Package mvcc is the pure core of the store: a revisioned map from string
// keys to bytes. A Machine applies encoded commands one after the other; each
// effective transaction is one revision; Publish hands out an immutable
// Snapshot that any number of readers share without a lock.
//
// It knows revisions, expectations, deadlines that arrive inside commands and
// the recent events that lead from one revision to the next. It never learns
// of Raft, files, clocks or goroutines: the same commands give the same
// revisions and the same keys on every machine and in every year.
//
//	m := mvcc.NewMachine(mvcc.Limits{})
//	replies, err := m.Apply(mvcc.EncodeTxns(now, txn))
//	snap := m.Publish()
//	kv := snap.Get("a")
package mvcc

import (
	"errors"
	"fmt"
	"math"
	"sync/atomic"
	"time"
)

// Revision counts the effective transactions since the store was made. The
// first one is 1; 0 is the empty store.
type Revision uint64

// KV is one version of one key. It is shared between all readers and never
// changes after it was published; take a copy of Value before changing it.
// All pointers to the same version of a key are equal.
type KV struct {
	// Key and Value are what was put.
	Key   string
	Value []byte
	// Rev is the revision that wrote this version, Created the one that
	// made the key, and Version counts writes since then, starting at 1.
	Rev, Created Revision
	Version      uint64
	// Expires is the deadline of the key in Unix milliseconds, 0 for none.
	// The key stays readable until its deletion has gone through the log.
	Expires int64
	// Derived belongs to the reader: a place to hang the decoded form of
	// Value, so that it is decoded once. The store never looks at it.
	Derived atomic.Pointer[any]
}

// size is the memory that one version pins: struct, key and value.
func (kv *KV) size() int64 { return kvOverhead + int64(len(kv.Key)+len(kv.Value)) }

const kvOverhead = 88 // the struct and its pointer in the tree

// Event is one change of one key. A put has Cur, an overwrite Cur and Prev, a
// delete only Prev. An event with neither is a progress notification: every
// change up to and including Rev has been seen.
type Event struct {
	Rev  Revision
	Cur  *KV
	Prev *KV
}

// IsProgress says that the event carries no change, only how far its watch is.
func (e Event) IsProgress() bool { return e.Cur == nil && e.Prev == nil }

// Key is the key that changed, empty for a progress notification.
func (e Event) Key() string {
	switch {
	case e.Cur != nil:
		return e.Cur.Key
	case e.Prev != nil:
		return e.Prev.Key
	}
	return ""
}

// Kind is what an Op does.
type Kind uint8

// The kinds of operation.
const (
	Put    Kind = iota + 1 // write Value under Key
	Delete                 // remove Key; of an absent key it does nothing
	Check                  // only judge Expect, write nothing
)

// Expect is the state that a key must be in for its transaction to happen.
// The zero value accepts any state.
type Expect uint64

// Expectations without a revision; see Exact for the other.
const (
	Any    Expect = 0
	Absent Expect = math.MaxUint64
	never  Expect = math.MaxUint64 - 1
)

// Exact expects the key to exist and to have been written last at rev.
// Nothing was ever written at revision 0: Exact(0) is never met.
func Exact(rev Revision) Expect {
	if rev == 0 || Expect(rev) >= never {
		return never
	}
	return Expect(rev)
}

// met judges the expectation; cur is nil when the key is absent.
func (x Expect) met(cur *KV) bool {
	switch x {
	case Any:
		return true
	case Absent:
		return cur == nil
	}
	return cur != nil && Expect(cur.Rev) == x
}

// Op is one operation of a transaction.
type Op struct {
	Kind   Kind
	Key    string
	Value  []byte // of a Put; copied, the caller may reuse it
	Expect Expect
	// TTL lets a Put expire that long after the time in its command,
	// counted in whole milliseconds; 0 is never.
	TTL time.Duration
}

// Txn is a list of operations on different keys that happen all or not at
// all, at one revision.
type Txn []Op

// Result is what a transaction did.
type Result struct {
	// Rev is the revision of the transaction, or the current revision if
	// it changed nothing.
	Rev Revision
	// Ops has an element for each operation, in order.
	Ops []OpResult
}

// OpResult is the key of one operation before and after it; nil is absent.
type OpResult struct {
	Prev, Cur *KV
}

// Reply is the answer to one transaction of a command: Result, or Err which
// is a *ConflictError.
type Reply struct {
	Result Result
	Err    error
}

// ConflictError reports the first operation whose expectation was not met.
// Nothing of its transaction happened.
type ConflictError struct {
	Op      int      // index of the operation in its transaction
	Key     string   // its key
	Current *KV      // what the key holds, nil when absent
	Rev     Revision // the revision at which it was judged
	want    Expect
}

func (e *ConflictError) Error() string {
	found := "it is absent"
	if e.Current != nil {
		found = fmt.Sprintf("it is at revision %d", e.Current.Rev)
	}
	switch e.want {
	case Absent:
		return fmt.Sprintf("key %q: must be absent: %s", e.Key, found)
	case never:
		return fmt.Sprintf("key %q: must be at a revision that cannot be: %s", e.Key, found)
	}
	return fmt.Sprintf("key %q: must be at revision %d: %s", e.Key, e.want, found)
}

var (
	// ErrCompacted says that the revision asked for is no longer kept.
	// Take a new snapshot and go on from its revision.
	ErrCompacted = errors.New("revision has been compacted")
	// ErrFutureRevision says that the revision asked for has not happened.
	ErrFutureRevision = errors.New("revision is in the future")
	// ErrCorrupt says that bytes which we wrote came back different.
	ErrCorrupt = errors.New("corrupt")
	// ErrRepeated says that the group of the transaction happened before, or
	// that its proposer has given it up.
	ErrRepeated = errors.New("happened before or was given up")
	// ErrNewerFormat says that a later version of this program wrote it.
	ErrNewerFormat = errors.New("written by a newer version: upgrade this one")
)

// Limits bound the events that are kept for watches and for At. Zero fields
// take the defaults.
type Limits struct {
	// Bytes bounds the memory that only history keeps alive: superseded
	// versions and the events themselves. Default 64 MiB.
	Bytes int64
	// Age bounds how long an event is kept, by the times in the commands.
	// Default 5 minutes.
	Age time.Duration
}

func (l Limits) withDefaults() Limits {
	if l.Bytes <= 0 {
		l.Bytes = 64 << 20
	}
	if l.Age <= 0 {
		l.Age = 5 * time.Minute
	}
	return l
}
