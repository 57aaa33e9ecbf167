package mvcc

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"maps"
	"math"
	"slices"
	"time"
)

// Group is transactions that a proposer puts forward together, as often as it
// takes: they happen at most once. A session is a proposer for as long as it
// lives, named by a random number; it numbers its groups from 1.
type Group struct {
	Session uint64
	Seq     uint64
	// Lowest is the smallest Seq that the proposer still wants to hear of.
	// What lies below is forgotten, and refused if it comes late.
	Lowest uint64
}

// GroupReplies is what the transactions of a group came to.
type GroupReplies struct {
	Group
	Replies []Reply
}

// maxSessions bounds the sessions that are remembered; the one that was heard
// of longest ago makes room. Each is the life of one process.
const maxSessions = 1024

// AppendGroup appends the encoding of a group of transactions, which AppendTxn
// encoded, to dst.
func AppendGroup(dst []byte, g Group, txns ...[]byte) []byte {
	dst = AppendGroupHead(dst, g, len(txns))
	for _, t := range txns {
		dst = append(dst, t...)
	}
	return dst
}

// AppendGroupHead appends what comes before the transactions of a group.
func AppendGroupHead(dst []byte, g Group, txns int) []byte {
	dst = binary.LittleEndian.AppendUint64(dst, g.Session)
	dst = binary.AppendUvarint(dst, g.Seq)
	dst = binary.AppendUvarint(dst, g.Lowest)
	return binary.AppendUvarint(dst, uint64(txns))
}

// EncodeGroups makes a command of so many groups, encoded by AppendGroup, in
// one part or more. now is the time that the deadlines in them count from.
func EncodeGroups(now time.Time, groups int, parts ...[]byte) []byte {
	return encodeParts(kindGroups, now, groups, parts)
}

// ReadGroup reads what AppendGroup made, all of it: what comes from another
// member must be readable before it goes into the log.
func ReadGroup(b []byte) (Group, []Txn, error) {
	g, n, rest, err := decodeGroup(b)
	if err != nil {
		return g, nil, err
	}
	txns := make([]Txn, 0, min(n, 1024))
	var ops []decodedOp
	for range n {
		if ops, rest, err = decodeTxn(ops[:0], rest); err != nil {
			return g, nil, err
		}
		txn := make(Txn, len(ops))
		for i, op := range ops {
			if op.ttl > math.MaxInt64/int64(time.Millisecond) {
				return g, nil, fmt.Errorf("group: %w: TTL of %d ms", ErrCorrupt, op.ttl)
			}
			txn[i] = Op{Kind: op.kind, Key: op.key, Value: op.value, Expect: op.expect, TTL: time.Duration(op.ttl) * time.Millisecond}
		}
		txns = append(txns, txn)
	}
	if len(rest) != 0 {
		return g, nil, fmt.Errorf("group: %w: %d bytes after the last transaction", ErrCorrupt, len(rest))
	}
	return g, txns, nil
}

// decodeGroup reads the head of a group; its transactions begin the rest.
func decodeGroup(b []byte) (g Group, txns int, rest []byte, err error) {
	r := reader{b: b}
	g.Session = r.uint64()
	g.Seq, g.Lowest = r.uvarint(), r.uvarint()
	txns = r.count(r.uvarint())
	if r.bad || txns == 0 || g.Lowest == 0 || g.Seq < g.Lowest {
		return g, 0, nil, fmt.Errorf("group: %w: its head of %d bytes ends early or has no number", ErrCorrupt, len(b))
	}
	return g, txns, r.b, nil
}

// session is what is known of one proposer.
type session struct {
	id     uint64
	lowest uint64
	used   uint64                // greater when used later
	done   map[uint64][]Revision // by Seq: of each transaction, 0 where nothing happened
}

// sessions is the memory that makes groups happen at most once. It depends on
// the commands alone, so it is the same on every member.
type sessions struct {
	byID map[uint64]*session
	tick uint64
}

func newSessions() sessions { return sessions{byID: map[uint64]*session{}} }

// begin says whether the group may happen, and forgets what its proposer has
// heard of.
func (s *sessions) begin(g Group) (*session, bool) {
	e := s.byID[g.Session]
	if e == nil {
		if len(s.byID) >= maxSessions {
			oldest := slices.MinFunc(slices.Collect(maps.Values(s.byID)), func(a, b *session) int { return cmp.Compare(a.used, b.used) })
			delete(s.byID, oldest.id)
		}
		e = &session{id: g.Session, done: map[uint64][]Revision{}}
		s.byID[g.Session] = e
	}
	s.tick++
	e.used = s.tick
	if g.Lowest > e.lowest {
		e.lowest = g.Lowest
		maps.DeleteFunc(e.done, func(seq uint64, _ []Revision) bool { return seq < g.Lowest })
	}
	_, again := e.done[g.Seq]
	return e, !again && g.Seq >= e.lowest
}

func (e *session) end(seq uint64, replies []Reply, before Revision) {
	revs := make([]Revision, len(replies))
	for i, r := range replies {
		if r.Err == nil && r.Result.Rev > before {
			revs[i], before = r.Result.Rev, r.Result.Rev
		}
	}
	e.done[seq] = revs
}

// appendTo encodes the sessions, those used longest ago first.
func (s *sessions) appendTo(b []byte) []byte {
	all := slices.SortedFunc(maps.Values(s.byID), func(a, b *session) int { return cmp.Compare(a.used, b.used) })
	b = binary.AppendUvarint(b, uint64(len(all)))
	for _, e := range all {
		b = binary.LittleEndian.AppendUint64(b, e.id)
		b = binary.AppendUvarint(b, e.lowest)
		b = binary.AppendUvarint(b, uint64(len(e.done)))
		for _, seq := range slices.Sorted(maps.Keys(e.done)) {
			b = binary.AppendUvarint(b, seq)
			b = binary.AppendUvarint(b, uint64(len(e.done[seq])))
			for _, rev := range e.done[seq] {
				b = binary.AppendUvarint(b, uint64(rev))
			}
		}
	}
	return b
}

func (s *sessions) read(r *reader) {
	for range r.count(r.uvarint()) {
		e := &session{id: r.uint64(), lowest: r.uvarint(), done: map[uint64][]Revision{}}
		for range r.count(r.uvarint()) {
			seq := r.uvarint()
			revs := make([]Revision, r.count(r.uvarint()))
			for i := range revs {
				revs[i] = Revision(r.uvarint())
			}
			e.done[seq] = revs
		}
		if r.bad = r.bad || s.byID[e.id] != nil || len(s.byID) >= maxSessions; r.bad {
			return
		}
		s.tick++
		e.used = s.tick
		s.byID[e.id] = e
	}
}

// applyGroups reads all groups before it executes the first, so that a corrupt
// command does nothing.
func (m *Machine) applyGroups(c command) ([]Reply, error) {
	type part struct {
		Group
		first, txns int // of ends
	}
	m.scratch = m.scratch[:0]
	parts := make([]part, 0, c.txns)
	ends := m.ends[:0]
	body := c.body
	for range c.txns {
		g, n, rest, err := decodeGroup(body)
		if err != nil {
			return nil, err
		}
		parts = append(parts, part{g, len(ends), n})
		body = rest
		for range n {
			if m.scratch, body, err = decodeTxn(m.scratch, body); err != nil {
				return nil, err
			}
			ends = append(ends, len(m.scratch))
		}
	}
	if len(body) != 0 {
		return nil, fmt.Errorf("command: %w: %d bytes after the last group", ErrCorrupt, len(body))
	}
	m.ends = ends
	replies := make([]Reply, len(ends))
	start := 0
	for _, p := range parts {
		session, fresh := m.sessions.begin(p.Group)
		before := m.rev
		mine := replies[p.first : p.first+p.txns : p.first+p.txns]
		for i := range mine {
			end := ends[p.first+i]
			if fresh {
				mine[i] = m.txn(c.now, m.scratch[start:end])
			} else {
				mine[i] = Reply{Err: ErrRepeated}
			}
			start = end
		}
		if fresh {
			session.end(p.Seq, mine, before)
			m.groups = append(m.groups, GroupReplies{p.Group, mine})
		}
	}
	clear(m.scratch) // it refers to the command's bytes
	return replies, nil
}

// TakeGroups returns the groups that happened since it was last called.
func (m *Machine) TakeGroups() []GroupReplies {
	g := m.groups
	m.groups = nil
	return g
}

// Outcome tells of a group that happened before, and that its proposer has not
// yet heard of: the revision of each transaction, 0 where nothing changed.
func (m *Machine) Outcome(session, seq uint64) ([]Revision, bool) {
	e := m.sessions.byID[session]
	if e == nil {
		return nil, false
	}
	revs, ok := e.done[seq]
	return revs, ok
}

// Advance moves the revision of a machine that was just read from an image, so
// that no revision after the image is used a second time.
func (m *Machine) Advance(by Revision) {
	m.rev += by
	m.floor, m.compacted = m.rev, m.rev
	m.history, m.historyBytes, m.marks = nil, 0, nil
}
