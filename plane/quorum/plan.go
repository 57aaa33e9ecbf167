package quorum

import (
	"cmp"
	"slices"
	"time"
)

// replica is one member of the store, or one that should become one, with what
// is known of it.
type replica struct {
	id, address string
	joined      bool // it is in the store's configuration
	voter       bool
	leads       bool // it is the one that plans
	known       bool // the plane knows of it
	alive       bool // the plane says so
	eligible    bool
	wanted      string // the address that the plane knows

	healthyFor, unhealthyFor time.Duration // one of them is 0
	lostFor                  time.Duration // neither heard of nor alive; or not known
	lag                      uint64
}

// step is one change of the store's members.
type step struct {
	do      action
	id      string
	address string
	why     string
}

type action string

const (
	add       action = "add"
	readdress action = "readdress"
	promote   action = "promote"
	demote    action = "demote"
	remove    action = "remove"
	transfer  action = "transfer"
)

// limits are the figures of Config that a plan needs.
type limits struct {
	voters int
	stable time.Duration
	dead   time.Duration
}

// failing is how much longer than the dead somebody is waited for who is
// there, but does not keep up or cannot write.
const failing = 4

// plan says what to change now, in order. It does little at a time: what
// comes next is decided by what has then become of it.
func plan(l limits, all []replica) []step {
	me := slices.IndexFunc(all, func(r replica) bool { return r.leads })
	if me < 0 || !all[me].known {
		return nil // the list of members is not loaded
	}
	if steps := planMembers(l, all); len(steps) > 0 {
		return steps
	}
	return planVoters(l, all)
}

// planMembers lets the known follow and the lost go. No vote changes.
func planMembers(l limits, all []replica) []step {
	var steps []step
	taken := map[string]replica{}
	for _, r := range all {
		if r.joined {
			taken[r.address] = r
		}
	}
	for _, r := range all {
		holder, held := taken[r.wanted]
		switch {
		case r.joined && !r.voter && r.lostFor >= l.dead:
			steps = append(steps, step{do: remove, id: r.id, why: "it is lost"})
		case !r.known || !r.alive || r.wanted == "" || r.joined && r.wanted == r.address:
		case held && holder.id != r.id:
			// No two members may have one address. Whoever had it before
			// can no longer be there; a voter goes when it is certainly lost.
			if !holder.alive && (!holder.voter || holder.lostFor >= l.dead) {
				steps = append(steps, step{do: remove, id: holder.id, why: "its address is now that of " + r.id})
			}
		case r.joined:
			steps = append(steps, step{do: readdress, id: r.id, address: r.wanted, why: "it has moved from " + r.address})
		default:
			steps = append(steps, step{do: add, id: r.id, address: r.wanted, why: "it has joined"})
		}
	}
	return steps
}

// ballot is the voters and those who could become one.
type ballot struct {
	limits     limits
	voters     []replica
	unfit      []replica // voters to be replaced: the dead first, who leads last
	dead       []replica // of those, the ones to remove
	candidates []replica // the best first
}

func count(l limits, all []replica) ballot {
	b := ballot{limits: l}
	for _, r := range all {
		gone := r.lostFor >= l.dead
		switch {
		case r.joined && r.voter:
			b.voters = append(b.voters, r)
			if gone {
				b.dead = append(b.dead, r)
			}
			if gone || !r.eligible || r.unhealthyFor >= failing*l.dead {
				b.unfit = append(b.unfit, r)
			}
		case r.joined && r.eligible && r.known && r.healthyFor >= l.stable && r.healthyFor > 0:
			b.candidates = append(b.candidates, r)
		}
	}
	rank := func(r replica) int {
		switch {
		case r.lostFor >= l.dead:
			return 0
		case r.leads:
			return 2
		}
		return 1
	}
	slices.SortFunc(b.unfit, func(x, y replica) int { return cmp.Or(cmp.Compare(rank(x), rank(y)), cmp.Compare(x.id, y.id)) })
	slices.SortFunc(b.candidates, func(x, y replica) int {
		return cmp.Or(cmp.Compare(y.healthyFor, x.healthyFor), cmp.Compare(x.lag, y.lag), cmp.Compare(x.id, y.id))
	})
	return b
}

// odd is the greatest odd number up to n, and at least 1: an even one more
// needs a greater majority and survives no more losses.
func odd(n int) int { return max(1, n-1+n%2) }

func planVoters(l limits, all []replica) []step {
	b := count(l, all)
	n, most := len(b.voters), odd(l.voters)
	fit := n - len(b.unfit)
	target := odd(min(l.voters, fit+len(b.candidates)))
	switch {
	case n == 0:
		return nil
	case n%2 == 0:
		return b.repair(most)
	case n < target:
		return b.promote(target-n, "a pair more votes")
	case n > most:
		return b.shrink(2)
	case len(b.unfit) > 0 && len(b.candidates) > 0:
		return b.replace()
	}
	// Nobody can replace the dead. To go on without them is better only if
	// more of the rest may then be lost than now.
	if fewer := odd(fit); len(b.dead) >= n-fewer && tolerance(fewer, fewer) > tolerance(n, n-len(b.dead)) {
		return b.shrink(n - fewer)
	}
	return nil
}

// tolerance is how many more voters may be lost.
func tolerance(voters, living int) int { return living - (voters/2 + 1) }

// repair makes an even number of voters odd: what a change left behind that
// was cut short.
func (b ballot) repair(most int) []step {
	if len(b.voters) < most && len(b.candidates) > 0 && len(b.dead) == 0 {
		return b.promote(1, "the number of votes is even")
	}
	return b.shrink(1)
}

func (b ballot) promote(n int, why string) []step {
	var steps []step
	for _, r := range b.candidates[:min(n, len(b.candidates))] {
		steps = append(steps, step{do: promote, id: r.id, why: why})
	}
	return steps
}

// replace puts a candidate in the place of an unfit voter. A dead one goes
// first: with it, the majority would grow while nobody may fail.
func (b ballot) replace() []step {
	out := b.unfit[0]
	vote := b.promote(1, "it replaces "+out.id)
	if first := b.dismiss(out); first.do == remove {
		return append([]step{first}, vote...)
	}
	return append(vote, b.dismiss(out))
}

// dismiss takes the vote of somebody, in the way that fits.
func (b ballot) dismiss(r replica) step {
	switch {
	case r.lostFor >= b.limits.dead:
		return step{do: remove, id: r.id, why: "it is lost"}
	case r.leads:
		return step{do: transfer, why: "who leads may not vote"}
	case !r.eligible:
		return step{do: demote, id: r.id, why: "it may not vote"}
	}
	return step{do: demote, id: r.id, why: "it does not keep up, or cannot write"}
}

// shrink takes n votes: of the unfit first, then of those who are least well,
// never of who leads.
func (b ballot) shrink(n int) []step {
	out := slices.Clone(b.unfit)
	rest := slices.DeleteFunc(slices.Clone(b.voters), func(r replica) bool {
		return r.leads || slices.ContainsFunc(b.unfit, func(u replica) bool { return u.id == r.id })
	})
	slices.SortFunc(rest, func(x, y replica) int {
		return cmp.Or(cmp.Compare(x.healthyFor, y.healthyFor), cmp.Compare(y.lag, x.lag), cmp.Compare(y.id, x.id))
	})
	out = append(out, rest...)
	// Without those who do not answer the majority is smaller for the rest.
	slices.SortStableFunc(out, func(x, y replica) int { return cmp.Compare(answers(x), answers(y)) })
	var steps []step
	for _, r := range out[:min(n, len(out))] {
		s := b.dismiss(r)
		if s.do == demote && r.eligible && r.unhealthyFor < failing*b.limits.dead {
			s.why = "there are more votes than are wanted"
		}
		steps = append(steps, s)
		if s.do == transfer {
			break // the next leader goes on
		}
	}
	return steps
}

// answers is 1 for who is there, 0 for who is not.
func answers(r replica) int {
	if r.lostFor > 0 {
		return 0
	}
	return 1
}
