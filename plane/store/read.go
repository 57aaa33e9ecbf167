package store

import (
	"fmt"
	"slices"
	"sync"
	"time"

	"copepod/plane/store/mvcc"
)

// Snapshot is the present as far as it is applied here: no lock, no copy, no
// waiting. On the leader it holds every acknowledged write; call ReadIndex
// first to be certain of that.
func (s *Store) Snapshot() *Snapshot { return s.machine.snapshot() }

// Revision is the revision of Snapshot.
func (s *Store) Revision() Revision { return s.Snapshot().Revision() }

// At is the store as it was at rev. It fails with ErrCompacted when the
// events since then are no longer kept and with ErrFutureRevision.
func (s *Store) At(rev Revision) (*Snapshot, error) {
	now := s.Snapshot()
	if rev == now.Revision() {
		return now, nil
	}
	past, err := s.past.at(now, rev)
	if err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	return past, nil
}

// Bounds of the snapshots of the past that are kept for the next caller, who
// is likely to ask for the next page of the same list.
const (
	pastKept = 8
	pastIdle = time.Minute
)

// past keeps snapshots that somebody asked for. Making one costs time, keeping
// one costs the versions that only it refers to.
type past struct {
	mu   sync.Mutex // guards what follows
	kept []visit    // the latest used last
}

type visit struct {
	snap *mvcc.Snapshot
	used time.Time
}

func (p *past) at(now *mvcc.Snapshot, rev Revision) (*mvcc.Snapshot, error) {
	if rev < now.Compacted() || rev > now.Revision() {
		return now.At(rev) // for its error
	}
	if snap := p.find(rev); snap != nil {
		return snap, nil
	}
	snap, err := p.nearest(now, rev).At(rev)
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.kept) == pastKept {
		p.kept = slices.Delete(p.kept, 0, 1)
	}
	p.kept = append(p.kept, visit{snap, time.Now()})
	return snap, nil
}

func (p *past) find(rev Revision) *mvcc.Snapshot {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, v := range p.kept {
		if v.snap.Revision() == rev {
			v.used = time.Now()
			p.kept = append(slices.Delete(p.kept, i, i+1), v)
			return v.snap
		}
	}
	return nil
}

// nearest is the kept snapshot from which the fewest events lead back to rev.
func (p *past) nearest(now *mvcc.Snapshot, rev Revision) *mvcc.Snapshot {
	p.mu.Lock()
	defer p.mu.Unlock()
	best := now
	for _, v := range p.kept {
		if r := v.snap.Revision(); r >= rev && r < best.Revision() {
			best = v.snap
		}
	}
	return best
}

// forget drops what was not used for a while or is older than history.
func (p *past) forget(now *mvcc.Snapshot) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.kept = slices.DeleteFunc(p.kept, func(v visit) bool {
		return time.Since(v.used) > pastIdle || v.snap.Revision() < now.Compacted()
	})
}
