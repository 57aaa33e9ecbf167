package gossip_test

import (
	"errors"
	"fmt"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"copepod/gossip"
)

var stranger = netip.MustParseAddrPort("192.0.2.1:4711")

func TestMemberWithAnotherKeyGainsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		defer c.end()
		other := c.start("other", func(cfg *gossip.Config) { cfg.Keys = [][]byte{gossip.NewKey()} })
		delete(c.members, "other")
		c.first = nil
		c.startAll(3)
		c.within(time.Minute, "whole", c.whole)
		n0 := c.members["n0"]
		if _, err := other.Join(t.Context(), []string{n0.Addr().String()}); !errors.Is(err, gossip.ErrNoAnswer) {
			t.Errorf("got %v, want ErrNoAnswer", err)
		}
		if n := len(other.Members()); n != 1 {
			t.Errorf("it knows %d members, want only itself", n)
		}
		synctest.Wait() // who hangs up counts afterwards
		if n := n0.Refused(gossip.RefusedKey); n == 0 {
			t.Error("its attempt was not counted")
		}
		for _, name := range c.names() {
			if _, ok := c.sees(name, "other"); ok {
				t.Errorf("%s knows it", name)
			}
		}
		if err := other.stop(); err != nil {
			t.Error(err)
		}
	})
}

// memberlist's own format of an alive message, unsealed.
const plainAlive = "\x04\x86\xabIncarnation\x01\xa4Node\xa5other\xa4Addr\xa4\x0a\x00\x00\x09\xa4Port\xcd\x1f\x0a\xa4Meta\xa0\xa3Vsn\xa6\x01\x05\x02\x00\x00\x00"

func TestWhatIsNotSealedIsNotRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		defer c.end()
		c.startAll(2)
		c.within(time.Minute, "whole", c.whole)
		n0 := c.members["n0"]
		packets := []string{"", "x", plainAlive, "\x01" + plainAlive, string(make([]byte, 1499))}
		for _, p := range packets {
			if err := c.net.Inject("n0", stranger, []byte(p)); err != nil {
				t.Fatal(err)
			}
		}
		if err := c.net.Inject("n0", stranger, make([]byte, 60000)); err != nil {
			t.Fatal(err)
		}
		c.within(time.Second, "counted", func() bool {
			return n0.Refused(gossip.RefusedKey) == uint64(len(packets)) && n0.Refused(gossip.RefusedSize) == 1
		})
		if n := len(n0.Members()); n != 2 {
			t.Errorf("got %d members, want 2", n)
		}
	})
}

func TestStreamsOfStrangersAreBounded(t *testing.T) {
	for _, row := range []struct {
		name string
		say  string
		want gossip.Reason
	}{
		{"nothing at all", "", gossip.RefusedSlow},
		{"a header, and no more", "\x01\x00\x00\x01\x00", gossip.RefusedSlow},
		{"a plain state", "\x06\x83", gossip.RefusedKey},
		{"a frame of 4 GiB", "\x01\xff\xff\xff\xff", gossip.RefusedSize},
		{"a frame that does not open", "\x01\x00\x00\x00\x30" + string(make([]byte, 0x30)), gossip.RefusedKey},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCluster(t)
				defer c.end()
				c.startAll(2)
				n0 := c.members["n0"]
				conn, err := c.net.Connect("n0", stranger)
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close()
				_, _ = conn.Write([]byte(row.say)) // it may be cut off in the middle
				c.within(10*time.Second, "refused", func() bool { return n0.Refused(row.want) == 1 })
				if n, err := conn.Read(make([]byte, 1)); n != 0 || err == nil {
					t.Errorf("got %d bytes and %v, want none and the end", n, err)
				}
			})
		})
	}
}

func TestFloodOfSilentStreamsKeepsNoMemberOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		defer c.end()
		c.startAll(2)
		n0 := c.members["n0"]
		for range 100 {
			conn, err := c.net.Connect("n0", stranger)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
		}
		c.within(time.Second, "all but 16 refused", func() bool { return n0.Refused(gossip.RefusedBusy) == 100-16 })
		if _, err := c.members["n1"].Join(t.Context(), []string{n0.Addr().String()}); err != nil {
			t.Errorf("a member is kept out: %v", err)
		}
	})
}

// "Add the new key everywhere, use it everywhere, remove the old one everywhere."
func TestRotationOfKeysLosesNobodyAndNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		defer c.end()
		c.startAll(5)
		c.within(time.Minute, "whole", c.whole)
		events := follow(c.members["n0"])
		stop, stopped := make(chan struct{}), make(chan struct{})
		go func() { // news that never pauses
			defer close(stopped)
			for i := 0; ; i++ {
				if err := c.members[fmt.Sprintf("n%d", i%5)].SetMeta(gossip.Meta{APIPort: uint16(i)}); err != nil {
					t.Error(err)
				}
				select {
				case <-stop:
					return
				case <-time.After(20 * time.Millisecond):
				}
			}
		}()
		fresh := gossip.NewKey()
		for _, step := range []func(*gossip.Keyring) error{
			func(k *gossip.Keyring) error { return k.Add(fresh) },
			func(k *gossip.Keyring) error { return k.Use(fresh) },
			func(k *gossip.Keyring) error { return k.Remove(key) },
		} {
			for _, name := range c.names() {
				for range 2 { // each step may be repeated
					if err := step(c.members[name].Keys()); err != nil {
						t.Fatal(err)
					}
				}
				time.Sleep(300 * time.Millisecond)
			}
			c.within(time.Minute, "whole", c.whole)
		}
		time.Sleep(30 * time.Second)
		close(stop)
		<-stopped
		for _, e := range events() {
			if e.Kind != gossip.Joined && e.Kind != gossip.Updated {
				t.Errorf("%s: %v", e.Member.Name, e.Kind)
			}
		}
		for _, name := range c.names() {
			if n := c.members[name].Refused(gossip.RefusedKey); n != 0 {
				t.Errorf("%s could not open %d messages", name, n)
			}
			if got, want := fmt.Sprint(c.members[name].Keys().IDs()), fmt.Sprintf("[%s]", gossip.IDOf(fresh)); got != want {
				t.Errorf("%s has keys %s, want %s", name, got, want)
			}
		}
	})
}

func TestMemberWithoutTheNewKeyIsShutOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		defer c.end()
		c.startAll(4)
		c.within(time.Minute, "whole", c.whole)
		fresh := gossip.NewKey()
		rest := []string{"n0", "n1", "n2"}
		for _, name := range rest {
			k := c.members[name].Keys()
			if err := errors.Join(k.Add(fresh), k.Use(fresh), k.Remove(key)); err != nil {
				t.Fatal(err)
			}
		}
		c.within(10*time.Second, "failed", func() bool { return c.agree(rest, []string{"n3"}, gossip.StateFailed) })
		c.within(10*time.Second, "whole without it", func() bool { return c.agree(rest, rest, gossip.StateAlive) })
	})
}

func TestKeyringRefusesWhatWouldSplitTheCluster(t *testing.T) {
	g, err := gossip.New(gossip.Config{Name: "n", Keys: [][]byte{key}, Transport: newCluster(t).net.Transport("n")})
	if err != nil {
		t.Fatal(err)
	}
	k, other := g.Keys(), gossip.NewKey()
	for _, row := range []struct {
		name string
		err  error
		want error
	}{
		{"use of an unknown key", k.Use(other), gossip.ErrKeyUnknown},
		{"removal of the key in use", k.Remove(key), gossip.ErrKeyInUse},
		{"removal of an unknown key", k.Remove(other), nil},
		{"a short key", k.Add(key[:31]), gossip.ErrKeySize},
		{"a fifth key", errors.Join(k.Add(other), k.Add(gossip.NewKey()), k.Add(gossip.NewKey()), k.Add(gossip.NewKey())), gossip.ErrKeyringFull},
	} {
		if !errors.Is(row.err, row.want) {
			t.Errorf("%s: got %v, want %v", row.name, row.err, row.want)
		}
	}
}
