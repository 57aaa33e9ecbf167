package gossipkeys_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"copepod/plane/auth/gossipkeys"
)

var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func fresh() func() []byte {
	n := byte(0)
	return func() []byte { n++; return bytes.Repeat([]byte{n}, 32) }
}

func Example() {
	keys := fresh()
	ring := gossipkeys.New(keys(), start)
	for now := start; ; now = now.Add(time.Second) {
		next, _ := ring.Next(gossipkeys.Facts{Now: now, Want: 1, Acked: true, Fresh: keys})
		if next.Phase == ring.Phase && next.Covers == 1 {
			break
		}
		ring = next
	}
	fmt.Println(ring.Phase, ring.Keys[0][0], len(ring.Keys))
	// Output: steady 2 1
}

// ring is a member's keys, as gossip has them.
type ring struct{ keys [][]byte }

var errRing = errors.New("ring")

func (r *ring) index(key []byte) int {
	for i, k := range r.keys {
		if bytes.Equal(k, key) {
			return i
		}
	}
	return -1
}

func (r *ring) Add(key []byte) error {
	if r.index(key) >= 0 {
		return nil
	}
	if len(r.keys) == 4 {
		return errRing
	}
	r.keys = append(r.keys, key)
	return nil
}

func (r *ring) Use(key []byte) error {
	i := r.index(key)
	if i < 0 {
		return errRing
	}
	r.keys[0], r.keys[i] = r.keys[i], r.keys[0]
	return nil
}

func (r *ring) Remove(key []byte) error {
	i := r.index(key)
	if i == 0 {
		return errRing
	}
	if i > 0 {
		r.keys = append(r.keys[:i:i], r.keys[i+1:]...)
	}
	return nil
}

// member follows the cluster's ring now and then.
type member struct {
	ring
	has gossipkeys.Ring
}

func (m *member) opens(key []byte) bool { return m.index(key) >= 0 }

func TestNoMessageIsLostWhileMembersFollowAtTheirOwnPace(t *testing.T) {
	for seed := range uint64(200) {
		random := rand.New(rand.NewPCG(seed, 1))
		keys := fresh()
		cluster := gossipkeys.New(keys(), start)
		members := make([]*member, 5)
		for i := range members {
			members[i] = &member{ring{cluster.Keys}, cluster}
		}
		want, now := uint64(0), start
		for step := range 300 {
			now = now.Add(time.Duration(random.IntN(400)) * time.Millisecond)
			if random.IntN(60) == 0 && step < 200 {
				want++
			}
			m := members[random.IntN(len(members))]
			if err := gossipkeys.Apply(m, m.has, cluster); err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
			m.has = cluster
			acked := true
			for _, m := range members {
				acked = acked && m.has.Generation >= cluster.Generation
			}
			// Members that follow within the limit of a step lose nothing.
			f := gossipkeys.Facts{Now: now, Want: want, Acked: acked, Fresh: keys}
			if next, _ := cluster.Next(f); acked || next.Phase == gossipkeys.Waiting || next.Phase == gossipkeys.Adding {
				cluster = next
			}
			for i, a := range members {
				for j, b := range members {
					if !b.opens(a.keys[0]) {
						t.Fatalf("seed %d, step %d: %d cannot read what %d sends", seed, step, j, i)
					}
				}
			}
		}
	}
}

func TestMemberThatDoesNotFollowHoldsUpNobodyForLong(t *testing.T) {
	keys := fresh()
	r, now := gossipkeys.New(keys(), start), start
	for range 4 {
		next, again := r.Next(gossipkeys.Facts{Now: now, Want: 1, Fresh: keys})
		if next.Phase == r.Phase {
			t.Fatalf("stuck while %s", r.Phase)
		}
		if r = next; again > 0 {
			now = now.Add(again)
		}
	}
	if r.Phase != gossipkeys.Steady || len(r.Keys) != 1 || r.Keys[0][0] != 2 || now.Sub(start) > time.Minute {
		t.Errorf("got %s with key %d after %s", r.Phase, r.Keys[0][0], now.Sub(start))
	}
}

func TestRevocationDuringARotationAsksForAnother(t *testing.T) {
	keys := fresh()
	r, now, want := gossipkeys.New(keys(), start), start, uint64(1)
	for range 9 {
		if r.Phase == gossipkeys.Using {
			want = 2
		}
		var again time.Duration
		r, again = r.Next(gossipkeys.Facts{Now: now, Want: want, Acked: true, Fresh: keys})
		now = now.Add(again)
	}
	if r.Phase != gossipkeys.Steady || r.Covers != 2 || r.Keys[0][0] != 3 {
		t.Errorf("got %s, covers %d, key %d, want a third key", r.Phase, r.Covers, r.Keys[0][0])
	}
}

func TestNewKeyComesOnlyAfterTheGrace(t *testing.T) {
	keys := fresh()
	r := gossipkeys.New(keys(), start)
	r, _ = r.Next(gossipkeys.Facts{Now: start, Want: 1, Acked: true, Fresh: keys})
	early, again := r.Next(gossipkeys.Facts{Now: start.Add(gossipkeys.Grace - time.Millisecond), Want: 1, Acked: true, Fresh: keys})
	if len(early.Keys) != 1 || again != time.Millisecond {
		t.Errorf("got %d keys, again after %s", len(early.Keys), again)
	}
	late, _ := r.Next(gossipkeys.Facts{Now: start.Add(gossipkeys.Grace), Want: 1, Acked: true, Fresh: keys})
	if len(late.Keys) != 2 || late.Keys[0][0] != 1 {
		t.Errorf("got %d keys, the first %d", len(late.Keys), late.Keys[0][0])
	}
}

func TestStoredFormIsReadBack(t *testing.T) {
	keys := fresh()
	r := gossipkeys.New(keys(), start)
	for range 4 {
		data, err := r.Encode()
		if err != nil {
			t.Fatal(err)
		}
		got, err := gossipkeys.Decode(data)
		if err != nil || fmt.Sprint(got) != fmt.Sprint(r) {
			t.Errorf("got %v, %v, want %v", got, err, r)
		}
		r, _ = r.Next(gossipkeys.Facts{Now: r.Since.Add(time.Minute), Want: 1, Acked: true, Fresh: keys})
	}
}

func FuzzDecode(f *testing.F) {
	data, err := gossipkeys.New(fresh()(), start).Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add([]byte(`{"version":1,"phase":"using","keys":[]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := gossipkeys.Decode(data)
		if err != nil {
			return
		}
		for range 5 { // whatever was read can be gone on with
			r, _ = r.Next(gossipkeys.Facts{Now: r.Since.Add(time.Hour), Want: r.Covers + 1, Acked: true, Fresh: fresh()})
			if len(r.Keys) == 0 {
				t.Fatal("no key")
			}
		}
	})
}
