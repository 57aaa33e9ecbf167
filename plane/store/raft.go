package store

import (
	"context"
	"encoding/binary"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// Timeouts between members. A leader that is lost is replaced in at most
// twice the sum of the first two; a cluster of one elects itself at once, see
// electNow.
const (
	heartbeatTimeout = 500 * time.Millisecond
	electionTimeout  = 500 * time.Millisecond
	leaseTimeout     = 250 * time.Millisecond
	// commitTimeout is how late a follower may learn that an entry is
	// committed when no other entry follows it.
	commitTimeout = 10 * time.Millisecond
	// neverSnapshot keeps Raft from cutting the log by itself: it counts
	// entries, compactLog counts bytes.
	neverSnapshot = 1 << 62
)

func (s *Store) raftConfig() *raft.Config {
	c := raft.DefaultConfig()
	c.LocalID = raft.ServerID(s.cfg.NodeID)
	c.HeartbeatTimeout = heartbeatTimeout + time.Millisecond // electNow lowers it
	c.ElectionTimeout = electionTimeout + time.Millisecond   // not less than the heartbeat
	c.LeaderLeaseTimeout = leaseTimeout
	c.CommitTimeout = commitTimeout
	c.BatchApplyCh = true
	c.SnapshotThreshold = neverSnapshot
	c.SnapshotInterval = 24 * time.Hour
	c.NoSnapshotRestoreOnStart = true // Open did, and reports what is wrong
	c.NoLegacyTelemetry = true
	c.ShutdownOnRemove = false // it may be added again
	c.Logger = newRaftLog(s.log)
	return c
}

// startRaft bootstraps a new cluster if there is none, and starts Raft.
// hangUp ends what the transport still does once Raft has stopped.
func (s *Store) startRaft() (_ *raft.Raft, hangUp func(), err error) {
	conf := s.raftConfig()
	trans, addr, hangUp := s.transport()
	defer func() {
		if err != nil {
			hangUp()
		}
	}()
	snaps := s.disk.snapshots
	if err := s.bootstrap(conf, trans, addr); err != nil {
		return nil, nil, err
	}
	r, err := raft.NewRaft(conf, s.machine, s.disk.guardLogs(&s.health, s.metrics, s.log), s.disk.guardStable(&s.health, s.log), snaps, trans)
	if err != nil {
		return nil, nil, fmt.Errorf("start raft: %w", err)
	}
	return r, hangUp, nil
}

// soleVoter says that this member is the only voter, so that nobody else can
// lead or needs to be asked.
func (s *Store) soleVoter(r *raft.Raft) bool {
	f := r.GetConfiguration()
	if f.Error() != nil {
		return false
	}
	voters := 0
	self := false
	for _, srv := range f.Configuration().Servers {
		if srv.Suffrage == raft.Voter {
			voters++
			self = self || string(srv.ID) == s.cfg.NodeID
		}
	}
	return self && voters == 1
}

// electNow spares a cluster of one the wait for a leader that cannot be:
// a lower heartbeat timeout makes Raft look at its timer at once. It matters
// to nobody else, so others' timers are left as they are.
func (s *Store) electNow(r *raft.Raft) {
	if !s.soleVoter(r) {
		return
	}
	rc := r.ReloadableConfig()
	rc.HeartbeatTimeout = heartbeatTimeout
	if err := r.ReloadConfig(rc); err != nil {
		s.log.Warn("election is not sped up", "reason", err)
	}
}

// follow tracks who leads. A leader is usable once it has applied all that
// the leaders before it have acknowledged.
func (s *Store) follow(ctx context.Context, r *raft.Raft) {
	observed := make(chan raft.Observation, 16)
	o := raft.NewObserver(observed, false, func(o *raft.Observation) bool {
		_, ok := o.Data.(raft.LeaderObservation)
		return ok
	})
	r.RegisterObserver(o)
	defer r.DeregisterObserver(o)
	catchUp := time.NewTicker(5 * time.Millisecond) // until ready only
	defer catchUp.Stop()
	var wg sync.WaitGroup
	defer wg.Wait()
	asking := make(chan struct{}, 1)
	for {
		select {
		case <-ctx.Done():
			s.leadTerm.Store(0)
			s.leaders.signal()
			return
		case lead := <-r.LeaderCh():
			s.lead(ctx, r, lead)
		case <-observed:
			s.leaders.signal()
		case <-catchUp.C:
			s.askIfFollower(ctx, r, &wg, asking)
		}
		select {
		case <-s.ready:
			catchUp.Stop()
		default:
		}
	}
}

// askIfFollower looks, until the store is ready, whether there is a leader to
// catch up with; one question at a time is on its way.
func (s *Store) askIfFollower(ctx context.Context, r *raft.Raft, wg *sync.WaitGroup, asking chan struct{}) {
	_, id := r.LeaderWithID()
	switch {
	case id == "" || string(id) == s.cfg.NodeID:
	case s.cfg.Forwarder == nil:
		if r.AppliedIndex() >= r.CommitIndex() && r.CommitIndex() > 0 {
			s.setReady()
		}
	default:
		select {
		case asking <- struct{}{}:
			wg.Go(func() {
				s.catchUp(ctx)
				<-asking
			})
		default:
		}
	}
}

// catchUp makes a follower ready once it has applied what the leader had when
// it was asked. What Raft tells a follower is committed is bounded by what that
// has received, so it says little about one that has just joined.
func (s *Store) catchUp(ctx context.Context) {
	actx, cancel := context.WithTimeout(ctx, attemptFor)
	defer cancel()
	answer, err := s.ask(actx, askRead, binary.AppendUvarint(nil, uint64(s.Revision())))
	if err == nil {
		rev, _ := binary.Uvarint(answer)
		err = s.waitFor(ctx, Revision(rev))
	}
	if err == nil {
		s.setReady()
		return
	}
	s.log.Debug("not ready yet", "reason", err)
	select {
	case <-time.After(retryPause):
	case <-ctx.Done():
	}
}

// lead handles that this member became the leader, or ceased to be.
func (s *Store) lead(ctx context.Context, r *raft.Raft, lead bool) {
	if lead {
		term := r.CurrentTerm()
		select {
		case err := <-settled(r.Barrier(0)):
			if err == nil {
				s.leadTerm.Store(term)
				s.setReady()
				s.log.Info("this member leads", "term", term, "rev", s.Revision())
			}
		case <-ctx.Done():
		}
	} else if s.leadTerm.Swap(0) != 0 {
		s.log.Info("this member no longer leads")
	}
	s.leaders.signal()
}

// Leader is the member that leads, empty while none is known.
func (s *Store) Leader() (id, address string) {
	r := s.raft.Load()
	if r == nil {
		return "", ""
	}
	a, i := r.LeaderWithID()
	return string(i), string(a)
}

// Leading says that this member leads and has applied all that was
// acknowledged before. Another may have taken over meanwhile; only what goes
// through the log is certain.
func (s *Store) Leading() bool {
	r := s.raft.Load()
	return r != nil && r.State() == raft.Leader && s.leadTerm.Load() == r.CurrentTerm()
}

// LeaderChanged is closed when Leader or Leading may next answer otherwise.
// Take the channel first, then ask.
func (s *Store) LeaderChanged() <-chan struct{} { return s.leaders.next() }

// changes wakes everybody who waits for the next change of something. It costs
// nothing while nobody waits.
type changes struct {
	mu sync.Mutex // guards what follows
	ch chan struct{}
}

func (c *changes) next() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ch == nil {
		c.ch = make(chan struct{})
	}
	return c.ch
}

func (c *changes) signal() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ch != nil {
		close(c.ch)
		c.ch = nil
	}
}
