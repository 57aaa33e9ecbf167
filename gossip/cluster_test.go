package gossip_test

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"copepod/gossip"
	"copepod/gossip/gossiptest"
)

var key = []byte("0123456789abcdef0123456789abcdef")

// cluster is members on one network in memory. Use it inside synctest.Test:
// then waiting costs no time.
type cluster struct {
	t       testing.TB
	net     *gossiptest.Network
	first   *member // where the others join
	members map[string]*member
}

type member struct {
	*gossip.Gossip
	net  *gossiptest.Transport
	stop func() error // ends Run and returns its error
}

func newCluster(t testing.TB) *cluster {
	return &cluster{t: t, net: gossiptest.New(1), members: map[string]*member{}}
}

// start runs a member and joins it to the one that was started first.
func (c *cluster) start(name string, change ...func(*gossip.Config)) *member {
	c.t.Helper()
	tr := c.net.Transport(name)
	cfg := gossip.Config{
		Name: name, Transport: tr, Keys: [][]byte{key}, Log: slog.New(slog.DiscardHandler),
		Meta: gossip.Meta{Version: "v1", APIPort: 6443},
	}
	for _, f := range change {
		f(&cfg)
	}
	g, err := gossip.New(cfg)
	if err != nil {
		c.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- g.Run(ctx) }()
	m := &member{Gossip: g, net: tr, stop: func() error { cancel(); return <-ended }}
	select {
	case <-g.Ready():
	case err := <-ended:
		c.t.Fatalf("%s: %v", name, err)
	}
	if c.first != nil {
		if _, err := g.Join(ctx, []string{c.first.Addr().String()}); err != nil {
			c.t.Fatalf("%s: %v", name, err)
		}
	} else {
		c.first = m
	}
	c.members[name] = m
	return m
}

// startAll runs n members called n0 to n(n-1), which meet at n0.
func (c *cluster) startAll(n int, change ...func(*gossip.Config)) {
	c.t.Helper()
	for i := range n {
		c.start(fmt.Sprintf("n%d", i), change...)
	}
}

// stop ends a member and forgets it.
func (c *cluster) stop(name string) {
	c.t.Helper()
	m := c.members[name]
	delete(c.members, name)
	if err := m.stop(); err != nil {
		c.t.Errorf("%s: %v", name, err)
	}
}

// end stops all members. The minute afterwards is for the probes that memberlist
// leaves waiting: a goroutine that outlived it would fail the bubble.
func (c *cluster) end() {
	c.net.Heal()
	for name := range c.members {
		c.stop(name)
	}
	time.Sleep(time.Minute)
}

// within waits until ok, which costs nothing in a bubble.
func (c *cluster) within(limit time.Duration, what string, ok func() bool) {
	c.t.Helper()
	pause := max(10*time.Millisecond, time.Duration(len(c.members)*len(c.members))*10*time.Microsecond) // looking costs n²
	for deadline := time.Now().Add(limit); !ok(); time.Sleep(pause) {
		if time.Now().After(deadline) {
			for _, name := range c.names() {
				c.t.Logf("%s sees %s", name, views(c)[name])
			}
			c.t.Fatalf("after %v: not %s", limit, what)
		}
	}
}

// sees returns what name thinks of other.
func (c *cluster) sees(name, other string) (gossip.Member, bool) {
	all := c.members[name].Members()
	i := slices.IndexFunc(all, func(m gossip.Member) bool { return m.Name == other })
	if i < 0 {
		return gossip.Member{}, false
	}
	return all[i], true
}

// agree says whether every member in view thinks that each of others is s.
func (c *cluster) agree(view []string, others []string, s gossip.State) bool {
	for _, v := range view {
		thinks := map[string]gossip.State{}
		for _, m := range c.members[v].Members() {
			thinks[m.Name] = m.State
		}
		for _, o := range others {
			if state, ok := thinks[o]; v != o && (!ok || state != s) {
				return false
			}
		}
	}
	return true
}

func (c *cluster) names() []string {
	var all []string
	for name := range c.members {
		all = append(all, name)
	}
	slices.Sort(all)
	return all
}

// whole says whether all see all alive.
func (c *cluster) whole() bool { return c.agree(c.names(), c.names(), gossip.StateAlive) }

// follow collects the events of a member until the returned function is called.
func follow(m *member) func() []gossip.Event {
	ctx, cancel := context.WithCancel(context.Background())
	all := make(chan []gossip.Event, 1)
	events := m.Events(ctx)
	go func() {
		var seen []gossip.Event
		for e := range events {
			seen = append(seen, e)
		}
		all <- seen
	}()
	return func() []gossip.Event {
		synctest.Wait() // what is learned is delivered
		cancel()
		return <-all
	}
}
