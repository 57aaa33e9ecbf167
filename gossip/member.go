package gossip

import (
	"fmt"
	"net/netip"
	"time"
)

// State is what this member thinks of another.
type State uint8

const (
	StateAlive   State = iota
	StateSuspect       // a probe went unanswered; it has a few seconds to object
	StateFailed        // it did not object; it is tried again until it is forgotten
	StateLeft          // it said goodbye
)

var stateNames = [...]string{"alive", "suspect", "failed", "left"}

func (s State) String() string {
	if int(s) < len(stateNames) {
		return stateNames[s]
	}
	return fmt.Sprintf("state(%d)", uint8(s))
}

// Member is one machine as gossip sees it. It is a value and a claim.
type Member struct {
	Name  string
	Addr  netip.AddrPort // of its gossip port
	Meta  Meta
	State State
	Since time.Time // when this member here learned of State
}

// EventKind says what happened to a member.
type EventKind uint8

const (
	Joined     EventKind = iota // is alive: new, or back from failed or left
	Updated                     // Meta or Addr changed
	Suspected                   // is suspect: the moment to look for yourself
	Recovered                   // was suspect, is alive
	Failed                      // stayed silent
	Left                        // said goodbye
	Conflicted                  // another machine, at Rival, claims the same Name
)

var eventNames = [...]string{"joined", "updated", "suspected", "recovered", "failed", "left", "conflicted"}

func (k EventKind) String() string {
	if int(k) < len(eventNames) {
		return eventNames[k]
	}
	return fmt.Sprintf("event(%d)", uint8(k))
}

// Event is one change, with the whole member as it is after it.
type Event struct {
	Kind   EventKind
	Member Member
	Rival  netip.AddrPort // only with Conflicted
}
