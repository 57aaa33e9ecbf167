package gossip_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"copepod/gossip"
)

func TestTwoHundredMembersConverge(t *testing.T) {
	if testing.Short() {
		t.Skip("200 members take seconds of processor time")
	}
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		defer c.end()
		c.startAll(200, func(cfg *gossip.Config) { cfg.Pace.RetransmitMult = 2 }) // half the work
		c.within(time.Minute, "whole", c.whole)
		c.net.Isolate("n7")
		rest := slices.DeleteFunc(c.names(), func(name string) bool { return name == "n7" })
		c.within(15*time.Second, "failed for all others", func() bool {
			return c.agree(rest, []string{"n7"}, gossip.StateFailed)
		})
	})
}

// BenchmarkConvergence reports, in the time of the members: how long until all
// know all after the last was started, until a silent one is suspect for the
// first and failed for all, and what that took in packets.
func BenchmarkConvergence(b *testing.B) {
	for _, n := range []int{50, 200} {
		b.Run(fmt.Sprintf("members=%d", n), func(b *testing.B) { inBubble(b, n, converge) })
	}
}

// BenchmarkIdle reports what one member among that many costs when nothing
// happens, in a second of its own time: processor time, packets and bytes. The
// processor time is that of the whole process, the network in memory included.
func BenchmarkIdle(b *testing.B) {
	for _, n := range []int{50, 200} {
		b.Run(fmt.Sprintf("members=%d", n), func(b *testing.B) { inBubble(b, n, idle) })
	}
}

// inBubble runs f for a cluster of n where time is free. A bubble wants a
// *testing.T, so there is a test inside the benchmark.
func inBubble(b *testing.B, n int, f func(*testing.B, *cluster, int)) {
	match := func(string, string) (bool, error) { return true, nil }
	for b.Loop() {
		ok := testing.RunTests(match, []testing.InternalTest{{Name: b.Name(), F: func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCluster(t)
				defer c.end()
				c.startAll(n)
				f(b, c, n)
			})
		}}})
		if !ok {
			b.Fatal("see above")
		}
	}
}

func converge(b *testing.B, c *cluster, n int) {
	start := time.Now()
	c.within(time.Minute, "whole", c.whole)
	b.ReportMetric(time.Since(start).Seconds(), "join-s")
	b.ReportMetric(float64(c.net.Stats().Packets)/float64(n), "join-packets/member")
	rest := slices.DeleteFunc(c.names(), func(name string) bool { return name == "n7" })
	c.net.Isolate("n7")
	start = time.Now()
	c.within(20*time.Second, "suspect", func() bool {
		return !c.agree(rest, []string{"n7"}, gossip.StateAlive)
	})
	b.ReportMetric(time.Since(start).Seconds(), "suspect-s")
	c.within(30*time.Second, "failed", func() bool { return c.agree(rest, []string{"n7"}, gossip.StateFailed) })
	b.ReportMetric(time.Since(start).Seconds(), "failed-s")
}

func idle(b *testing.B, c *cluster, n int) {
	const watched = 20 * time.Second
	c.within(time.Minute, "whole", c.whole)
	time.Sleep(20 * time.Second) // for the news of joining to die down
	before, cpu := c.net.Stats(), processor(b)
	time.Sleep(watched)
	after, used := c.net.Stats(), processor(b)-cpu
	each := float64(n) * watched.Seconds()
	b.ReportMetric(float64(used.Microseconds())/each, "cpu-µs/member/s")
	b.ReportMetric(float64(after.Packets-before.Packets)/each, "packets/member/s")
	b.ReportMetric(float64(after.Bytes-before.Bytes)/each, "bytes/member/s")
}

// processor is the time that this process has used so far.
func processor(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func TestMembersMeetOverSockets(t *testing.T) {
	var members []*gossip.Gossip
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 3)
	for i := range 3 {
		g, err := gossip.New(gossip.Config{
			Name: fmt.Sprintf("n%d", i), Bind: netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, byte(1 + i)}), 0),
			Keys: [][]byte{key}, Pace: gossip.Loopback(), Log: slog.New(slog.DiscardHandler),
		})
		if err != nil {
			t.Fatal(err)
		}
		go func() { ended <- g.Run(ctx) }()
		select {
		case <-g.Ready():
		case err := <-ended:
			t.Skip("no sockets here: ", err)
		}
		members = append(members, g)
	}
	events := members[0].Events(ctx)
	for _, g := range members[1:] {
		if _, err := g.Join(ctx, []string{members[0].Addr().String()}); err != nil {
			t.Fatal(err)
		}
	}
	seen := map[string]bool{}
	for len(seen) < 3 {
		e := <-events
		seen[e.Member.Name] = e.Kind == gossip.Joined
	}
	cancel()
	for range members {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
}
