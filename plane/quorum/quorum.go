// Package quorum keeps the right number of voters in the store: members of the
// plane begin as followers, get their votes in pairs once they have kept up for
// a while, and make room for others when they stay dead. The leader's Quorum
// acts; elsewhere it rests.
//
// It knows members by name and address, whether they are alive and may vote
// (the plane says so), and what their stores say of themselves. It never
// learns how the plane finds that out, or what is stored.
//
//	q, err := quorum.New(quorum.Config{Store: st, Members: planes})
//	go q.Run(ctx)
package quorum

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"time"

	"copepod/plane/store"
)

// Store is what a Quorum needs of *store.Store.
type Store interface {
	NodeID() string
	Leading() bool
	LeaderChanged() <-chan struct{}
	MemberStatus(context.Context) ([]store.MemberStatus, error)
	AddNonvoter(ctx context.Context, id, address string) error
	Promote(ctx context.Context, id string) error
	Demote(ctx context.Context, id string) error
	Remove(ctx context.Context, id string) error
	TransferLeadership(ctx context.Context, id string) error
}

// Member is a machine of the plane, as the plane knows it.
type Member struct {
	ID      string
	Address string // of its peer port; empty while it is not known
	Alive   bool
	// Eligible says that it may vote. It follows in any case.
	Eligible bool
}

// Config is how many voters are kept, and by what. Store and Members are
// required.
type Config struct {
	Store Store
	// Members are all machines of the plane, this one included: while it is
	// not among them, nothing is done. Who is no longer among them is removed.
	Members func() []Member
	// Voters is how many are wanted; of an even number, one less. Default 3.
	Voters int
	// Stable is how long a member must have kept up before it votes. Default
	// 5 s.
	Stable time.Duration
	// Dead is how long a member must be lost, neither alive nor answering,
	// before it is replaced and removed. Default 30 s.
	Dead time.Duration
	// MaxLag is how many entries behind the furthest still counts as keeping
	// up. Default 1000.
	MaxLag uint64
	// Interval is how often all this is looked at. Default 1 s.
	Interval time.Duration
	// Log receives each change. Default slog.Default().
	Log *slog.Logger
}

// contactPatience is how long a follower may not have heard of its leader and
// still be healthy.
const contactPatience = 2 * time.Second

// stepPatience bounds one change, spreadPatience the wait until it is known.
const (
	stepPatience   = 10 * time.Second
	spreadPatience = 2 * time.Second
	spreadPause    = 10 * time.Millisecond
)

// Quorum watches over the voters.
type Quorum struct {
	cfg  Config
	log  *slog.Logger
	seen map[string]*record
}

// record is since when a member is as it is; zero: it is not.
type record struct {
	healthy, unhealthy, lost time.Time
}

// New checks the configuration. Nothing happens before Run.
func New(cfg Config) (*Quorum, error) {
	if cfg.Store == nil || cfg.Members == nil {
		return nil, errors.New("quorum: config: Store and Members are needed")
	}
	if cfg.Voters < 0 || cfg.Stable < 0 || cfg.Dead < 0 || cfg.Interval < 0 {
		return nil, errors.New("quorum: config: Voters, Stable, Dead and Interval must not be negative")
	}
	cfg.Voters = cmp.Or(cfg.Voters, 3)
	cfg.Stable = cmp.Or(cfg.Stable, 5*time.Second)
	cfg.Dead = cmp.Or(cfg.Dead, 30*time.Second)
	cfg.MaxLag = cmp.Or(cfg.MaxLag, 1000)
	cfg.Interval = cmp.Or(cfg.Interval, time.Second)
	return &Quorum{cfg: cfg, log: cmp.Or(cfg.Log, slog.Default()).With("part", "quorum")}, nil
}

// Run acts while this member leads, until ctx ends. It may run again, as after
// each election; one at a time.
func (q *Quorum) Run(ctx context.Context) error {
	tick := time.NewTicker(q.cfg.Interval)
	defer tick.Stop()
	for {
		changed := q.cfg.Store.LeaderChanged()
		if !q.cfg.Store.Leading() {
			q.seen = nil // what another has observed since is not known here
			select {
			case <-changed:
				continue
			case <-ctx.Done():
				return nil
			}
		}
		q.act(ctx)
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// act looks once and makes the changes that are due.
func (q *Quorum) act(ctx context.Context) {
	all, err := q.observe(ctx, time.Now())
	if err != nil {
		q.log.Warn("the members are not observed", "reason", err)
		return
	}
	for _, s := range plan(limits{voters: q.cfg.Voters, stable: q.cfg.Stable, dead: q.cfg.Dead}, all) {
		err := q.do(ctx, s)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			q.log.Warn("a change of the members is put off", "do", string(s.do), "member", s.id, "why", s.why, "reason", err)
			return
		}
		q.log.Info("the members of the store change", "do", string(s.do), "member", s.id, "why", s.why)
		q.spread(ctx)
	}
}

// spread waits a moment until everybody who answers has heard of a change.
// Raft commits it with a majority, but a member that has not heard of a voter
// gives it no vote: were the leader lost now, the rest might not find another.
func (q *Quorum) spread(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, spreadPatience)
	defer cancel()
	for ctx.Err() == nil {
		status, err := q.cfg.Store.MemberStatus(ctx)
		if err == nil && !slices.ContainsFunc(status, func(s store.MemberStatus) bool { return s.Error == "" && s.Lag > 0 }) {
			return
		}
		select {
		case <-ctx.Done():
		case <-time.After(spreadPause):
		}
	}
}

func (q *Quorum) do(ctx context.Context, s step) error {
	ctx, cancel := context.WithTimeout(ctx, stepPatience)
	defer cancel()
	switch s.do {
	case add, readdress:
		return q.cfg.Store.AddNonvoter(ctx, s.id, s.address)
	case promote:
		return q.cfg.Store.Promote(ctx, s.id)
	case demote:
		return q.cfg.Store.Demote(ctx, s.id)
	case remove:
		return q.cfg.Store.Remove(ctx, s.id)
	case transfer:
		return q.cfg.Store.TransferLeadership(ctx, "")
	}
	return fmt.Errorf("unknown change %q", s.do)
}

// observe joins what the plane knows with what the stores say.
func (q *Quorum) observe(ctx context.Context, now time.Time) ([]replica, error) {
	status, err := q.cfg.Store.MemberStatus(ctx)
	if err != nil {
		return nil, err
	}
	known := map[string]Member{}
	for _, m := range q.cfg.Members() {
		known[m.ID] = m
	}
	var term uint64
	for _, s := range status {
		if s.ID == q.cfg.Store.NodeID() {
			term = s.Term
		}
	}
	if q.seen == nil {
		q.seen = map[string]*record{}
	}
	var all []replica
	joined := map[string]*record{}
	for _, s := range status {
		m, ok := known[s.ID]
		delete(known, s.ID)
		rec := q.seen[s.ID]
		if rec == nil {
			rec = &record{}
		}
		joined[s.ID] = rec
		leads := s.ID == q.cfg.Store.NodeID()
		healthy := leads || s.Error == "" && s.Problem == "" && s.Term == term && s.Lag <= q.cfg.MaxLag &&
			s.LastContact >= 0 && s.LastContact <= contactPatience
		r := replica{id: s.ID, address: s.Address, joined: true, voter: s.Voter, leads: leads,
			known: ok, alive: m.Alive, eligible: m.Eligible, wanted: m.Address, lag: s.Lag}
		r.healthyFor = since(&rec.healthy, healthy, now)
		r.unhealthyFor = since(&rec.unhealthy, !healthy, now)
		r.lostFor = since(&rec.lost, !ok || s.Error != "" && !m.Alive, now)
		all = append(all, r)
	}
	q.seen = joined
	for _, id := range slices.Sorted(maps.Keys(known)) {
		m := known[id]
		all = append(all, replica{id: m.ID, known: true, alive: m.Alive, eligible: m.Eligible, wanted: m.Address})
	}
	return all, nil
}

// since is how long something has been so, a moment at least, or 0.
func since(from *time.Time, is bool, now time.Time) time.Duration {
	switch {
	case !is:
		*from = time.Time{}
		return 0
	case from.IsZero():
		*from = now
	}
	return max(now.Sub(*from), 1)
}
