package store

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"time"

	"copepod/plane/store/mvcc"

	"github.com/hashicorp/raft"
)

const (
	// retryFor bounds how long a group is put forward again and again while
	// leaders come and go.
	retryFor = 10 * time.Second
	// attemptFor bounds one attempt: the leader may be gone without a word.
	attemptFor = 2 * time.Second
	// retryPause is what lies between two attempts, unless the leader changes.
	retryPause = 20 * time.Millisecond
)

// ownGroup is a group that this member puts forward. It has happened when our
// own machine says so, however it got into the log.
type ownGroup struct {
	mvcc.Group
	parts [][]byte      // its encoding
	done  chan struct{} // closed when it has happened here; then one of these is set
	// replies are what its transactions came to; revs is all that is known
	// of that when it happened before a snapshot that this member took.
	replies []mvcc.Reply
	revs    []mvcc.Revision
}

// groups numbers what this member puts forward and waits for it.
type groups struct {
	session uint64

	mu      sync.Mutex // guards what follows
	last    uint64
	waiting map[uint64]*ownGroup
}

func (g *groups) begin(txns [][]byte) *ownGroup {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.last++
	own := &ownGroup{Group: mvcc.Group{Session: g.session, Seq: g.last, Lowest: g.last}, done: make(chan struct{})}
	for seq := range g.waiting {
		own.Lowest = min(own.Lowest, seq)
	}
	g.waiting[g.last] = own
	own.parts = append(make([][]byte, 0, len(txns)+1), mvcc.AppendGroupHead(nil, own.Group, len(txns)))
	own.parts = append(own.parts, txns...)
	return own
}

// end forgets a group, whether it has happened or not.
func (g *groups) end(own *ownGroup) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.waiting, own.Seq)
}

// happened tells whoever waits. The machine calls it after publishing.
func (g *groups) happened(all []mvcc.GroupReplies) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, r := range all {
		if own := g.waiting[r.Seq]; r.Session == g.session && own != nil && !own.isDone() {
			own.replies = r.Replies
			close(own.done)
		}
	}
}

// jumped looks for what happened before a snapshot that the machine took.
func (g *groups) jumped(m *mvcc.Machine) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for seq, own := range g.waiting {
		if revs, ok := m.Outcome(g.session, seq); ok && !own.isDone() {
			own.revs = revs
			close(own.done)
		}
	}
}

func (o *ownGroup) isDone() bool {
	select {
	case <-o.done:
		return true
	default:
		return false
	}
}

// outcome is what the transactions of a group that is done came to. What was
// lost with a snapshot is told as far as the keys still tell it.
func (o *ownGroup) outcome(now *mvcc.Snapshot) []mvcc.Reply {
	if o.replies != nil {
		return o.replies
	}
	replies := make([]mvcc.Reply, len(o.revs))
	_, txns, err := mvcc.ReadGroup(bytes.Join(o.parts, nil))
	for i, rev := range o.revs {
		switch {
		case err != nil || i >= len(txns):
			replies[i].Err = fmt.Errorf("%w: its result is lost", ErrUnavailable)
		case rev == 0:
			replies[i].Err = fmt.Errorf("%w: nothing was changed, and why is lost because this member was far behind: try again", ErrUnavailable)
		default:
			replies[i] = recollect(now, rev, txns[i])
		}
	}
	return replies
}

// recollect reconstructs the result of a transaction that made new keys. Of
// others nobody remembers what was there before.
func recollect(now *mvcc.Snapshot, rev mvcc.Revision, txn mvcc.Txn) mvcc.Reply {
	ops := make([]OpResult, len(txn))
	for i, op := range txn {
		kv := now.Get(op.Key)
		if op.Kind != Put || kv == nil || kv.Rev != rev || kv.Version != 1 {
			return mvcc.Reply{Err: fmt.Errorf("%w: it happened at revision %d, but its result is lost because this member was far behind", ErrUnavailable, rev)}
		}
		ops[i].Cur = kv
	}
	return mvcc.Reply{Result: Result{Rev: rev, Ops: ops}}
}

// persist puts a group forward until it has happened here, ctx ends, or
// patience does. err is why it did not happen at first.
func (s *Store) persist(ctx context.Context, r *raft.Raft, own *ownGroup, err error) error {
	group := bytes.Join(own.parts, nil)
	deadline := time.NewTimer(retryFor)
	defer deadline.Stop()
	for {
		changed := s.leaders.next()
		attempt := make(chan error, 1)
		actx, cancel := context.WithTimeout(ctx, attemptFor)
		go func() { attempt <- s.putForward(actx, r, group) }()
		again := (<-chan time.Time)(nil)
		for waiting := true; waiting; {
			select {
			case e := <-attempt:
				if attempt = nil; e == nil { // it happened, and comes here with the log
					again = time.After(attemptFor)
					continue
				}
				if errors.Is(e, ErrInvalid) {
					cancel()
					return e
				}
				err, again = e, time.After(retryPause)
			case <-again:
				waiting = false
			case <-changed:
				waiting = false
			case <-own.done:
				cancel()
				return nil
			case <-deadline.C:
				cancel()
				return s.gaveUp(err)
			case <-ctx.Done():
				cancel()
				return fmt.Errorf("%w: %w", ErrUnavailable, errStopped)
			}
		}
		cancel()
	}
}

func (s *Store) gaveUp(err error) error {
	if bad := s.health.err(); bad != nil {
		err = bad
	}
	return fmt.Errorf("%w: tried for %v: %w", ErrUnavailable, retryFor, err)
}

// putForward tries once to get a group into the log, here or at the leader.
func (s *Store) putForward(ctx context.Context, r *raft.Raft, group []byte) error {
	if r.State() == raft.Leader {
		_, err := s.apply(ctx, r, mvcc.EncodeGroups(time.Now(), 1, group))
		return err
	}
	_, err := s.ask(ctx, askPropose, group)
	return err
}

// newSession names the life of a store, never 0.
func newSession() uint64 {
	var b [8]byte
	_, _ = rand.Read(b[:]) // it does not fail
	return binary.LittleEndian.Uint64(b[:]) | 1
}
