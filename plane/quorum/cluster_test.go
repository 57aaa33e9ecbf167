package quorum_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"copepod/plane/peer"
	"copepod/plane/peer/peertest"
	"copepod/plane/quorum"
	"copepod/plane/store"
	"copepod/plane/store/storetest"
)

const patience = 60 * time.Second

// machines are members of a plane in one process, over TLS on loopback.
type machines struct {
	t    testing.TB
	ca   *peertest.CA
	cfg  store.Config // of each store
	want int          // voters
	all  []*machine

	mu    sync.Mutex // guards what follows
	known map[string]quorum.Member
}

type machine struct {
	name    string
	dir     string
	address string
	store   *store.Store
	stop    func() // hands over, then stops
	kill    func() // is gone for the others at once
	alive   bool
}

func newMachines(t testing.TB, cfg store.Config) *machines {
	cfg.Log = slog.New(slog.DiscardHandler)
	return &machines{t: t, ca: peertest.NewCA(t), cfg: cfg, want: 3, known: map[string]quorum.Member{}}
}

// start brings up one more machine: the first founds the cluster.
func (ms *machines) start() *machine {
	ms.t.Helper()
	m := &machine{name: fmt.Sprintf("n%d", len(ms.all)), dir: filepath.Join(ms.t.TempDir(), "store")}
	ms.all = append(ms.all, m)
	ms.run(m, len(ms.all) > 1)
	return m
}

func (ms *machines) run(m *machine, join bool) {
	ms.t.Helper()
	cfg := ms.ca.Config(ms.t, m.name)
	if m.address != "" { // it was there before
		cfg.Listener.Close()
		var err error
		if cfg.Listener, err = listenAgain(m.address); err != nil {
			ms.t.Skipf("the port is taken by another: %v", err)
		}
	}
	p := peertest.New(ms.t, cfg)
	m.address = p.Addr().String()
	sc := ms.cfg
	sc.Dir, sc.NodeID, sc.Transport, sc.Forwarder, sc.Join = m.dir, m.name, p.Raft(), p, join
	st, stopStore := storetest.Start(ms.t, sc)
	stopPeer := peertest.Run(ms.t, p, st.Serve)
	q, err := quorum.New(quorum.Config{Store: st, Members: ms.members, Voters: ms.want, Log: sc.Log,
		Stable: 100 * time.Millisecond, Dead: 300 * time.Millisecond, Interval: 30 * time.Millisecond})
	if err != nil {
		ms.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { q.Run(ctx) })
	m.store, m.alive = st, true
	m.stop = func() { cancel(); wg.Wait(); stopStore(); stopPeer() }
	m.kill = func() { stopPeer(); cancel(); wg.Wait(); stopStore() }
	ms.t.Cleanup(m.stop)
	ms.tell(m, true)
}

func listenAgain(address string) (l net.Listener, err error) {
	for range 100 {
		if l, err = net.Listen("tcp", address); err == nil {
			return l, nil
		}
		time.Sleep(50 * time.Millisecond)
	}
	return nil, err
}

// tell is what gossip would do.
func (ms *machines) tell(m *machine, alive bool) {
	ms.mu.Lock()
	defer ms.mu.Unlock()
	m.alive = alive
	ms.known[m.name] = quorum.Member{ID: m.name, Address: m.address, Alive: alive, Eligible: true}
}

func (ms *machines) members() []quorum.Member {
	ms.mu.Lock()
	defer ms.mu.Unlock()
	var all []quorum.Member
	for _, m := range ms.known {
		all = append(all, m)
	}
	return all
}

// murder kills a machine and lets the others know.
func (ms *machines) murder(m *machine) {
	m.kill()
	ms.tell(m, false)
}

func (ms *machines) eventually(what string, is func() bool) {
	ms.t.Helper()
	for deadline := time.Now().Add(patience); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			for _, m := range ms.all {
				if m.alive {
					status, err := m.store.Status(context.Background())
					ms.t.Logf("%s: %+v %v", m.name, status, err)
				}
			}
			ms.t.Fatalf("got no end of waiting, want that %s", what)
		}
	}
}

func (ms *machines) leader() *machine {
	ms.t.Helper()
	var leader *machine
	ms.eventually("somebody leads", func() bool {
		for _, m := range ms.all {
			if m.alive && m.store.Leading() {
				leader = m
				return true
			}
		}
		return false
	})
	return leader
}

// votes waits until those are the voters, no others are members than those and
// the followers, and all of them know.
func (ms *machines) votes(voters, followers string) {
	ms.t.Helper()
	ms.eventually(fmt.Sprintf("%q vote and %q follow", voters, followers), func() bool {
		want := strings.Fields(voters + " " + followers)
		for _, m := range ms.all {
			if m.alive && slices.Contains(want, m.name) && !m.knows(voters, followers) {
				return false
			}
		}
		return ms.leader().knows(voters, followers)
	})
}

// knows says that a machine has heard that those are the members.
func (m *machine) knows(voters, followers string) bool {
	members, err := m.store.Members()
	if err != nil {
		return false
	}
	var v, f []string
	for _, m := range members {
		if m.Voter {
			v = append(v, m.ID)
		} else {
			f = append(f, m.ID)
		}
	}
	slices.Sort(v)
	slices.Sort(f)
	return strings.Join(v, " ") == voters && strings.Join(f, " ") == followers
}

func (ms *machines) put(m *machine, key, value string) {
	ms.t.Helper()
	op := store.Op{Kind: store.Put, Key: key, Value: []byte(value)}
	var err error
	for start := time.Now(); time.Since(start) < patience; { // a starved machine may elect for long
		if _, err = m.store.Txn(ms.t.Context(), op); !errors.Is(err, store.ErrUnavailable) {
			break
		}
	}
	if err != nil {
		ms.t.Fatalf("%s: put %s: %v", m.name, key, err)
	}
}

// same waits until all that live hold the same.
func (ms *machines) same() {
	ms.t.Helper()
	ms.eventually("all members hold the same", func() bool {
		var first []byte
		for _, m := range ms.all {
			if !m.alive {
				continue
			}
			var b bytes.Buffer
			if err := m.store.Snapshot().WriteImage(&b); err != nil {
				ms.t.Fatal(err)
			}
			if first == nil {
				first = b.Bytes()
			}
			if !bytes.Equal(first, b.Bytes()) {
				return false
			}
		}
		return true
	})
}

func TestJoinersVoteInPairsAndTheDeadAreReplaced(t *testing.T) {
	ms := newMachines(t, store.Config{LogBytes: 32 << 10})
	a := ms.start()
	storetest.WaitReady(t, a.store)
	for i := range 200 { // into a snapshot, which the joiners have to take
		ms.put(a, fmt.Sprintf("k%03d", i), strings.Repeat("v", 500))
	}
	b := ms.start()
	ms.votes("n0", "n1")
	ms.put(b, "from a follower", "x")
	ms.start()
	ms.votes("n0 n1 n2", "")
	d := ms.start()
	ms.votes("n0 n1 n2", "n3")
	ms.put(d, "from another follower", "x")
	ms.same()

	old := ms.leader()
	ms.murder(old)
	ms.put(d, "after the leader", "x")
	var left []string
	for _, m := range ms.all {
		if m != old {
			left = append(left, m.name)
		}
	}
	ms.votes(strings.Join(left, " "), "")
	ms.same()

	ms.run(old, true) // it comes back, and the places are taken
	ms.votes(strings.Join(left, " "), old.name)
	ms.put(old, "from who came back", "x")
	ms.same()
	if n := d.store.Snapshot().Len(); n != 204 {
		t.Errorf("got %d keys, want 204", n)
	}
}

func TestStatusTellsOfEveryMember(t *testing.T) {
	ms := newMachines(t, store.Config{})
	storetest.WaitReady(t, ms.start().store)
	ms.start()
	c := ms.start()
	ms.votes("n0 n1 n2", "")
	ms.put(c, "k", "v")
	ms.same()
	ms.eventually("all report what they have", func() bool {
		st, err := c.store.Status(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		ok := st.ID == "n2" && st.Leader == ms.leader().name && st.Revision == 1 && len(st.Members) == 3 && st.Fsync.P99 > 0 && st.Problem == ""
		for _, m := range st.Members {
			ok = ok && m.Error == "" && m.Voter && m.Term == st.Term && m.Lag == 0 && m.Revision == 1 && m.Fsync.P50 > 0
		}
		return ok
	})
}

func TestEveryWriteHappensOnceWhileLeadersAreMurdered(t *testing.T) {
	ms := newMachines(t, store.Config{})
	storetest.WaitReady(t, ms.start().store)
	ms.start()
	ms.start()
	ms.votes("n0 n1 n2", "")
	ms.put(ms.all[0], "counter", "0")
	counted := 0
	var unknown atomic.Int64
	for round := range 2 {
		old := ms.leader()
		var wg sync.WaitGroup
		acked := make([]int, len(ms.all))
		gone := make(chan struct{})
		for i, m := range ms.all {
			if m == old {
				continue
			}
			wg.Go(func() {
				after := 0
				for n := 0; after < 20 && !t.Failed(); n++ {
					select {
					case <-gone:
						after++
					default:
					}
					op := store.Op{Kind: store.Put, Key: fmt.Sprintf("r%d/%d/%04d", round, i, n), Value: []byte("x")}
					res, err := m.store.Txn(t.Context(), op)
					if errors.Is(err, store.ErrUnavailable) {
						continue // nobody led for too long
					}
					if err == nil && (res.Ops[0].Prev != nil || res.Ops[0].Cur.Version != 1) {
						err = errors.New("it happened before")
					}
					if err == nil {
						err = increment(t.Context(), m.store, &acked[i])
					}
					if errors.Is(err, store.ErrUnavailable) {
						unknown.Add(1)
						continue
					}
					if err != nil {
						t.Errorf("round %d, %s: %v", round, m.name, err)
					}
				}
			})
		}
		ms.murder(old)
		close(gone)
		wg.Wait()
		for _, n := range acked {
			counted += n
		}
		ms.run(old, true)
		ms.votes("n0 n1 n2", "")
		ms.same()
		if t.Failed() {
			return
		}
	}
	got := 0
	fmt.Sscan(string(ms.all[0].store.Snapshot().Get("counter").Value), &got)
	if got < counted || got > counted+int(unknown.Load()) {
		t.Errorf("got counter %d, want %d that were acknowledged and at most %d more", got, counted, unknown.Load())
	}
	for kv := range ms.all[0].store.Snapshot().Range("r", "") {
		if kv.Version != 1 {
			t.Errorf("got %s written %d times, want once", kv.Key, kv.Version)
		}
	}
}

// increment adds one to the counter that all share, and counts when it did.
func increment(ctx context.Context, st *store.Store, acked *int) error {
	for {
		kv, n := st.Snapshot().Get("counter"), 0
		fmt.Sscan(string(kv.Value), &n)
		_, err := st.Txn(ctx, store.Op{Kind: store.Put, Key: "counter", Value: fmt.Append(nil, n+1), Expect: store.Exact(kv.Rev)})
		var conflict *store.ConflictError
		if errors.As(err, &conflict) {
			continue
		}
		if err == nil {
			*acked++
		}
		return err
	}
}

func TestGarbageOnTheStreamOfRaftChangesNothing(t *testing.T) {
	ms := newMachines(t, store.Config{})
	storetest.WaitReady(t, ms.start().store)
	ms.start()
	ms.start()
	ms.votes("n0 n1 n2", "")
	cert := ms.ca.Issue(t, peertest.Prefix+"n9", time.Hour)
	for i, garbage := range [][]byte{
		[]byte("GET / HTTP/1.1\r\n\r\n"),
		bytes.Repeat([]byte{0xff}, 4096),
		append([]byte{0, 0x87, 0xa4, 'T', 'e', 'r', 'm', 0xdb}, 0xff, 0xff, 0xff, 0xff),                      // a string of 4 GiB
		append([]byte{0, 0x87, 0xa7, 'E', 'n', 't', 'r', 'i', 'e', 's', 0xdd}, 0x7f, 0xff, 0xff, 0xff, 0xc0), // 2 Gi entries
		append([]byte{0, 0x81, 0xa6, 'L', 'e', 'a', 'd', 'e', 'r', 0xc6}, 0xff, 0xff, 0xff, 0xf0, 1),         // 4 GiB of bytes
		bytes.Repeat([]byte{0x9f}, 64<<10),
	} {
		for _, m := range ms.all {
			c, err := ms.ca.Dial(m.address, peer.RaftProtocol, cert)
			if err != nil {
				t.Fatalf("%d: %v", i, err)
			}
			c.SetDeadline(time.Now().Add(patience))
			c.Write(garbage)
			c.CloseWrite()
			var b [256]byte
			for err == nil {
				_, err = c.Read(b[:])
			}
			var timeout net.Error
			if errors.As(err, &timeout) && timeout.Timeout() {
				t.Errorf("garbage %d: got a stream that stays open, want it closed", i)
			}
			c.Close()
		}
	}
	for i, m := range ms.all {
		ms.put(m, fmt.Sprintf("after %d", i), "x")
	}
	ms.same()
}

func TestRevokedMemberGainsNothing(t *testing.T) {
	ms := newMachines(t, store.Config{})
	storetest.WaitReady(t, ms.start().store)
	ms.start()
	ms.start()
	ms.votes("n0 n1 n2", "")
	d := ms.start()
	ms.votes("n0 n1 n2", "n3")
	ms.same()
	ms.ca.Revoke("n3")
	ms.mu.Lock()
	delete(ms.known, "n3")
	ms.mu.Unlock()
	ms.votes("n0 n1 n2", "")
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	if _, err := d.store.Txn(ctx, store.Op{Kind: store.Put, Key: "k"}); err == nil {
		t.Error("got a write of a revoked member, want none")
	}
	ms.put(ms.all[0], "secret", "x")
	if d.store.Snapshot().Get("secret") != nil {
		t.Error("got what was written after the revocation at a revoked member, want nothing")
	}
}

func TestTwoOfFiveMayBeLostAtOnce(t *testing.T) {
	ms := newMachines(t, store.Config{})
	ms.want = 5
	storetest.WaitReady(t, ms.start().store)
	for range 4 {
		ms.start()
	}
	ms.votes("n0 n1 n2 n3 n4", "")
	first := ms.leader()
	second := ms.all[0]
	if second == first {
		second = ms.all[1]
	}
	first.kill()
	second.kill()
	first.alive, second.alive = false, false
	var left []string
	for _, m := range ms.all {
		if m.alive {
			ms.put(m, "by "+m.name, "x")
			left = append(left, m.name)
		}
	}
	ms.tell(first, false)
	ms.tell(second, false)
	ms.votes(strings.Join(left, " "), "") // of whom one more may be lost
	ms.same()
}
