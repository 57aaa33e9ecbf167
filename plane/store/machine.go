package store

import (
	"fmt"
	"io"
	"sync/atomic"

	"copepod/plane/store/mvcc"

	"github.com/hashicorp/raft"
)

// machine is the replicated state machine: Raft calls it from one goroutine,
// readers load what it published. It implements raft.BatchingFSM.
type machine struct {
	limits  mvcc.Limits
	m       *mvcc.Machine // owned by the goroutine of Raft
	state   atomic.Pointer[mvcc.Snapshot]
	health  *health
	changed func() // called after each publication
	groups  *groups

	logged   atomic.Int64 // bytes of log since the last snapshot
	entries  atomic.Int64 // and entries
	tooLong  chan struct{}
	maxBytes atomic.Int64  // beyond which tooLong is signalled
	broken   error         // an entry could not be applied: nothing after it may be
	dead     chan struct{} // closed when broken is set
}

// applied is what the machine returns for an entry.
type applied struct {
	replies []mvcc.Reply
	err     error
}

func newMachine(limits mvcc.Limits, h *health, g *groups) *machine {
	m := &machine{limits: limits, m: mvcc.NewMachine(limits), health: h, groups: g, tooLong: make(chan struct{}, 1), dead: make(chan struct{})}
	m.maxBytes.Store(1 << 62)
	m.state.Store(m.m.Publish())
	return m
}

func (m *machine) snapshot() *mvcc.Snapshot { return m.state.Load() }

// Apply executes one entry.
func (m *machine) Apply(l *raft.Log) any { return m.ApplyBatch([]*raft.Log{l})[0] }

// ApplyBatch executes entries in order and publishes the state after them.
func (m *machine) ApplyBatch(logs []*raft.Log) []any {
	results := make([]any, len(logs))
	var size int64
	for i, l := range logs {
		if l.Type == raft.LogCommand {
			results[i] = m.apply(l)
			size += int64(len(l.Data))
		}
	}
	m.publish()
	m.groups.happened(m.m.TakeGroups())
	m.entries.Add(int64(len(logs)))
	if m.logged.Add(size) > m.maxBytes.Load() {
		select {
		case m.tooLong <- struct{}{}:
		default:
		}
	}
	return results
}

// apply executes one entry. An entry that cannot be read stops the machine
// for good, and with it Run: to skip it would make this member differ from
// the others.
func (m *machine) apply(l *raft.Log) applied {
	if m.broken != nil {
		return applied{err: m.broken}
	}
	replies, err := m.m.Apply(l.Data)
	if err != nil {
		m.broken = fmt.Errorf("log entry %d: %w", l.Index, err)
		m.health.latch(m.broken)
		close(m.dead)
		return applied{err: m.broken}
	}
	return applied{replies: replies}
}

// alive says that no entry has stopped the machine.
func (m *machine) alive() bool {
	select {
	case <-m.dead:
		return false
	default:
		return true
	}
}

func (m *machine) publish() {
	m.state.Store(m.m.Publish())
	if m.changed != nil {
		m.changed()
	}
}

// Snapshot is called between entries; what it returns is written to disk
// while more entries are applied.
func (m *machine) Snapshot() (raft.FSMSnapshot, error) {
	if m.broken != nil {
		return nil, m.broken
	}
	m.logged.Store(0)
	m.entries.Store(0)
	return image{m.m.Image()}, nil
}

// Restore replaces the state by a snapshot, after all of it was verified.
func (m *machine) Restore(r io.ReadCloser) error {
	defer r.Close()
	restored, err := mvcc.ReadImage(r, m.limits)
	if err != nil {
		return err
	}
	m.m = restored
	m.publish()
	m.groups.jumped(m.m)
	return nil
}

// image is a state on its way to a snapshot file.
type image struct{ mvcc.Image }

// Persist streams the state.
func (i image) Persist(sink raft.SnapshotSink) error {
	if err := i.Write(sink); err != nil {
		sink.Cancel()
		return err
	}
	return sink.Close()
}

// Release does nothing: the state is garbage once nobody refers to it.
func (image) Release() {}
