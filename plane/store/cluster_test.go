package store_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"copepod/plane/store"
	"copepod/plane/store/storetest"
)

// cluster is voters of one process, in a bubble.
type cluster struct {
	t       *testing.T
	network *storetest.Network
	members []*store.Store
}

func inCluster(t *testing.T, size int, cfg store.Config, test func(c *cluster)) {
	synctest.Test(t, func(t *testing.T) {
		c := &cluster{t: t, network: storetest.NewNetwork()}
		for i := range size {
			cfg.Peers = append(cfg.Peers, store.Peer{ID: address(i), Address: address(i)})
		}
		for i := range size {
			cfg.NodeID, cfg.Transport = address(i), c.network.Join(address(i))
			st, stop := storetest.Start(t, cfg)
			defer stop()
			c.members = append(c.members, st)
		}
		for _, st := range c.members {
			storetest.WaitReady(t, st)
		}
		test(c)
	})
}

func address(i int) string { return fmt.Sprintf("n%d", i) }

// leader waits for one of the members to lead that was not excepted.
func (c *cluster) leader(except int) (int, *store.Store) {
	c.t.Helper()
	for range 1000 {
		for i, st := range c.members {
			if i != except && st.Leading() {
				return i, st
			}
		}
		time.Sleep(10 * time.Millisecond)
	}
	c.t.Fatal("got no leader, want one")
	return 0, nil
}

// settle waits until all members have the same revision and compares them.
func (c *cluster) settle() {
	c.t.Helper()
	var images [][]byte
	for range 1000 {
		images = images[:0]
		for _, st := range c.members {
			var b bytes.Buffer
			if err := st.Snapshot().WriteImage(&b); err != nil {
				c.t.Fatal(err)
			}
			images = append(images, b.Bytes())
		}
		same := true
		for _, image := range images[1:] {
			same = same && bytes.Equal(image, images[0])
		}
		if same {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	for i, st := range c.members {
		c.t.Errorf("member %d: got revision %d, want the same state on all", i, st.Revision())
	}
}

func TestVotersHoldTheSameState(t *testing.T) {
	inCluster(t, 3, store.Config{}, func(c *cluster) {
		i, leader := c.leader(-1)
		fill(c.t, leader, 0, 500)
		c.settle()
		follower := c.members[(i+1)%3]
		var not *store.NotLeaderError
		if _, err := follower.Txn(c.t.Context(), store.Op{Kind: store.Put, Key: "a"}); !errors.As(err, &not) || not.ID != leader.NodeID() {
			c.t.Errorf("write to a follower: got %v, want that %s leads", err, leader.NodeID())
		}
		if err := follower.ReadIndex(c.t.Context()); !errors.Is(err, store.ErrNotLeader) {
			c.t.Errorf("read index of a follower: got %v, want ErrNotLeader", err)
		}
		if err := errors.Join(leader.ReadIndex(c.t.Context()), leader.Health(), follower.Health()); err != nil {
			c.t.Error(err)
		}
	})
}

func TestLostLeaderIsReplacedInTwoSeconds(t *testing.T) {
	inCluster(t, 3, store.Config{}, func(c *cluster) {
		old, was := c.leader(-1)
		fill(c.t, was, 0, 100)
		start := time.Now()
		c.network.Isolate(address(old))
		_, err := was.Txn(c.t.Context(), store.Op{Kind: store.Put, Key: "lost"})
		if !errors.Is(err, store.ErrUnavailable) {
			c.t.Errorf("write to a leader that is cut off: got %v, want ErrUnavailable", err)
		}
		if err := was.ReadIndex(c.t.Context()); !errors.Is(err, store.ErrNotLeader) {
			c.t.Errorf("read from a leader that is cut off: got %v, want ErrNotLeader", err)
		}
		_, leader := c.leader(old)
		if err := leader.ReadIndex(c.t.Context()); err != nil {
			c.t.Error(err)
		}
		fill(c.t, leader, 100, 200)
		if took := time.Since(start); took > 2*time.Second { // of the bubble's time
			c.t.Errorf("got writes after %v, want them within 2s", took)
		}
		if was.Health() == nil {
			c.t.Error("got a healthy member that is cut off, want it to say so")
		}
		c.network.Heal()
		c.settle()
		if kv := c.members[old].Snapshot().Get("lost"); kv != nil {
			c.t.Errorf("got %v, want no write that was never acknowledged nor replicated", kv)
		}
	})
}

func TestMemberThatWasAwayTooLongTakesASnapshot(t *testing.T) {
	inCluster(t, 3, store.Config{LogBytes: 64 << 10}, func(c *cluster) {
		i, leader := c.leader(-1)
		away := (i + 1) % 3
		ctx, cancel := context.WithTimeout(c.t.Context(), time.Minute)
		defer cancel()
		w, err := c.members[away].Watch(ctx, "k", 1)
		if err != nil {
			c.t.Fatal(err)
		}
		c.network.Isolate(address(away))
		big := bytes.Repeat([]byte{0}, 2000)
		for n := range 600 { // more entries than trail behind a snapshot
			for b := range big {
				big[b] = byte(n * b >> 3)
			}
			if _, err := leader.Txn(c.t.Context(), store.Op{Kind: store.Put, Key: fmt.Sprintf("k%d", n%50), Value: big}); err != nil {
				c.t.Fatal(err)
			}
		}
		c.network.Heal()
		c.settle()
		for range w.Events() {
		}
		if !errors.Is(w.Err(), store.ErrCompacted) {
			c.t.Errorf("got %v, want ErrCompacted for the watch across the snapshot", w.Err())
		}
	})
}

func TestKeysExpireOnceWhoeverLeads(t *testing.T) {
	inCluster(t, 3, store.Config{}, func(c *cluster) {
		old, leader := c.leader(-1)
		for i := range 20 {
			op := store.Op{Kind: store.Put, Key: fmt.Sprintf("k%d", i), TTL: time.Duration(i+1) * time.Second}
			if _, err := leader.Txn(c.t.Context(), op); err != nil {
				c.t.Fatal(err)
			}
		}
		time.Sleep(10 * time.Second)
		c.network.Isolate(address(old))
		time.Sleep(15 * time.Second)
		c.network.Heal()
		c.settle()
		if got := c.members[old].Snapshot(); got.Len() != 0 || got.Revision() != 40 {
			c.t.Errorf("got %d keys at revision %d, want none after 20 writes and 20 deletions", got.Len(), got.Revision())
		}
	})
}
