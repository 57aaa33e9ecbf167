package gossip

import (
	"context"
	"sync"
)

// Events delivers what happens from now on, after one event for each member
// that is known already and has not left: Joined, Suspected or Failed, by its
// state. So a reader needs no snapshot beside it.
//
// A slow reader never slows gossip: of several unread events of one member only
// the last is kept. As an event carries the whole member, the last says it all.
// The channel closes when ctx ends or Run returns.
func (g *Gossip) Events(ctx context.Context) <-chan Event {
	out := make(chan Event)
	s := &subscription{pending: map[string]Event{}, wake: make(chan struct{}, 1)}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.stopped {
		close(out)
		return out
	}
	for _, m := range g.table.members() {
		switch m.State {
		case StateAlive:
			s.put(Event{Kind: Joined, Member: m})
		case StateSuspect:
			s.put(Event{Kind: Suspected, Member: m})
		case StateFailed:
			s.put(Event{Kind: Failed, Member: m})
		}
	}
	g.subscriptions[s] = struct{}{}
	g.callers.Go(func() {
		defer close(out)
		s.deliver(ctx, g.stopping, out)
		g.mu.Lock()
		defer g.mu.Unlock()
		delete(g.subscriptions, s)
	})
	return out
}

// subscription holds at most one unread event of each member, and one conflict.
type subscription struct {
	wake chan struct{}

	mu      sync.Mutex // guards what follows
	pending map[string]Event
	order   []string
}

func (s *subscription) put(e Event) {
	key := e.Member.Name
	if e.Kind == Conflicted {
		key += "!" // no name contains it: a conflict must not hide a death
	}
	s.mu.Lock()
	if _, waits := s.pending[key]; !waits {
		s.order = append(s.order, key)
	}
	s.pending[key] = e
	s.mu.Unlock()
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func (s *subscription) take() (Event, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.order) == 0 {
		s.order = nil // gives back the array that a burst made long
		return Event{}, false
	}
	key := s.order[0]
	s.order = s.order[1:]
	e := s.pending[key]
	delete(s.pending, key)
	return e, true
}

func (s *subscription) deliver(ctx context.Context, stop <-chan struct{}, out chan<- Event) {
	for {
		e, ok := s.take()
		if !ok {
			select {
			case <-s.wake:
				continue
			case <-ctx.Done():
				return
			case <-stop:
				return
			}
		}
		select {
		case out <- e:
		case <-ctx.Done():
			return
		case <-stop:
			return
		}
	}
}
