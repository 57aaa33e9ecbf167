package detector

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"

	"copepod/gossip"
	"copepod/plane/controllers/api"
	"copepod/plane/nodedial"
)

// Bounds of what hints can make us do.
const (
	mostRounds = 32               // nodes looked for at a time
	mostAgain  = 15 * time.Second // between two looks at the same node
	helpers    = 2                // other nodes asked at a time
	batches    = 2                // of them, if the first have no opinion
)

// term is one leadership. All of it belongs to run's goroutine.
type term struct {
	d       *Detector
	cases   map[string]*suspicion
	alive   map[string]bool // whom gossip holds as alive, until the settle is over
	rounds  int             // under way
	results chan result

	ready []vantage // nodes that can look for others
	well  []string  // up to two nodes that are ready, whether they are looked for or not
	asOf  time.Time
}

// suspicion is one node that is looked for.
type suspicion struct {
	hinted   bool // gossip still says so
	left     bool // it says that the node took its leave, which takes a while
	looking  bool
	again    bool // a hint came while looking
	due      time.Time
	wait     time.Duration
	found    Finding
	reported bool // that it answers although it is said to be dead
}

type result struct {
	node  string
	at    time.Time
	found Finding
}

// vantage is a node that may be asked to look for another.
type vantage struct{ name, address string }

func newTerm(d *Detector) *term {
	return &term{d: d, cases: map[string]*suspicion{}, alive: map[string]bool{}, results: make(chan result)}
}

func (t *term) run(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	var looks sync.WaitGroup
	defer looks.Wait()
	defer cancel()
	events := t.d.cfg.Gossip.Events(ctx)
	settled := time.NewTimer(t.d.cfg.Settle)
	defer settled.Stop()
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		timer.Reset(t.start(ctx, &looks))
		select {
		case <-ctx.Done():
			return
		case e, ok := <-events:
			if !ok {
				events = nil // gossip has stopped; what is open goes on
				continue
			}
			t.hint(e)
		case r := <-t.results:
			t.take(r)
		case <-settled.C:
			t.unknown()
		case <-timer.C:
		}
	}
}

// hint takes what gossip says.
func (t *term) hint(e gossip.Event) {
	name := e.Member.Name
	alive := e.Member.State == gossip.StateAlive
	if t.alive != nil {
		t.alive[name] = alive
	}
	c := t.cases[name]
	switch {
	case alive && c == nil:
	case alive && c.found != FoundDead && !c.looking:
		delete(t.cases, name)
	case alive: // it must prove that, too
		c.hinted = false
		c.soon()
	case c != nil:
		c.hinted, c.left = true, e.Member.State == gossip.StateLeft
		c.soon()
	default:
		t.open(name, true)
		if c := t.cases[name]; c != nil {
			c.left = e.Member.State == gossip.StateLeft
		}
	}
}

// open begins to look for a node, if there is one of that name.
func (t *term) open(name string, hinted bool) {
	if _, ok := t.d.cfg.Nodes.View().Get(api.Nodes, "", name); ok && name != t.d.cfg.Self {
		t.cases[name] = &suspicion{hinted: hinted, due: time.Now(), wait: t.d.cfg.Again}
	}
}

func (c *suspicion) soon() {
	c.due, c.again = time.Now(), c.looking
}

// unknown looks at the nodes of which gossip has never heard.
func (t *term) unknown() {
	for o := range t.d.cfg.Nodes.View().List(api.Nodes, "") {
		name := o.GetName()
		if _, heard := t.alive[name]; !heard && t.cases[name] == nil {
			t.open(name, false)
		}
	}
	t.alive = nil
}

// start begins the rounds that are due and says how long until the next is.
func (t *term) start(ctx context.Context, looks *sync.WaitGroup) time.Duration {
	now, wait := time.Now(), time.Hour
	for name, c := range t.cases {
		if t.rounds >= mostRounds {
			break // who is left waits for a result
		}
		switch {
		case c.looking:
		case c.due.After(now):
			wait = min(wait, c.due.Sub(now))
		default:
			address, ok := t.address(name)
			if !ok {
				delete(t.cases, name) // its Node is gone, or has never reported
				t.d.set(name, time.Time{}, false)
				continue
			}
			c.looking, c.again = true, false
			t.rounds++
			from, company := t.vantages(name, now)
			looks.Go(func() {
				r := result{name, now, look(ctx, t.d.cfg.Ports, name, address, from, company)}
				select {
				case t.results <- r:
				case <-ctx.Done():
				}
			})
		}
	}
	return wait
}

func (t *term) address(name string) (string, bool) {
	o, ok := t.d.cfg.Nodes.View().Get(api.Nodes, "", name)
	if !ok {
		return "", false
	}
	address, err := nodedial.Address(o.(*corev1.Node))
	return address, err == nil
}

// vantages is some nodes that are well, in no order, without the one that is
// looked for; company says that there are others that were well when they last
// said so, whether they can be asked or not.
func (t *term) vantages(without string, now time.Time) (list []vantage, company bool) {
	if now.Sub(t.asOf) > t.d.cfg.Again/2 {
		t.ready, t.well, t.asOf = t.ready[:0], t.well[:0], now
		for o := range t.d.cfg.Nodes.View().List(api.Nodes, "") {
			n := o.(*corev1.Node)
			address, err := nodedial.Address(n)
			if err != nil || !isReady(n) || n.Name == t.d.cfg.Self {
				continue
			}
			if len(t.well) < 2 {
				t.well = append(t.well, n.Name)
			}
			if t.cases[n.Name] == nil {
				t.ready = append(t.ready, vantage{n.Name, address})
			}
		}
	}
	company = slices.ContainsFunc(t.well, func(name string) bool { return name != without })
	for range 8 * helpers * batches {
		if len(t.ready) == 0 || len(list) == helpers*batches {
			break
		}
		v := t.ready[rand.IntN(len(t.ready))] //nolint:gosec // any will do
		if v.name != without && t.cases[v.name] == nil && !slices.Contains(list, v) {
			list = append(list, v)
		}
	}
	return list, company
}

func isReady(n *corev1.Node) bool {
	for i := range n.Status.Conditions {
		if c := &n.Status.Conditions[i]; c.Type == corev1.NodeReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

// take decides what follows from a round.
func (t *term) take(r result) {
	t.rounds--
	t.d.found.WithLabelValues(string(r.found)).Inc()
	c := t.cases[r.node]
	if c == nil {
		return
	}
	c.looking = false
	if c.wait = min(2*c.wait, mostAgain); r.found != c.found {
		c.wait = t.d.cfg.Again
	}
	log, before := t.d.cfg.Log.With("node", r.node), c.found
	c.found = r.found
	switch r.found {
	case FoundDead:
		if before != FoundDead {
			log.Warn("node is dead: it answers nobody on its port", "gossip", c.hinted)
		}
		t.d.set(r.node, r.at, true)
	case FoundAlive:
		t.d.set(r.node, time.Time{}, false)
		if before == FoundDead {
			log.Info("node answers again")
		}
		if c.hinted && !c.left && !c.reported {
			c.reported = true
			log.Warn("gossip says that a node is dead, and it answers: nothing is done; whoever holds the gossip key can say so")
		}
		if !c.hinted && !c.again {
			delete(t.cases, r.node)
			return
		}
	case FoundUnsure:
		if before != FoundUnsure {
			log.Warn("node may be dead: it does not answer, and no other node has an opinion; its lease decides")
		}
		if !c.hinted && !c.again {
			delete(t.cases, r.node)
			return
		}
	}
	if c.due = r.at.Add(c.wait); c.again {
		c.due = time.Now()
	}
}
