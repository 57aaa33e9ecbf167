package gossip

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/hashicorp/memberlist"
)

// delegate is what memberlist calls. It does so under its own lock: nothing
// here may call back or wait.
type delegate struct{ g *Gossip }

func (d delegate) NodeMeta(int) []byte             { return *d.g.meta.Load() }
func (d delegate) NotifyMsg([]byte)                {}
func (d delegate) GetBroadcasts(int, int) [][]byte { return nil }
func (d delegate) LocalState(bool) []byte          { return nil }
func (d delegate) MergeRemoteState([]byte, bool)   {}

// NotifyAlive decides whether a claim about a member is heard at all.
func (d delegate) NotifyAlive(n *memberlist.Node) error {
	err := checkName(n.Name)
	if err == nil {
		_, err = memberOf(n)
	}
	if err == nil {
		err = checkProtocol([6]uint8{n.PMin, n.PMax, n.PCur, n.DMin, n.DMax, n.DCur})
	}
	if err == nil {
		d.g.mu.Lock()
		if !d.g.table.room(n.Name) {
			err = fmt.Errorf("no room for more than %d members", d.g.cfg.MaxMembers)
		}
		d.g.mu.Unlock()
	}
	if err != nil {
		d.g.report.refuse(RefusedMember, fmt.Sprintf("%.64q", n.Name), err)
	}
	return err
}

func (d delegate) NotifyJoin(n *memberlist.Node) {
	if m, err := memberOf(n); err == nil { // NotifyAlive saw to that
		d.g.learn(func(t *table, now time.Time) (Event, bool) { return t.joined(m, now), true })
	}
}

func (d delegate) NotifyUpdate(n *memberlist.Node) {
	if m, err := memberOf(n); err == nil {
		d.g.learn(func(t *table, now time.Time) (Event, bool) { return t.updated(m, now) })
	}
}

func (d delegate) NotifyLeave(n *memberlist.Node) {
	d.g.learn(func(t *table, now time.Time) (Event, bool) { return t.ended(n.Name, now) })
}

func (d delegate) NotifyConflict(existing, other *memberlist.Node) {
	rival, err := addrOf(other)
	if err != nil {
		return // NotifyAlive reported it
	}
	d.g.report.refuse(RefusedName, rival.String(), fmt.Errorf("name %s belongs to %s:%d", existing.Name, existing.Addr, existing.Port))
	d.g.learn(func(t *table, _ time.Time) (Event, bool) {
		r := t.records[existing.Name]
		if r == nil {
			return Event{}, false
		}
		return Event{Kind: Conflicted, Member: r.Member, Rival: rival}, true
	})
}

// memberOf copies what memberlist says of a member, which is its to change.
func memberOf(n *memberlist.Node) (Member, error) {
	addr, err := addrOf(n)
	if err != nil {
		return Member{}, err
	}
	meta, err := ParseMeta(n.Meta)
	if err != nil {
		return Member{}, err
	}
	return Member{Name: n.Name, Addr: addr, Meta: meta}, nil
}

func addrOf(n *memberlist.Node) (netip.AddrPort, error) {
	a, ok := netip.AddrFromSlice(n.Addr)
	if !ok || !reachable(a) || n.Port == 0 {
		return netip.AddrPort{}, fmt.Errorf("address %x port %d is none", []byte(n.Addr), n.Port)
	}
	return netip.AddrPortFrom(a.Unmap(), n.Port), nil
}

// sent is the guard's word on what memberlist passes on.
func (g *Gossip) sent(n news) {
	g.learn(func(t *table, now time.Time) (Event, bool) {
		if n.kind == kindSuspect {
			return t.suspected(n.Node, n.Incarnation, now)
		}
		return t.alive(n.Node, n.Incarnation, now)
	})
}

// heard is the guard's word on what memberlist is about to read. Signs of life
// count on the way in as well, since not all of them go out again: memberlist's
// queue of news numbers its entries from 1 when it was empty for a moment, and
// then one replaces another of the same number and length.
func (g *Gossip) heard(n news) {
	g.learn(func(t *table, now time.Time) (Event, bool) {
		switch {
		case n.kind == kindAlive:
			r := t.records[n.Node]
			addr, err := addrOf(&memberlist.Node{Addr: n.Addr, Port: n.Port})
			if r != nil && err == nil && addr == r.Addr {
				return t.alive(n.Node, n.Incarnation, now)
			}
		case n.From == n.Node:
			t.saysGoodbye(n.Node, n.Incarnation)
		}
		return Event{}, false
	})
}
