package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/raft"
)

// Member is one replica of the store. Only voters count for a majority; the
// others follow and can be promoted.
type Member struct {
	ID      string `json:"id"`
	Address string `json:"address"`
	Voter   bool   `json:"voter"`
}

// Members are all replicas, as far as this one knows. Empty before Run.
func (s *Store) Members() ([]Member, error) {
	r := s.raft.Load()
	if r == nil {
		return nil, nil
	}
	f := r.GetConfiguration()
	if err := f.Error(); err != nil {
		return nil, fmt.Errorf("store: read the members: %w", err)
	}
	return membersOf(f.Configuration()), nil
}

func membersOf(c raft.Configuration) []Member {
	members := make([]Member, len(c.Servers))
	for i, srv := range c.Servers {
		members[i] = Member{ID: string(srv.ID), Address: string(srv.Address), Voter: srv.Suffrage == raft.Voter}
	}
	return members
}

// AddNonvoter lets a member follow. One that exists already gets the address
// and keeps its vote. Its store must have been opened with Join.
func (s *Store) AddNonvoter(ctx context.Context, id, address string) error {
	return s.change(ctx, change{Do: doAdd, ID: id, Address: address})
}

// Promote gives a member a vote. A majority must be reachable before and
// after, so promote who has caught up.
func (s *Store) Promote(ctx context.Context, id string) error {
	return s.change(ctx, change{Do: doPromote, ID: id})
}

// Demote takes its vote from a member, which goes on following.
func (s *Store) Demote(ctx context.Context, id string) error {
	return s.change(ctx, change{Do: doDemote, ID: id})
}

// Remove ends that a member follows.
func (s *Store) Remove(ctx context.Context, id string) error {
	return s.change(ctx, change{Do: doRemove, ID: id})
}

// TransferLeadership makes another voter lead: the named one, or with an empty
// name whoever is furthest.
func (s *Store) TransferLeadership(ctx context.Context, id string) error {
	return s.change(ctx, change{Do: doTransfer, ID: id})
}

// What a change of the members does.
const (
	doAdd      = "add"
	doPromote  = "promote"
	doDemote   = "demote"
	doRemove   = "remove"
	doTransfer = "transfer"
)

type change struct {
	Do      string `json:"do"`
	ID      string `json:"id"`
	Address string `json:"address,omitempty"`
}

// change is done by the leader; each may be done twice without harm.
func (s *Store) change(ctx context.Context, c change) error {
	body, err := json.Marshal(c)
	if err == nil {
		_, err = s.atLeader(ctx, askChange, body, func(ctx context.Context, r *raft.Raft) error { return s.changeHere(ctx, r, c) })
	}
	if err != nil {
		return fmt.Errorf("store: %s member %q: %w", c.Do, c.ID, err)
	}
	return nil
}

func (s *Store) serveChange(ctx context.Context, r *raft.Raft, body []byte) error {
	var c change
	if err := json.Unmarshal(body, &c); err != nil {
		return fmt.Errorf("%w: change of members: %w", ErrInvalid, err)
	}
	return s.changeHere(ctx, r, c)
}

func (s *Store) changeHere(ctx context.Context, r *raft.Raft, c change) error {
	if r.State() != raft.Leader {
		return s.applyError(raft.ErrNotLeader)
	}
	now := r.GetConfiguration()
	if err := now.Error(); err != nil {
		return s.applyError(err)
	}
	f, err := s.begin(r, c, membersOf(now.Configuration()), now.Index())
	if err != nil || f == nil {
		return err
	}
	select {
	case err := <-settled(f):
		if err == nil {
			return nil
		}
		return s.applyError(err)
	case <-ctx.Done():
		return ctx.Err()
	case <-s.raftGone:
		return fmt.Errorf("%w: %w", ErrUnavailable, errStopped)
	}
}

// begin asks Raft for the change, unless there is nothing to change. It holds
// only for the members that it was decided for.
func (s *Store) begin(r *raft.Raft, c change, members []Member, index uint64) (raft.Future, error) {
	m, voters := find(members, c.ID)
	id := raft.ServerID(c.ID)
	switch {
	case c.Do == doTransfer:
		if voters < 2 {
			return nil, fmt.Errorf("%w: no other voter can lead", ErrInvalid)
		}
		if c.ID == "" {
			return r.LeadershipTransfer(), nil
		}
		if m == nil || !m.Voter {
			return nil, fmt.Errorf("%w: it is not a voter", ErrInvalid)
		}
		return r.LeadershipTransferToServer(id, raft.ServerAddress(m.Address)), nil
	case c.ID == "":
		return nil, fmt.Errorf("%w: no member is named", ErrInvalid)
	case c.Do == doAdd && c.Address == "":
		return nil, fmt.Errorf("%w: no address is given", ErrInvalid)
	case c.Do == doAdd:
		return r.AddNonvoter(id, raft.ServerAddress(c.Address), index, 0), nil
	case m == nil && c.Do == doRemove:
		return nil, nil
	case m == nil:
		return nil, fmt.Errorf("%w: it is not a member: add it first", ErrInvalid)
	case c.Do == doPromote && m.Voter, c.Do == doDemote && !m.Voter:
		return nil, nil
	case c.Do == doPromote:
		return r.AddVoter(id, raft.ServerAddress(m.Address), index, 0), nil
	case m.Voter && voters == 1:
		return nil, fmt.Errorf("%w: it is the only voter: promote another first", ErrInvalid)
	case c.Do == doDemote:
		return r.DemoteVoter(id, index, 0), nil
	case c.Do == doRemove:
		return r.RemoveServer(id, index, 0), nil
	}
	return nil, fmt.Errorf("%w: unknown change %q", ErrInvalid, c.Do)
}

func find(members []Member, id string) (found *Member, voters int) {
	for i, m := range members {
		if m.ID == id {
			found = &members[i]
		}
		if m.Voter {
			voters++
		}
	}
	return found, voters
}

// handOverFor bounds how long a stop waits for another to lead.
const handOverFor = time.Second

// handOver lets another voter lead before this member stops, so that nobody
// has to wait for an election.
func (s *Store) handOver(r *raft.Raft) {
	if r.State() != raft.Leader || s.soleVoter(r) {
		return
	}
	select {
	case err := <-settled(r.LeadershipTransfer()):
		if err != nil && !errors.Is(err, raft.ErrRaftShutdown) {
			s.log.Info("another member is not asked to lead", "reason", err)
		}
	case <-time.After(handOverFor):
	}
}
