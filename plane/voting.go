package plane

import (
	"context"
	"time"

	corev1 "k8s.io/api/core/v1"

	"copepod/gossip"
	"copepod/plane/auth/token/join"
	"copepod/plane/controllers/api"
	"copepod/plane/enroll"
	"copepod/plane/quorum"
)

// buildVoting builds what keeps the right number of voters.
func (p *Plane) buildVoting() error {
	if p.peers == nil {
		return nil
	}
	var err error
	p.voting, err = quorum.New(quorum.Config{
		Store: p.store, Members: p.candidates, Voters: p.cfg.Voters, Log: p.cfg.Log,
	})
	return err
}

// candidates are the machines that hold the plane or may: those that joined for
// it and those that Raft has, but for who was put out or asked to leave.
func (p *Plane) candidates() []quorum.Member {
	view := p.api.Local().View()
	silent := p.silent()
	revoked := p.cfg.Revoked.Entries()
	var all []quorum.Member
	consider := func(name, address string, since time.Time) {
		if e, out := revoked.Find(name); out && since.Before(e.At) || leaving(view, name) {
			return
		}
		all = append(all, quorum.Member{
			ID: name, Address: address, Alive: name == p.cfg.Name || !silent[name], Eligible: eligible(view, name),
		})
	}
	known := enroll.Known(view)
	for name, id := range known {
		if id.Role == join.RolePlane {
			consider(name, id.Member().Peer().String(), id.Joined)
		}
	}
	if _, ok := known[p.cfg.Name]; !ok { // not announced yet
		consider(p.cfg.Name, p.peerAddress().String(), time.Now())
	}
	return all
}

// silent are the members that gossip does not hear. It decides nothing alone: a
// member whose store answers is not lost.
func (p *Plane) silent() map[string]bool {
	quiet := map[string]bool{}
	if p.cfg.Gossip == nil {
		return quiet
	}
	for _, m := range p.cfg.Gossip.Members() {
		quiet[m.Name] = m.State == gossip.StateFailed || m.State == gossip.StateLeft
	}
	return quiet
}

// labelEligible of a Node says "false" where an operator wants no voter.
const labelEligible = "copepod.dev/plane-eligible"

func eligible(view api.View, name string) bool {
	node, ok := nodeOf(view, name)
	return !ok || node.Labels[labelEligible] != "false"
}

func leaving(view api.View, name string) bool {
	node, ok := nodeOf(view, name)
	return ok && node.Annotations[enroll.AnnotationLeaving] != ""
}

func nodeOf(view api.View, name string) (*corev1.Node, bool) {
	obj, ok := view.Get(api.Nodes, "", name)
	node, isNode := obj.(*corev1.Node)
	return node, ok && isNode
}

// announceEvery is how often a plane says again where it is.
const announceEvery = time.Minute

// announce keeps this plane among those that others know, until ctx ends.
func (p *Plane) announce(ctx context.Context) error {
	self := enroll.Member{Name: p.cfg.Name, Address: p.cfg.Advertise.Addr(), Ports: p.cfg.Ports}
	select {
	case <-p.ready: // the first time, the namespace is made before
	case <-ctx.Done():
	}
	for ctx.Err() == nil {
		wait := announceEvery
		if err := p.joining.Announce(ctx, self); err != nil && ctx.Err() == nil {
			p.log.Warn("this plane is not announced", "err", err)
			wait = time.Second
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
		}
	}
	return nil
}
