package detector

import (
	"context"
	"sync"
	"time"
)

// Answer is what one vantage point got from a node's port.
type Answer string

const (
	Alive    Answer = "alive"    // an answer, over a connection that proves the node
	Refused  Answer = "refused"  // the machine says that nobody listens there
	Silent   Answer = "silent"   // nothing in time, twice
	Impostor Answer = "impostor" // somebody answers who is not the node
	Unsure   Answer = "unsure"   // a holder of the node's key whose certificate has expired
)

// Ports looks at the ports of nodes. NewPorts makes one.
type Ports interface {
	// Look looks from here.
	Look(ctx context.Context, node, address string) Answer
	// Ask has another node look. An error says that it has no opinion.
	Ask(ctx context.Context, helper, node, address string) (Answer, error)
}

// Finding is what a round found.
type Finding string

const (
	FoundAlive  Finding = "alive"
	FoundDead   Finding = "dead"
	FoundUnsure Finding = "unsure"
)

// hedge is how long the look from here has to succeed before others are asked.
const hedge = 250 * time.Millisecond

// look is one round: from here, and from other nodes unless that succeeds soon.
// company says that there are other nodes, though perhaps none that can be asked.
func look(ctx context.Context, ports Ports, node, address string, from []vantage, company bool) Finding {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	own := make(chan Answer, 1)
	var looks sync.WaitGroup
	defer looks.Wait()
	looks.Go(func() { own <- ports.Look(ctx, node, address) })
	var mine Answer
	select {
	case mine = <-own:
		if mine == Alive {
			return FoundAlive
		}
	case <-time.After(hedge):
	}
	var others []Answer
	for rest := from; len(rest) > 0 && len(others) == 0; {
		n := min(helpers, len(rest))
		others = ask(ctx, ports, node, address, rest[:n])
		rest = rest[n:]
	}
	if mine == "" {
		mine = <-own
	}
	return judge(mine, others, company)
}

// ask is the opinions of several nodes. Once there is one, the others have only a
// moment left: a helper may be as dead as the node that it is asked about.
func ask(ctx context.Context, ports Ports, node, address string, from []vantage) []Answer {
	opinions := make(chan Answer, len(from))
	var asked sync.WaitGroup
	defer asked.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for _, v := range from {
		asked.Go(func() {
			a, err := ports.Ask(ctx, v.name, node, address)
			if err != nil {
				a = ""
			}
			opinions <- a
		})
	}
	var list []Answer
	var late <-chan time.Time
	for range from {
		select {
		case a := <-opinions:
			if a == "" {
				continue
			}
			if list = append(list, a); late == nil {
				late = time.After(hedge)
			}
		case <-late:
			return list
		}
	}
	return list
}

// judge decides from what all vantage points saw. A refusal is an answer of the
// node's machine, so it counts when nobody else has an opinion. Silence alone does
// not, where there are other nodes and none of them has an opinion: then it may be
// this machine that is cut off.
func judge(own Answer, others []Answer, company bool) Finding {
	all := append([]Answer{own}, others...)
	unsure := false
	for _, a := range all {
		switch a {
		case Alive:
			return FoundAlive
		case Refused, Silent, Impostor:
		default:
			unsure = true
		}
	}
	if unsure || company && len(others) == 0 && own != Refused {
		return FoundUnsure
	}
	return FoundDead
}
