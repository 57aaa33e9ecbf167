package gossiptest_test

import (
	"errors"
	"net/netip"
	"os"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"copepod/gossip/gossiptest"
)

// send writes packets numbered 0 to n-1 and returns those that arrived.
func send(t *testing.T, from, to *gossiptest.Transport, n int) (got []byte) {
	t.Helper()
	for i := range n {
		if _, err := from.WriteTo([]byte{byte(i)}, to.Addr().String()); err != nil {
			t.Fatal(err)
		}
	}
	time.Sleep(time.Second)
	for {
		select {
		case p := <-to.PacketCh():
			got = append(got, p.Buf[0])
		default:
			return got
		}
	}
}

func TestSameSeedLosesTheSamePackets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		run := func(seed uint64) []byte {
			n := gossiptest.New(seed)
			a, b := n.Transport("a"), n.Transport("b")
			n.Drop(0.5)
			return send(t, a, b, 100)
		}
		first, again, other := run(1), run(1), run(2)
		if !slices.Equal(first, again) {
			t.Errorf("got %v, then %v", first, again)
		}
		if slices.Equal(first, other) || len(first) < 25 || len(first) > 75 {
			t.Errorf("got %d and %d packets of 100, want about half, and not the same", len(first), len(other))
		}
	})
}

func TestCutStopsWhatItSaysUntilHeal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := gossiptest.New(1)
		a, b := n.Transport("a"), n.Transport("b")
		n.CutOneWay("a", "b")
		if there, back := send(t, a, b, 3), send(t, b, a, 3); len(there) != 0 || len(back) != 3 {
			t.Errorf("one way: got %d there and %d back, want 0 and 3", len(there), len(back))
		}
		n.Isolate("b")
		if back := send(t, b, a, 3); len(back) != 0 {
			t.Errorf("isolated: got %d, want 0", len(back))
		}
		start := time.Now()
		if _, err := a.DialTimeout(b.Addr().String(), 3*time.Second); !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(start) != 3*time.Second {
			t.Errorf("got %v after %v, want the timeout", err, time.Since(start))
		}
		n.Heal()
		if there := send(t, a, b, 3); len(there) != 3 {
			t.Errorf("healed: got %d, want 3", len(there))
		}
		if got := n.Stats(); got != (gossiptest.Stats{Packets: 12, Bytes: 12, Lost: 7, Streams: 1}) {
			t.Errorf("got %+v", got)
		}
	})
}

func TestCutBreaksOpenStreams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := gossiptest.New(1)
		a, b := n.Transport("a"), n.Transport("b")
		go func() { <-b.StreamCh() }()
		conn, err := a.DialTimeout(b.Addr().String(), time.Second)
		if err != nil {
			t.Fatal(err)
		}
		if got := conn.RemoteAddr().String(); got != b.Addr().String() {
			t.Errorf("got remote address %s, want %s", got, b.Addr())
		}
		n.Cut("b", "a")
		if _, err := conn.Read(make([]byte, 1)); err == nil {
			t.Error("the stream goes on")
		}
	})
}

func TestDelayIsBetweenItsBounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := gossiptest.New(1)
		a, b := n.Transport("a"), n.Transport("b")
		n.Delay(10*time.Millisecond, 20*time.Millisecond)
		for range 20 {
			start := time.Now()
			if _, err := a.WriteTo([]byte{1}, b.Addr().String()); err != nil {
				t.Fatal(err)
			}
			<-b.PacketCh()
			if took := time.Since(start); took < 10*time.Millisecond || took >= 20*time.Millisecond {
				t.Errorf("took %v, want 10 to 20 ms", took)
			}
		}
	})
}

func TestMemberThatShutDownHearsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := gossiptest.New(1)
		a, b := n.Transport("a"), n.Transport("b")
		if err := b.Shutdown(); err != nil {
			t.Fatal(err)
		}
		if got := send(t, a, b, 3); len(got) != 0 {
			t.Errorf("got %d packets", len(got))
		}
		if _, err := n.Connect("b", netip.MustParseAddrPort("192.0.2.1:1")); err == nil {
			t.Error("a stream is accepted")
		}
		if again := n.Transport("b"); again.Addr() == b.Addr() {
			t.Error("the next b has the address of the one before")
		}
	})
}
