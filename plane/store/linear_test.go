package store_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"copepod/plane/store"

	"github.com/anishathalye/porcupine"
)

// What clients do to one key, and what they are told.
type (
	input struct {
		key    string
		value  string // to write; empty is a read
		expect store.Revision
		absent bool // expected; else expect, unless 0
	}
	output struct {
		value   string
		rev     store.Revision
		failed  bool // the expectation was not met
		unknown bool // nobody was told
	}
	cell struct {
		value string
		rev   store.Revision
	}
)

// register is the sequential store of one key: revisions come from outside,
// but a later write must have a greater one.
var register = porcupine.Model{
	Partition: func(history []porcupine.Operation) [][]porcupine.Operation {
		byKey := map[string][]porcupine.Operation{}
		for _, op := range history {
			key := op.Input.(input).key
			byKey[key] = append(byKey[key], op)
		}
		var parts [][]porcupine.Operation
		for _, p := range byKey {
			parts = append(parts, p)
		}
		return parts
	},
	Init: func() any { return cell{} },
	Step: func(state, in, out any) (bool, any) {
		s, i, o := state.(cell), in.(input), out.(output)
		if i.value == "" {
			return o.unknown || o == output{value: s.value, rev: s.rev}, s
		}
		met := i.absent && s.rev == 0 || !i.absent && (i.expect == 0 || i.expect == s.rev)
		switch {
		case o.unknown: // if it happened, then at a revision that a read will tell
			return true, s
		case o.failed:
			return !met, s
		}
		return met && o.rev > s.rev, cell{i.value, o.rev}
	},
	DescribeOperation: func(in, out any) string { return fmt.Sprintf("%+v → %+v", in, out) },
}

// Clients write, compare-and-set and read through any member, while leaders
// are cut off. Values are unique, so that in the end the history of the store
// settles whether a write of unknown outcome happened, and that none happened
// twice.
func TestStoreIsLinearizable(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	inCluster(t, 3, store.Config{}, func(c *cluster) {
		h := &historian{c: c, unsure: map[string]input{}}
		ctx, cancel := context.WithCancel(c.t.Context())
		var wg sync.WaitGroup
		for client := range 6 {
			wg.Go(func() { h.client(ctx, client, rand.New(rand.NewPCG(seed, uint64(client)))) })
		}
		r := rand.New(rand.NewPCG(seed, 99))
		for range 6 {
			time.Sleep(time.Duration(500+r.IntN(2000)) * time.Millisecond)
			i, _ := c.leader(-1)
			c.network.Isolate(address(i))
			time.Sleep(time.Duration(500+r.IntN(3000)) * time.Millisecond)
			c.network.Heal()
		}
		cancel()
		wg.Wait()
		c.settle()
		history := h.settled()
		switch porcupine.CheckOperationsTimeout(register, history, 30*time.Second) {
		case porcupine.Illegal:
			c.t.Errorf("seed %d: %d operations are not linearizable", seed, len(history))
		case porcupine.Unknown:
			c.t.Logf("seed %d: %d operations are too many to decide", seed, len(history))
		}
		c.t.Logf("%d operations, %d of unknown outcome", len(history), len(h.unsure))
	})
}

// historian records operations by a clock that never stands still, which the
// clock of a bubble does.
type historian struct {
	c     *cluster
	clock atomic.Int64

	mu      sync.Mutex // guards what follows
	history []porcupine.Operation
	unsure  map[string]input // by value
}

func (h *historian) client(ctx context.Context, id int, r *rand.Rand) {
	last := map[string]store.Revision{}
	for n := 0; ctx.Err() == nil; n++ {
		time.Sleep(time.Duration(1+r.IntN(20)) * time.Millisecond)
		in := input{key: fmt.Sprintf("k%d", r.IntN(3))}
		switch r.IntN(3) {
		case 0:
			in.value = fmt.Sprintf("%d.%d", id, n)
		case 1:
			in.value = fmt.Sprintf("%d.%d", id, n)
			in.expect = last[in.key]
			in.absent = in.expect == 0
		}
		call := h.clock.Add(1)
		out := h.do(in, h.c.members[r.IntN(3)])
		if !out.unknown && !out.failed {
			last[in.key] = out.rev
		}
		h.mu.Lock()
		if out.unknown {
			if in.value != "" {
				h.unsure[in.value] = in
			}
			in.value, out = "", output{unknown: true} // a read that nobody saw
		}
		h.history = append(h.history, porcupine.Operation{ClientId: id, Input: in, Call: call, Output: out, Return: h.clock.Add(1)})
		h.mu.Unlock()
	}
}

func (h *historian) do(in input, st *store.Store) output {
	ctx, cancel := context.WithTimeout(h.c.t.Context(), 4*time.Second)
	defer cancel()
	if in.value == "" {
		if st.ReadIndex(ctx) != nil {
			return output{unknown: true}
		}
		kv := st.Snapshot().Get(in.key)
		if kv == nil {
			return output{}
		}
		return output{value: string(kv.Value), rev: kv.Rev}
	}
	op := store.Op{Kind: store.Put, Key: in.key, Value: []byte(in.value)}
	if in.absent {
		op.Expect = store.Absent
	} else if in.expect != 0 {
		op.Expect = store.Exact(in.expect)
	}
	res, err := st.Txn(ctx, op)
	var conflict *store.ConflictError
	switch {
	case errors.As(err, &conflict):
		return output{failed: true}
	case err != nil:
		return output{unknown: true}
	}
	return output{rev: res.Rev}
}

// settled adds the writes of unknown outcome that did happen: the history of
// the store tells at which revision. They may have taken effect at any time
// after they were called, so they are given all of it.
func (h *historian) settled() []porcupine.Operation {
	events, err := h.c.members[0].Snapshot().Events(1)
	if err != nil {
		h.c.t.Fatal(err)
	}
	all := h.history
	written := map[string]bool{}
	for _, e := range events {
		if value := string(e.Cur.Value); written[value] {
			h.c.t.Errorf("%s was written twice, want every write once", value)
		} else {
			written[value] = true
		}
		if in, ok := h.unsure[string(e.Cur.Value)]; ok {
			all = append(all, porcupine.Operation{
				ClientId: 100 + len(all), Input: in, Call: 0,
				Output: output{rev: e.Rev}, Return: h.clock.Add(1)})
		}
	}
	return all
}
