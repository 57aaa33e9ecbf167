package store

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// Status is how a member sees itself and, through them, all others.
type Status struct {
	ID       string   `json:"id"`
	State    string   `json:"state"` // leader, follower, candidate
	Leader   string   `json:"leader"`
	Term     uint64   `json:"term"`
	Last     uint64   `json:"lastIndex"`
	Commit   uint64   `json:"commitIndex"`
	Applied  uint64   `json:"appliedIndex"`
	Revision Revision `json:"revision"`
	// Fsync is the time that writing the log took lately.
	Fsync Quantiles `json:"fsync"`
	// Problem is why the member does not acknowledge writes; empty: it does.
	Problem string         `json:"problem,omitempty"`
	Members []MemberStatus `json:"members"`
}

// Quantiles are those of the last writes, zero before the first.
type Quantiles struct {
	P50 time.Duration `json:"p50"`
	P99 time.Duration `json:"p99"`
}

// MemberStatus is what a member says of itself.
type MemberStatus struct {
	Member
	// Error is why the member did not answer; what follows is then zero.
	Error string `json:"error,omitempty"`
	Report
	// Lag is how many entries it is behind the furthest.
	Lag uint64 `json:"lag"`
}

// Report is what a member says of itself. It travels between members: fields are only ever added.
type Report struct {
	State string `json:"state"`
	Term  uint64 `json:"term"`
	// LastTerm and Last are of the last entry in its log.
	LastTerm uint64   `json:"lastTerm"`
	Last     uint64   `json:"lastIndex"`
	Commit   uint64   `json:"commitIndex"`
	Applied  uint64   `json:"appliedIndex"`
	Revision Revision `json:"revision"`
	// LastContact is how long it has not heard of a leader: 0 where it
	// leads, negative when it never did.
	LastContact time.Duration `json:"lastContact"`
	Fsync       Quantiles     `json:"fsync"`
	Problem     string        `json:"problem,omitempty"`
}

// statusPatience bounds the wait for one member.
const statusPatience = time.Second

// Status asks all members at once, a second at most.
func (s *Store) Status(ctx context.Context) (Status, error) {
	members, err := s.MemberStatus(ctx)
	if err != nil {
		return Status{}, err
	}
	leader, _ := s.Leader()
	me := s.reportHere(s.raft.Load())
	return Status{ID: s.cfg.NodeID, State: me.State, Leader: leader, Term: me.Term, Last: me.Last, Commit: me.Commit,
		Applied: me.Applied, Revision: me.Revision, Fsync: me.Fsync, Problem: me.Problem, Members: members}, nil
}

// MemberStatus is what each of Members says of itself, within a second.
func (s *Store) MemberStatus(ctx context.Context) ([]MemberStatus, error) {
	members, err := s.Members()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, statusPatience)
	defer cancel()
	all := make([]MemberStatus, len(members))
	var wg sync.WaitGroup
	for i, m := range members {
		wg.Go(func() { all[i] = s.statusOf(ctx, m) })
	}
	wg.Wait()
	var furthest uint64
	for _, m := range all {
		furthest = max(furthest, m.Last)
	}
	for i := range all {
		if all[i].Error == "" {
			all[i].Lag = furthest - all[i].Last
		}
	}
	return all, nil
}

func (s *Store) statusOf(ctx context.Context, m Member) MemberStatus {
	st := MemberStatus{Member: m}
	if m.ID == s.cfg.NodeID {
		st.Report = s.reportHere(s.raft.Load())
		return st
	}
	if s.cfg.Forwarder == nil {
		st.Error = "it cannot be asked: no Forwarder is configured"
		return st
	}
	text, err := s.askMember(ctx, m.ID, m.Address, askStatus, nil)
	if err == nil {
		err = json.Unmarshal(text, &st.Report)
	}
	if err != nil {
		st.Report, st.Error = Report{}, err.Error()
	}
	return st
}

func (s *Store) report(r *raft.Raft) ([]byte, error) {
	text, err := json.Marshal(s.reportHere(r))
	if err != nil {
		return nil, fmt.Errorf("report: %w", err)
	}
	return text, nil
}

func (s *Store) reportHere(r *raft.Raft) Report {
	if r == nil {
		return Report{State: "stopped", LastContact: -1}
	}
	m := Report{
		Term:     r.CurrentTerm(),
		Last:     r.LastIndex(),
		Commit:   r.CommitIndex(),
		Applied:  r.AppliedIndex(),
		Revision: s.Revision(),
		Fsync:    s.metrics.fsync.quantiles(),
	}
	m.LastTerm = s.termOf(m.Last)
	switch r.State() {
	case raft.Leader:
		m.State = "leader"
	case raft.Candidate:
		m.State = "candidate"
	case raft.Shutdown:
		m.State = "stopped"
	default:
		m.State = "follower"
	}
	if m.State != "leader" {
		m.LastContact = -1
		if heard := r.LastContact(); !heard.IsZero() {
			m.LastContact = time.Since(heard)
		}
	}
	if err := s.health.err(); err != nil {
		m.Problem = err.Error()
	}
	return m
}

// termOf is the term of the last entry, 0 when only a snapshot has it.
func (s *Store) termOf(index uint64) uint64 {
	var l raft.Log
	if index == 0 || s.disk.logs.GetLog(index, &l) != nil {
		return 0
	}
	return l.Term
}

// recent keeps how long the last writes took.
type recent struct {
	mu   sync.Mutex // guards what follows
	ring [512]time.Duration
	n    int
}

func (r *recent) add(d time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ring[r.n%len(r.ring)] = d
	r.n++
}

func (r *recent) quantiles() Quantiles {
	r.mu.Lock()
	all := slices.Clone(r.ring[:min(r.n, len(r.ring))])
	r.mu.Unlock()
	if len(all) == 0 {
		return Quantiles{}
	}
	slices.Sort(all)
	return Quantiles{P50: all[len(all)/2], P99: all[len(all)*99/100]}
}
