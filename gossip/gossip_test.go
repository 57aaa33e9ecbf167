package gossip_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"copepod/gossip"
)

func TestThreeMembersSeeEachOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		defer c.end()
		c.startAll(3)
		c.within(time.Minute, "whole", c.whole)
		m, _ := c.sees("n2", "n1")
		if want := c.members["n1"].net.Addr(); m.Addr != want {
			t.Errorf("got address %v, want %v", m.Addr, want)
		}
		if want := (gossip.Meta{Version: "v1", APIPort: 6443}); m.Meta != want {
			t.Errorf("got meta %+v, want %+v", m.Meta, want)
		}
	})
}

func TestMemberThatIsKilledIsSuspectedThenFailed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		defer c.end()
		c.startAll(5)
		c.within(time.Minute, "whole", c.whole)
		events := follow(c.members["n0"])
		c.net.Isolate("n4")
		rest := []string{"n0", "n1", "n2", "n3"}
		c.within(5*time.Second, "failed for all others", func() bool {
			return c.agree(rest, []string{"n4"}, gossip.StateFailed)
		})
		var got []gossip.EventKind
		for _, e := range events() {
			if e.Member.Name == "n4" {
				got = append(got, e.Kind)
			}
		}
		if want := "[joined suspected failed]"; fmt.Sprint(got) != want {
			t.Errorf("got events %v, want %s", got, want)
		}
	})
}

func TestMemberThatLeavesHasLeft(t *testing.T) {
	for _, n := range []int{2, 4} {
		t.Run(fmt.Sprintf("of %d", n), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCluster(t)
				defer c.end()
				c.startAll(n)
				c.within(time.Minute, "whole", c.whole)
				c.stop("n0")
				c.within(2*time.Second, "left for all others", func() bool {
					return c.agree(c.names(), []string{"n0"}, gossip.StateLeft)
				})
			})
		})
	}
}

func TestMemberThatComesBackElsewhereGetsItsNameBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		defer c.end()
		c.startAll(4)
		c.within(time.Minute, "whole", c.whole)
		c.net.Isolate("n3")
		old := c.members["n3"]
		c.within(5*time.Second, "failed", func() bool {
			return c.agree([]string{"n0", "n1", "n2"}, []string{"n3"}, gossip.StateFailed)
		})
		delete(c.members, "n3")
		if err := old.stop(); err != nil {
			t.Error(err)
		}
		time.Sleep(2 * time.Second)
		c.net.Heal()
		c.start("n3")
		c.within(time.Minute, "whole again", func() bool {
			m, _ := c.sees("n0", "n3")
			return c.whole() && m.Addr == c.members["n3"].net.Addr()
		})
	})
}

func TestMemberThatObjectsToSuspicionRecovers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		defer c.end()
		c.startAll(4)
		c.within(time.Minute, "whole", c.whole)
		events := follow(c.members["n0"])
		c.net.Isolate("n3")
		c.within(5*time.Second, "suspect", func() bool {
			return c.agree([]string{"n0"}, []string{"n3"}, gossip.StateSuspect)
		})
		c.net.Heal()
		c.within(time.Minute, "whole again", c.whole) // the member that was cut off is slow to trust itself
		var got []gossip.EventKind
		for _, e := range events() {
			if e.Member.Name == "n3" {
				got = append(got, e.Kind)
			}
		}
		if want := "[joined suspected recovered]"; fmt.Sprint(got) != want {
			t.Errorf("got events %v, want %s", got, want)
		}
	})
}

func TestPartitionHealsHoweverLongItLasted(t *testing.T) {
	for _, lasted := range []time.Duration{15 * time.Second, 10 * time.Minute} {
		t.Run(lasted.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCluster(t)
				defer c.end()
				c.startAll(6)
				c.within(time.Minute, "whole", c.whole)
				left, right := []string{"n0", "n1", "n2"}, []string{"n3", "n4", "n5"}
				c.net.Split(left, right)
				time.Sleep(lasted)
				if !c.agree(left, right, gossip.StateFailed) || !c.agree(right, left, gossip.StateFailed) {
					t.Error("the halves did not lose each other")
				}
				if !c.agree(left, left, gossip.StateAlive) || !c.agree(right, right, gossip.StateAlive) {
					t.Error("a half did not hold together")
				}
				c.net.Heal()
				c.within(time.Minute, "whole again", c.whole)
			})
		})
	}
}

func TestMetaReachesAllAndTheLastOneWins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		defer c.end()
		c.startAll(5)
		c.within(time.Minute, "whole", c.whole)
		want := gossip.Meta{Role: gossip.RolePlane, APIPort: 1, MeshPort: 2, Version: "v2", Zone: "z"}
		for _, m := range []gossip.Meta{{Version: "v1.1"}, {Version: "v1.2"}, want} {
			if err := c.members["n1"].SetMeta(m); err != nil {
				t.Fatal(err)
			}
		}
		c.within(3*time.Second, "the same meta for all", func() bool {
			for _, name := range c.names() {
				if m, _ := c.sees(name, "n1"); m.Meta != want {
					return false
				}
			}
			return true
		})
		err := c.members["n1"].SetMeta(gossip.Meta{Zone: strings.Repeat("z", 64)})
		if !errors.Is(err, gossip.ErrMeta) {
			t.Errorf("got %v, want ErrMeta", err)
		}
	})
}

func TestSecondMachineOfOneNameIsReportedAndRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		defer c.end()
		c.startAll(3)
		c.within(time.Minute, "whole", c.whole)
		events := follow(c.members["n0"])
		first := c.members["n2"]
		rival := c.start("n2") // takes its place in c.members
		c.within(5*time.Second, "reported", func() bool {
			return c.members["n0"].Refused(gossip.RefusedName) > 0 && rival.Refused(gossip.RefusedName) > 0
		})
		if m, _ := c.sees("n0", "n2"); m.Addr != first.net.Addr() {
			t.Errorf("got %v for n2, want the first one, %v", m.Addr, first.net.Addr())
		}
		var got *gossip.Event
		for _, e := range events() {
			if e.Kind == gossip.Conflicted {
				got = &e
			}
		}
		if got == nil || got.Rival != rival.net.Addr() || got.Member.Name != "n2" {
			t.Errorf("got event %+v, want a conflict over n2 with %v", got, rival.net.Addr())
		}
		if err := first.stop(); err != nil {
			t.Error(err)
		}
	})
}

func TestLossAndDelayLoseNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		defer c.end()
		c.net.Drop(0.1)
		c.net.Delay(time.Millisecond, 20*time.Millisecond)
		c.startAll(10)
		c.within(10*time.Second, "whole", c.whole)
		events := follow(c.members["n0"])
		time.Sleep(2 * time.Minute)
		for _, e := range events() {
			if e.Kind == gossip.Failed {
				t.Errorf("%s failed while it was alive", e.Member.Name)
			}
		}
	})
}

func TestSlowReaderOfEventsSeesTheLastOfEachMember(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		defer c.end()
		c.startAll(2)
		c.within(time.Minute, "whole", c.whole)
		ctx, cancel := context.WithCancel(t.Context())
		events := c.members["n0"].Events(ctx)
		for i := range 50 {
			if err := c.members["n1"].SetMeta(gossip.Meta{APIPort: uint16(i)}); err != nil {
				t.Fatal(err)
			}
			time.Sleep(200 * time.Millisecond)
		}
		var last gossip.Event
		n := 0
		for i := 0; i < 4; i++ { // the two joins, one that was on its way, the last
			select {
			case last = <-events:
				n++
			case <-time.After(time.Second):
			}
		}
		if last.Member.Meta.APIPort != 49 || n > 3 {
			t.Errorf("got %d events, the last with port %d; want at most 3, and port 49", n, last.Member.Meta.APIPort)
		}
		cancel()
		for range events {
		}
	})
}

func TestRunEndsEventsAndJoins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		defer c.end()
		c.startAll(2)
		g := c.members["n1"]
		events := g.Events(context.Background())
		c.stop("n1")
		for range events { // ends, or the bubble is stuck
		}
		if _, open := <-g.Events(context.Background()); open {
			t.Error("got an event after Run")
		}
		if _, err := g.Join(t.Context(), []string{"10.0.0.1:1"}); err == nil {
			t.Error("joined after Run")
		}
		if err := g.Run(t.Context()); err == nil {
			t.Error("ran twice")
		}
	})
}

func TestJoinSaysWhatIsWrongWithEachAddress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		defer c.end()
		c.startAll(2)
		g := c.members["n0"]
		_, err := g.Join(t.Context(), []string{"10.9.9.9:7946"})
		if err == nil || !strings.HasPrefix(err.Error(), "gossip: join: 10.9.9.9:7946: dial tcp") {
			t.Errorf("got %v", err)
		}
		n, err := g.Join(t.Context(), []string{"10.9.9.9:7946", c.members["n1"].Addr().String()})
		if n != 1 || err != nil {
			t.Errorf("got %d, %v; want one of two and no error", n, err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start := time.Now()
		if _, err = g.Join(ctx, []string{"10.9.9.9:7946"}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v, want the end of the context", err)
		}
		if took := time.Since(start); took != time.Second {
			t.Errorf("took %v, want the second that the context gave", took)
		}
	})
}

func TestMetricsCountMembersByState(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		defer c.end()
		reg := prometheus.NewRegistry()
		c.start("n0", func(cfg *gossip.Config) { cfg.Metrics = reg })
		for _, name := range []string{"n1", "n2", "n3"} {
			c.start(name)
		}
		c.within(time.Minute, "whole", c.whole)
		c.stop("n1")
		c.net.Isolate("n2")
		c.within(10*time.Second, "failed", func() bool { return c.agree([]string{"n0"}, []string{"n2"}, gossip.StateFailed) })
		want := `
# HELP copepod_gossip_members Members that gossip knows, by state.
# TYPE copepod_gossip_members gauge
copepod_gossip_members{state="alive"} 2
copepod_gossip_members{state="failed"} 1
copepod_gossip_members{state="left"} 1
copepod_gossip_members{state="suspect"} 0
`
		if err := testutil.GatherAndCompare(reg, strings.NewReader(want), "copepod_gossip_members"); err != nil {
			t.Error(err)
		}
		c.stop("n0")
		if all, _ := reg.Gather(); len(all) != 0 {
			t.Errorf("got %d metrics after Run, want none", len(all))
		}
	})
}

func TestConfigIsCheckedFieldByField(t *testing.T) {
	good := func() gossip.Config {
		return gossip.Config{Name: "n", Keys: [][]byte{key}, Bind: netip.MustParseAddrPort("127.0.0.1:0"), Log: slog.New(slog.DiscardHandler)}
	}
	for _, row := range []struct {
		name   string
		change func(*gossip.Config)
		want   string
	}{
		{"no name", func(c *gossip.Config) { c.Name = "" }, "gossip: config: field Name is empty"},
		{"odd name", func(c *gossip.Config) { c.Name = "N 1" }, `gossip: config: field Name "N 1" is no RFC 1123 subdomain: use lower case letters, digits, '-' and '.'`},
		{"no keys", func(c *gossip.Config) { c.Keys = nil }, "gossip: config: no key: gossip is always encrypted, give at least one of 32 bytes"},
		{"short key", func(c *gossip.Config) { c.Keys = [][]byte{key[:16]} }, "gossip: config: field Keys[0]: key does not have 32 bytes (AES-256) but 16"},
		{"all interfaces", func(c *gossip.Config) { c.Bind = netip.AddrPort{} }, "gossip: config: field Advertise is 0.0.0.0: give the address under which other members reach this one"},
		{"long zone", func(c *gossip.Config) { c.Meta.Zone = strings.Repeat("z", 64) }, "gossip: config: meta: Zone has 64 bytes, more than 63"},
		{"slow probe", func(c *gossip.Config) { c.Pace.ProbeTimeout = time.Second }, "gossip: config: field Pace.ProbeTimeout is 1s: give less than ProbeInterval, 500ms"},
	} {
		t.Run(row.name, func(t *testing.T) {
			cfg := good()
			row.change(&cfg)
			_, err := gossip.New(cfg)
			if err == nil || err.Error() != row.want {
				t.Errorf("got  %v\nwant %s", err, row.want)
			}
		})
	}
}
