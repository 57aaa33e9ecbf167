package store_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"copepod/plane/store"
	"copepod/plane/store/mvcc"
	"copepod/plane/store/storetest"
)

// cluster is voters of one process, in a bubble.
type cluster struct {
	t       *testing.T
	network *storetest.Network
	members []*store.Store
}

func inCluster(t *testing.T, size int, cfg store.Config, test func(c *cluster)) {
	startCluster(t, size, cfg, false, test)
}

// startCluster makes a cluster whose members forward to the leader, or, each
// alone, do not.
func startCluster(t *testing.T, size int, cfg store.Config, alone bool, test func(c *cluster)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		c := &cluster{t: t, network: storetest.NewNetwork()}
		for i := range size {
			cfg.Peers = append(cfg.Peers, store.Peer{ID: address(i), Address: address(i)})
		}
		for i := range size {
			cfg.NodeID, cfg.Transport = address(i), c.network.Join(address(i))
			if !alone {
				cfg.Forwarder = c.network.Forwarder(address(i))
			}
			st, stop := storetest.Start(t, cfg)
			defer stop()
			c.network.Serve(address(i), st)
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
	startCluster(t, 3, store.Config{}, true, func(c *cluster) {
		i, leader := c.leader(-1)
		fill(c.t, leader, 0, 500)
		c.settle()
		follower := c.members[(i+1)%3]
		var not *store.NotLeaderError
		if _, err := follower.Txn(c.t.Context(), put("a")); !errors.As(err, &not) || not.ID != leader.NodeID() {
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

func put(key string) store.Op { return store.Op{Kind: store.Put, Key: key} }

func TestEveryMemberTakesWritesAndReadsThemAtOnce(t *testing.T) {
	inCluster(t, 3, store.Config{}, func(c *cluster) {
		for n := range 30 {
			st := c.members[n%3]
			key := fmt.Sprintf("k%02d", n)
			res, err := st.Txn(c.t.Context(), store.Op{Kind: store.Put, Key: key, Expect: store.Absent})
			if err != nil {
				c.t.Fatal(err)
			}
			if kv := st.Snapshot().Get(key); kv == nil || kv.Rev != res.Rev || res.Ops[0].Cur != kv {
				c.t.Fatalf("member %d: got %v, want what was just written at revision %d", n%3, kv, res.Rev)
			}
			other := c.members[(n+1)%3]
			if err := other.ReadIndex(c.t.Context()); err != nil || other.Snapshot().Get(key) == nil {
				c.t.Fatalf("member %d: got %v and no key %s, want it after ReadIndex", (n+1)%3, err, key)
			}
			var conflict *store.ConflictError
			_, err = other.Txn(c.t.Context(), store.Op{Kind: store.Put, Key: key, Expect: store.Absent})
			if !errors.As(err, &conflict) || conflict.Current != other.Snapshot().Get(key) {
				c.t.Fatalf("got %v, want a conflict with what is there", err)
			}
		}
		i, _ := c.leader(-1)
		follower := c.members[(i+1)%3]
		if err := follower.Compact(c.t.Context(), 10); err != nil {
			c.t.Error(err)
		}
		if err := follower.Compact(c.t.Context(), 10); !errors.Is(err, store.ErrCompacted) {
			c.t.Errorf("compacted twice: got %v, want ErrCompacted", err)
		}
		if err := follower.Compact(c.t.Context(), 1<<40); !errors.Is(err, store.ErrFutureRevision) {
			c.t.Errorf("compacted in the future: got %v, want ErrFutureRevision", err)
		}
		c.settle()
	})
}

func TestWritersDoNotNoticeThatTheLeaderIsLost(t *testing.T) {
	inCluster(t, 3, store.Config{}, func(c *cluster) {
		old, was := c.leader(-1)
		fill(c.t, was, 0, 100)
		c.network.Isolate(address(old))
		start := time.Now()
		var wg sync.WaitGroup
		for i, st := range c.members {
			wg.Go(func() {
				_, err := st.Txn(c.t.Context(), put(fmt.Sprintf("during-%d", i)))
				if i == old {
					return // it may or may not get through before the network heals
				}
				if err == nil {
					err = st.ReadIndex(c.t.Context())
				}
				if err != nil {
					c.t.Errorf("member %d: %v", i, err)
				}
				if took := time.Since(start); took > 2*time.Second { // of the bubble's time
					c.t.Errorf("got writes and reads after %v, want them within 2s", took)
				}
			})
		}
		c.leader(old)
		time.Sleep(2 * time.Second)
		if was.Health() == nil {
			c.t.Error("got a healthy member that is cut off, want it to say so")
		}
		ctx, cancel := context.WithTimeout(c.t.Context(), time.Second)
		defer cancel()
		if err := was.ReadIndex(ctx); err == nil {
			c.t.Error("got a linearizable read from a member that is cut off, want none")
		}
		c.network.Heal()
		wg.Wait()
		c.settle()
		events, err := c.members[0].Snapshot().Events(1)
		if err != nil {
			c.t.Fatal(err)
		}
		seen := map[string]int{}
		for _, e := range events {
			if seen[e.Cur.Key]++; seen[e.Cur.Key] > 1 {
				c.t.Errorf("key %s was written %d times, want each write once", e.Cur.Key, seen[e.Cur.Key])
			}
		}
		for i := range c.members {
			if key := fmt.Sprintf("during-%d", i); seen[key] != 1 {
				c.t.Errorf("key %s was written %d times, want once", key, seen[key])
			}
		}
	})
}

func TestWritersDoNotNoticeThatTheLeaderStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := storetest.NewNetwork()
		var cfg store.Config
		for i := range 3 {
			cfg.Peers = append(cfg.Peers, store.Peer{ID: address(i), Address: address(i)})
		}
		c := &cluster{t: t, network: network}
		var stops []func()
		for i := range 3 {
			cfg.NodeID, cfg.Transport, cfg.Forwarder = address(i), network.Join(address(i)), network.Forwarder(address(i))
			st, stop := storetest.Start(t, cfg)
			defer stop()
			network.Serve(address(i), st)
			c.members, stops = append(c.members, st), append(stops, stop)
		}
		for _, st := range c.members {
			storetest.WaitReady(t, st)
		}
		old, _ := c.leader(-1)
		start := time.Now()
		stops[old]() // hands over before it is gone
		st := c.members[(old+1)%3]
		if _, err := st.Txn(t.Context(), put("after")); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(start); took > 500*time.Millisecond { // of the bubble's time
			t.Errorf("got a write %v after the leader began to stop, want no election before it", took)
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

// A member whose write is acknowledged to nobody, and comes back to it inside a
// snapshot only, still tells its caller what became of it.
func TestResultIsFoundInASnapshot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &cluster{t: t, network: storetest.NewNetwork()}
		ways := make([]*way, 3)
		cfg := store.Config{LogBytes: 16 << 10}
		for i := range 3 {
			cfg.Peers = append(cfg.Peers, store.Peer{ID: address(i), Address: address(i)})
		}
		for i := range 3 {
			ways[i] = &way{}
			ways[i].take(c.network.Forwarder(address(i)))
			cfg.NodeID, cfg.Transport, cfg.Forwarder = address(i), c.network.Join(address(i)), ways[i]
			st, stop := storetest.Start(t, cfg)
			defer stop()
			c.network.Serve(address(i), st)
			c.members = append(c.members, st)
		}
		for _, st := range c.members {
			storetest.WaitReady(t, st)
		}
		l, leader := c.leader(-1)
		f := (l + 1) % 3
		follower := c.members[f]
		if _, err := follower.Txn(t.Context(), put("old")); err != nil {
			t.Fatal(err)
		}
		c.settle()
		direct := c.network.Forwarder(address((l + 2) % 3)) // which is not cut
		for _, test := range []struct {
			key   string
			fresh bool
		}{{"new", true}, {"old", false}} {
			// The group reaches the leader under another's name: only the
			// way back of its member is cut.
			arrived := make(chan struct{})
			ways[f].take(&oneWay{Forwarder: direct, arrived: arrived})
			done := make(chan error, 1)
			var res store.Result
			c.network.Isolate(address(f))
			if _, err := leader.Txn(t.Context(), put("first")); err != nil { // what the leader goes on trying to send
				t.Fatal(err)
			}
			synctest.Wait()
			go func() {
				var err error
				res, err = follower.Txn(t.Context(), put(test.key))
				done <- err
			}()
			<-arrived
			big := bytes.Repeat([]byte{0}, 2000)
			for n := range 600 { // more entries than trail behind a snapshot
				for b := range big {
					big[b] = byte(n * b >> 3)
				}
				if _, err := leader.Txn(t.Context(), store.Op{Kind: store.Put, Key: fmt.Sprintf("k%d", n%50), Value: big}); err != nil {
					t.Fatal(err)
				}
			}
			c.network.Heal()
			err := <-done
			kv := follower.Snapshot().Get(test.key)
			switch {
			case kv == nil:
				t.Errorf("%s: got nothing, want it written", test.key)
			case test.fresh && (err != nil || res.Rev != kv.Rev || res.Ops[0].Cur != kv):
				t.Errorf("%s: got %+v and %v, want what was written at revision %d", test.key, res, err, kv.Rev)
			case !test.fresh && (!errors.Is(err, store.ErrUnavailable) || !strings.Contains(err.Error(), fmt.Sprintf("at revision %d", kv.Rev)) || kv.Version != 2):
				t.Errorf("%s: got %v for version %d, want that it happened at revision %d", test.key, err, kv.Version, kv.Rev)
			}
			c.settle()
		}
	})
}

// way is a Forwarder that can be changed.
type way struct {
	now atomic.Pointer[store.Forwarder]
}

func (w *way) take(f store.Forwarder) { w.now.Store(&f) }

func (w *way) Call(ctx context.Context, member, address string, request []byte) ([]byte, error) {
	return (*w.now.Load()).Call(ctx, member, address, request)
}

// oneWay carries one request and no answer.
type oneWay struct {
	store.Forwarder
	once    sync.Once
	arrived chan struct{}
}

func (o *oneWay) Call(ctx context.Context, member, address string, request []byte) (_ []byte, err error) {
	o.once.Do(func() {
		_, err = o.Forwarder.Call(ctx, member, address, request)
		close(o.arrived)
	})
	return nil, errors.Join(err, errors.New("the answer is lost"))
}

// What comes from another member may be anything: it is answered or refused,
// and harms nobody.
func FuzzServe(f *testing.F) {
	st, stop := storetest.Start(f, store.Config{})
	f.Cleanup(stop)
	storetest.WaitReady(f, st)
	group := mvcc.AppendGroup(nil, mvcc.Group{Session: 1, Seq: 1, Lowest: 1}, mvcc.AppendTxn(nil, mvcc.Txn{{Kind: mvcc.Put, Key: "a", Value: []byte("v")}}))
	f.Add(append([]byte{1, 1}, group...))
	for _, text := range []string{"", "\x01", "\x02\x01", "\x01\x02\x05", "\x01\x03", "\x01\x04\x09", "\x01\x09",
		"\x01\x05" + `{"do":"remove","id":"n1"}`, "\x01\x05" + `{"do":"transfer"}`, "\x01\x05{"} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, request []byte) {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		answer, err := st.Serve(ctx, "n9", request)
		if (err == nil) != (len(answer) >= 2) {
			t.Fatalf("got %d bytes and %v, want an answer or an error", len(answer), err)
		}
		if err := st.Health(); err != nil {
			t.Fatal(err)
		}
	})
}
