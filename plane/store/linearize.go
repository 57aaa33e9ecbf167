package store

import (
	"context"
	"encoding/binary"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// ReadIndex returns when Snapshot holds every write that was acknowledged
// anywhere before the call: what is read after it is linearizable. A member
// that does not lead asks the leader how far that is, and waits until it is
// there itself; without a Forwarder it fails with ErrNotLeader.
func (s *Store) ReadIndex(ctx context.Context) error {
	if err := s.usable(ctx); err != nil {
		return err
	}
	r := s.raft.Load()
	if s.Leading() || !s.mayForward(r) {
		_, err := s.readHere(ctx, r)
		if err == nil || !s.mayForward(r) || ctx.Err() != nil {
			return err
		}
	}
	round := s.reads.join(s)
	select {
	case <-round.done:
	case <-ctx.Done():
		return ctx.Err()
	case <-s.stopped:
		return fmt.Errorf("%w: %w", ErrUnavailable, errStopped)
	}
	if round.err != nil {
		return round.err
	}
	return s.waitFor(ctx, round.rev)
}

// readHere is the revision that holds everything acknowledged so far, if this
// member leads: a leader applies before it acknowledges, so it must only still
// be one.
func (s *Store) readHere(ctx context.Context, r *raft.Raft) (Revision, error) {
	if !s.Leading() {
		return 0, s.applyError(raft.ErrNotLeader)
	}
	rev := s.Revision()
	if s.soleVoter(r) {
		return rev, nil
	}
	select {
	case err := <-settled(r.VerifyLeader()):
		if err == nil {
			return rev, nil
		}
		return 0, s.applyError(raft.ErrNotLeader)
	case <-ctx.Done():
		return 0, ctx.Err()
	case <-s.raftGone:
		return 0, fmt.Errorf("%w: %w", ErrUnavailable, errStopped)
	}
}

// waitFor waits until the revision is applied here.
func (s *Store) waitFor(ctx context.Context, rev Revision) error {
	if s.Revision() >= rev {
		return nil
	}
	deadline := time.NewTimer(retryFor)
	defer deadline.Stop()
	for {
		moved := s.moved.next()
		if s.Revision() >= rev {
			return nil
		}
		select {
		case <-moved:
		case <-deadline.C:
			return s.gaveUp(fmt.Errorf("this member is at revision %d, the leader was at %d", s.Revision(), rev))
		case <-ctx.Done():
			return ctx.Err()
		case <-s.stopped:
			return fmt.Errorf("%w: %w", ErrUnavailable, errStopped)
		}
	}
}

// reads lets readers on a follower share questions to the leader. Who comes
// while one is on its way needs the next: the answer to the first may be from
// before.
type reads struct {
	mu      sync.Mutex // guards what follows
	next    *readRound
	running bool
}

type readRound struct {
	done chan struct{}
	rev  Revision
	err  error
}

func (q *reads) join(s *Store) *readRound {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.next == nil {
		q.next = &readRound{done: make(chan struct{})}
	}
	if !q.running {
		q.running = true
		go q.run(s) // it ends with the last round, which ends with the store
	}
	return q.next
}

func (q *reads) run(s *Store) {
	for {
		q.mu.Lock()
		round := q.next
		q.next = nil
		q.running = round != nil
		q.mu.Unlock()
		if round == nil {
			return
		}
		round.rev, round.err = s.readAtLeader(s.life)
		close(round.done)
	}
}

func (s *Store) readAtLeader(ctx context.Context) (Revision, error) {
	var rev Revision
	answer, err := s.atLeader(ctx, askRead, binary.AppendUvarint(nil, uint64(s.Revision())),
		func(ctx context.Context, r *raft.Raft) (err error) {
			rev, err = s.readHere(ctx, r)
			return err
		})
	if err != nil || answer == nil {
		return rev, err
	}
	v, n := binary.Uvarint(answer)
	if n <= 0 {
		return 0, fmt.Errorf("%w: the leader's answer ends early", ErrUnavailable)
	}
	return Revision(v), nil
}
