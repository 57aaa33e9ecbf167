package store

import (
	"context"
	"fmt"
	"time"

	"copepod/plane/store/mvcc"

	"github.com/hashicorp/raft"
)

const (
	// queueLength is how many proposals wait without blocking their callers
	// in the channel; more wait at its end.
	queueLength = 1024
	// inFlight is how many entries are on their way at once: while one is
	// written, the next gathers; a second one keeps the disk from idling
	// while results go back.
	inFlight = 2
)

// proposal is one or more encoded transactions of one caller, to be put into
// one entry together; or a group of another member, to whom only matters
// whether it is in the log.
type proposal struct {
	txns  [][]byte
	group []byte // of another member
	size  int
	done  chan outcome // holds one
}

type outcome struct {
	replies []mvcc.Reply
	err     error
}

func newProposal(txns ...[]byte) *proposal {
	p := &proposal{done: make(chan outcome, 1)}
	for _, t := range txns {
		p.add(t)
	}
	return p
}

func (p *proposal) add(txn []byte) {
	p.txns = append(p.txns, txn)
	p.size += len(txn)
}

func (p *proposal) answer(replies []mvcc.Reply, err error) { p.done <- outcome{replies, err} }

// usable waits until the store answers for the first time.
func (s *Store) usable(ctx context.Context) error {
	select {
	case <-s.ready:
	default:
		select {
		case <-s.ready:
		case <-s.stopped:
		case <-ctx.Done():
			if bad := s.health.err(); bad != nil {
				return fmt.Errorf("%w: %w: %w", ErrUnavailable, bad, ctx.Err())
			}
			return ctx.Err()
		}
	}
	select {
	case <-s.stopped:
		return fmt.Errorf("%w: %w", ErrUnavailable, errStopped)
	default:
		return nil
	}
}

// propose hands the proposal to the committer.
func (s *Store) propose(ctx context.Context, p *proposal) error {
	if err := s.usable(ctx); err != nil {
		return err
	}
	if bad := s.health.err(); bad != nil && !s.Leading() {
		return fmt.Errorf("%w: %w", ErrUnavailable, bad)
	}
	select {
	case s.queue <- p:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-s.stopped:
		return fmt.Errorf("%w: %w", ErrUnavailable, errStopped)
	}
}

// await returns the replies to a proposal.
func (s *Store) await(ctx context.Context, p *proposal) ([]mvcc.Reply, error) {
	select {
	case o := <-p.done:
		return o.replies, o.err
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-s.stopped:
		select { // it may have been answered on the way out
		case o := <-p.done:
			return o.replies, o.err
		default:
			return nil, fmt.Errorf("%w: %w", ErrUnavailable, errStopped)
		}
	}
}

// flight is an entry on its way: a group of the proposals of this member, and
// groups of others. Without a future it waits for a leader elsewhere.
type flight struct {
	future    raft.ApplyFuture
	own       *ownGroup // nil without proposals
	proposals []*proposal
	foreign   []*proposal
	start     time.Time
}

// commit is the group commit: whatever was proposed while the entries before
// were on their way becomes the next entry. It returns when ctx has ended and
// all its entries are answered.
func (s *Store) commit(ctx context.Context, r *raft.Raft) {
	slots := make(chan struct{}, inFlight)
	flights := make(chan flight, inFlight)
	landed := make(chan struct{})
	go func() {
		defer close(landed)
		for f := range flights {
			s.land(ctx, r, f)
			<-slots
		}
	}()
	defer func() {
		close(flights)
		select {
		case <-landed:
		case <-s.raftGone: // which leaves entries that it had not looked at
		}
	}()
	for {
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			return
		}
		select {
		case p := <-s.queue:
			flights <- s.launch(r, s.gather(p))
		case <-ctx.Done():
			return
		}
	}
}

// gather takes what waits in the queue, up to the size of an entry.
func (s *Store) gather(first *proposal) []*proposal {
	ps, size := []*proposal{first}, first.size
	for size < maxEntry {
		select {
		case p := <-s.queue:
			ps, size = append(ps, p), size+p.size
		default:
			return ps
		}
	}
	return ps
}

// launch makes an entry of the proposals and hands it to Raft. While a group
// of ours waits for another leader, those behind it wait too: so they happen
// in the order in which they were made.
func (s *Store) launch(r *raft.Raft, ps []*proposal) flight {
	f := flight{start: time.Now()}
	var parts, txns [][]byte
	for _, p := range ps {
		if p.group != nil {
			f.foreign, parts = append(f.foreign, p), append(parts, p.group)
			continue
		}
		f.proposals = append(f.proposals, p)
		txns = append(txns, p.txns...)
	}
	if len(f.proposals) > 0 {
		f.own = s.groups.begin(txns)
		s.metrics.entryTxns.Observe(float64(len(txns)))
	}
	if !s.mayForward(r) || r.State() == raft.Leader && s.unsettled.Load() == 0 {
		groups := len(parts)
		if f.own != nil {
			groups, parts = groups+1, append(parts, f.own.parts...)
		}
		entry := mvcc.EncodeGroups(f.start, groups, parts...)
		s.metrics.entryBytes.Observe(float64(len(entry)))
		f.future = r.ApplyLog(raft.Log{Data: entry}, 0)
		return f
	}
	s.unsettled.Add(1)
	for _, p := range f.foreign {
		p.answer(nil, s.applyError(raft.ErrNotLeader))
	}
	f.foreign = nil
	return f
}

// mayForward says that another member may lead, and can be asked.
func (s *Store) mayForward(r *raft.Raft) bool { return s.cfg.Forwarder != nil && !s.soleVoter(r) }

// land waits for an entry and gives each proposal its part of the replies.
func (s *Store) land(ctx context.Context, r *raft.Raft, f flight) {
	err := error(nil)
	settled := f.future != nil
	if settled {
		_, err = s.outcome(f.future)
		for _, p := range f.foreign {
			p.answer(nil, err)
		}
		if err == nil && len(f.foreign) > 0 {
			s.nudge(r)
		}
	} else {
		err = s.applyError(raft.ErrNotLeader)
	}
	if f.own != nil {
		if err != nil && !f.own.isDone() && s.mayForward(r) && s.machine.alive() {
			if settled {
				s.unsettled.Add(1)
				settled = false
			}
			err = s.persist(ctx, r, f.own, err)
		}
		s.finish(f, err)
	}
	if !settled {
		s.unsettled.Add(-1)
	}
}

// finish answers the proposals of this member.
func (s *Store) finish(f flight, err error) {
	s.groups.end(f.own)
	s.metrics.commitSeconds.Observe(time.Since(f.start).Seconds())
	var replies []mvcc.Reply
	if f.own.isDone() {
		replies, err = f.own.outcome(s.machine.snapshot()), nil
	} else if err == nil {
		err = fmt.Errorf("%w: its group was given up", ErrUnavailable)
	}
	for _, p := range f.proposals {
		if err != nil {
			s.metrics.txns.WithLabelValues("unavailable").Add(float64(len(p.txns)))
			p.answer(nil, err)
			continue
		}
		s.metrics.count(replies[:len(p.txns)])
		p.answer(replies[:len(p.txns):len(p.txns)], nil)
		replies = replies[len(p.txns):]
	}
}

// nudge lets the other members know at once that what they asked for is
// committed. Raft tells them with the next entry, or after a pause that is
// long for somebody who waits; so without a next entry, one is made.
func (s *Store) nudge(r *raft.Raft) {
	if r.LastIndex() == r.CommitIndex() && len(s.queue) == 0 {
		r.Barrier(0)
	}
}

// settled turns the answer of Raft into a channel: a disk that does not
// answer makes Raft not answer either.
func settled(f raft.Future) <-chan error {
	done := make(chan error, 1)
	go func() { done <- f.Error() }()
	return done
}

// outcome waits for Raft and the state machine.
func (s *Store) outcome(f raft.ApplyFuture) ([]mvcc.Reply, error) {
	if err := f.Error(); err != nil {
		return nil, s.applyError(err)
	}
	a := f.Response().(applied)
	if a.err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, a.err)
	}
	return a.replies, nil
}
