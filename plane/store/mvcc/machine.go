package mvcc

import (
	"bytes"
	"fmt"
	"sort"
	"time"
)

// Machine is the writing side: one goroutine applies commands to it and
// publishes snapshots. It is not safe for concurrent use; its snapshots are.
type Machine struct {
	limits    Limits
	keys      *tree
	due       *deadlines
	rev       Revision
	floor     Revision
	compacted Revision
	bytes     int64
	now       int64 // the latest time in a command

	history      []Event // of (floor, rev]; published views share its array
	historyBytes int64
	marks        []mark // when revisions happened, for Limits.Age

	sessions sessions
	groups   []GroupReplies // for TakeGroups

	scratch []decodedOp
	ends    []int // of transactions in scratch
}

// mark says that everything up to rev had happened by the time now.
type mark struct {
	rev Revision
	now int64
}

// NewMachine returns an empty store at revision 0.
func NewMachine(limits Limits) *Machine {
	return &Machine{limits: limits.withDefaults(), keys: new(tree), due: new(deadlines), sessions: newSessions()}
}

// Apply executes one encoded command. There is a reply for each of its
// transactions. An error (ErrCorrupt, ErrNewerFormat) means that the command
// could not be read and that nothing of it happened.
func (m *Machine) Apply(command []byte) ([]Reply, error) {
	c, err := decodeCommand(command)
	if err != nil {
		return nil, err
	}
	m.now = max(m.now, c.now)
	var replies []Reply
	switch c.kind {
	case kindTxns:
		replies, err = m.applyTxns(c)
	case kindGroups:
		replies, err = m.applyGroups(c)
	case kindExpire:
		replies = []Reply{m.expire(c.now, c.limit)}
	case kindCompact:
		replies = []Reply{m.compact(c.rev)}
	}
	if n := len(m.marks); n == 0 || m.marks[n-1].rev != m.rev {
		m.marks = append(m.marks, mark{m.rev, m.now})
	}
	return replies, err
}

// applyTxns reads all transactions before it executes the first, so that a
// corrupt command does nothing.
func (m *Machine) applyTxns(c command) ([]Reply, error) {
	m.scratch = m.scratch[:0]
	ends := make([]int, 0, c.txns)
	body := c.body
	var err error
	for range c.txns {
		if m.scratch, body, err = decodeTxn(m.scratch, body); err != nil {
			return nil, err
		}
		ends = append(ends, len(m.scratch))
	}
	if len(body) != 0 {
		return nil, fmt.Errorf("command: %w: %d bytes after the last transaction", ErrCorrupt, len(body))
	}
	replies := make([]Reply, c.txns)
	start := 0
	for i, end := range ends {
		replies[i] = m.txn(c.now, m.scratch[start:end])
		start = end
	}
	clear(m.scratch) // it refers to the command's bytes
	return replies, nil
}

func (m *Machine) txn(now int64, ops []decodedOp) Reply {
	results := make([]OpResult, len(ops))
	effective := false
	for i := range ops {
		op := &ops[i]
		prev, _ := m.keys.Get(op.key)
		if !op.expect.met(prev) {
			return Reply{Err: &ConflictError{Op: i, Key: op.key, Current: prev, Rev: m.rev, want: op.expect}}
		}
		results[i] = OpResult{Prev: prev, Cur: prev}
		effective = effective || op.kind == Put || op.kind == Delete && prev != nil
	}
	if !effective {
		return Reply{Result: Result{Rev: m.rev, Ops: results}}
	}
	m.rev++
	for i := range ops {
		op, r := &ops[i], &results[i]
		if len(ops) > 1 { // an operation before may have had the same key
			r.Prev, _ = m.keys.Get(op.key)
		}
		switch op.kind {
		case Put:
			r.Cur = m.version(now, op, r.Prev)
			m.put(r.Cur, r.Prev)
		case Delete:
			r.Cur = nil
			if r.Prev != nil {
				m.delete(r.Prev)
			}
		}
	}
	return Reply{Result: Result{Rev: m.rev, Ops: results}}
}

// version makes the next version of a key at the current revision.
func (m *Machine) version(now int64, op *decodedOp, prev *KV) *KV {
	kv := &KV{Key: op.key, Value: bytes.Clone(op.value), Rev: m.rev, Created: m.rev, Version: 1}
	if prev != nil {
		kv.Key, kv.Created, kv.Version = prev.Key, prev.Created, prev.Version+1
	}
	if op.ttl > 0 {
		kv.Expires = now + op.ttl
	}
	return kv
}

func (m *Machine) put(kv, prev *KV) {
	m.keys.Set(kv.Key, kv)
	m.bytes += kv.size()
	if prev != nil {
		m.bytes -= prev.size()
	}
	m.due.replace(prev, kv)
	m.record(Event{Rev: m.rev, Cur: kv, Prev: prev})
}

func (m *Machine) delete(prev *KV) {
	m.keys.Delete(prev.Key)
	m.bytes -= prev.size()
	m.due.replace(prev, nil)
	m.record(Event{Rev: m.rev, Prev: prev})
}

// expire deletes keys whose deadline has passed, each at its own revision, so
// that a watch can resume between any two of them.
func (m *Machine) expire(now int64, limit int) Reply {
	var ops []OpResult
	for _, key := range m.due.due(now, limit) {
		kv, _ := m.keys.Get(key)
		m.rev++
		m.delete(kv)
		ops = append(ops, OpResult{Prev: kv})
	}
	return Reply{Result: Result{Rev: m.rev, Ops: ops}}
}

func (m *Machine) compact(rev Revision) Reply {
	switch {
	case rev > m.rev:
		return Reply{Err: fmt.Errorf("compact to revision %d: %w: the current one is %d", rev, ErrFutureRevision, m.rev)}
	case rev <= m.compacted:
		return Reply{Err: fmt.Errorf("compact to revision %d: %w", rev, ErrCompacted)}
	}
	m.compacted = rev
	m.trimTo(rev)
	return Reply{Result: Result{Rev: m.rev}}
}

// Publish trims history to its limits and returns the current state. What was
// published earlier stays as it was.
func (m *Machine) Publish() *Snapshot {
	m.trim()
	return &Snapshot{
		keys:      m.keys.Copy(),
		due:       m.due.copy(),
		rev:       m.rev,
		floor:     m.floor,
		compacted: m.compacted,
		bytes:     m.bytes,
		history:   m.history[:len(m.history):len(m.history)],
	}
}

const eventOverhead = 64 // the event, its share of spare capacity and marks

func historySize(e Event) int64 {
	if e.Prev == nil {
		return eventOverhead
	}
	return eventOverhead + e.Prev.size()
}

func (m *Machine) record(e Event) {
	m.history = append(m.history, e)
	m.historyBytes += historySize(e)
}

// trim drops the oldest events until history keeps to its limits.
func (m *Machine) trim() {
	oldest := m.now - int64(m.limits.Age/time.Millisecond)
	to, i := m.floor, 0
	for ; i < len(m.marks) && m.marks[i].now < oldest; i++ {
		to = m.marks[i].rev
	}
	m.trimTo(to)

	over, n := m.historyBytes-m.limits.Bytes, 0
	for ; over > 0 && n < len(m.history); n++ {
		over -= historySize(m.history[n])
	}
	if n > 0 {
		m.trimTo(m.history[n-1].Rev)
	}
}

// trimTo drops the events of all revisions up to and including rev.
func (m *Machine) trimTo(rev Revision) {
	if rev <= m.floor {
		return
	}
	m.floor = rev
	n := sort.Search(len(m.history), func(i int) bool { return m.history[i].Rev > rev })
	for _, e := range m.history[:n] {
		m.historyBytes -= historySize(e)
	}
	m.history = m.history[n:]
	if len(m.history) == 0 {
		m.history = nil // let go of the array
	}
	for len(m.marks) > 0 && m.marks[0].rev <= rev {
		m.marks = m.marks[1:]
	}
}
