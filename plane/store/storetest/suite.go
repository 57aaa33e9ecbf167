package storetest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"testing"
	"time"

	"copepod/plane/store"
)

// Opener returns a running store that the test stops, of a configuration that
// the suite chose; the implementation adds where it lives.
type Opener func(t *testing.T, cfg store.Config) *store.Store

// Run checks that the stores which open makes do what package store promises.
func Run(t *testing.T, open Opener) {
	for _, c := range []struct {
		name string
		test func(*testing.T, Opener)
	}{
		{"a transaction happens at one revision or not at all", transactionsAreAtomic},
		{"a conflict names the key and what it holds", conflictsTell},
		{"a transaction that breaks a rule is refused", rulesAreKept},
		{"a batch answers each transaction by itself", batchesAnswerEach},
		{"a large batch keeps its order over many entries", largeBatches},
		{"of concurrent writers with one expectation one wins", oneWriterWins},
		{"a snapshot does not change", snapshotsStay},
		{"the past can be read until it is compacted", pastIsReadable},
		{"a watch sees every change of its prefix once and in order", watchesSeeAll},
		{"a watch starts at any revision that is kept", watchesResume},
		{"a watch tells how far it is", watchesProgress},
		{"a watch ends with its context and with its store", watchesEnd},
		{"a reader that falls behind is told and holds nobody up", slowReadersAreTold},
		{"a key with a TTL is deleted after it", keysExpire},
		{"reads after ReadIndex see what was acknowledged", readIndexIsABarrier},
		{"a call ends with its context", contextsEndCalls},
	} {
		t.Run(c.name, func(t *testing.T) { c.test(t, open) })
	}
}

func put(key, value string) store.Op {
	return store.Op{Kind: store.Put, Key: key, Value: []byte(value)}
}

func mustTxn(t *testing.T, st *store.Store, ops ...store.Op) store.Result {
	t.Helper()
	res, err := st.Txn(t.Context(), ops...)
	if err != nil {
		t.Fatalf("txn: %v", err)
	}
	return res
}

func values(s *store.Snapshot, prefix string) map[string]string {
	all := map[string]string{}
	for kv := range s.Range(prefix, "") {
		all[kv.Key] = string(kv.Value)
	}
	return all
}

func transactionsAreAtomic(t *testing.T, open Opener) {
	st := open(t, store.Config{})
	first := mustTxn(t, st, put("a", "1"), put("b", "1"))
	if a, b := st.Snapshot().Get("a"), st.Snapshot().Get("b"); a.Rev != first.Rev || b.Rev != first.Rev {
		t.Errorf("got revisions %d and %d, want both %d", a.Rev, b.Rev, first.Rev)
	}
	if first.Ops[0].Prev != nil || first.Ops[0].Cur != st.Snapshot().Get("a") {
		t.Errorf("got result %+v, want nothing before and what a reader sees after", first.Ops[0])
	}
	_, err := st.Txn(t.Context(), put("c", "1"), store.Op{Kind: store.Delete, Key: "a", Expect: store.Exact(first.Rev + 5)})
	if err == nil || st.Revision() != first.Rev || st.Snapshot().Get("c") != nil {
		t.Errorf("got %v at revision %d, want a conflict and nothing written", err, st.Revision())
	}
	second := mustTxn(t, st, store.Op{Kind: store.Delete, Key: "a"}, put("b", "2"))
	if second.Rev != first.Rev+1 || second.Ops[0].Cur != nil || string(second.Ops[1].Prev.Value) != "1" {
		t.Errorf("got %+v, want the next revision with what was there before", second)
	}
	if got, want := values(st.Snapshot(), ""), map[string]string{"b": "2"}; !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func conflictsTell(t *testing.T, open Opener) {
	st := open(t, store.Config{})
	res := mustTxn(t, st, put("a", "1"))
	for _, c := range []struct {
		name    string
		op      store.Op
		current *store.KV
	}{
		{"absent", store.Op{Kind: store.Put, Key: "a", Expect: store.Absent}, res.Ops[0].Cur},
		{"exact", store.Op{Kind: store.Check, Key: "a", Expect: store.Exact(99)}, res.Ops[0].Cur},
		{"exact of nothing", store.Op{Kind: store.Delete, Key: "z", Expect: store.Exact(1)}, nil},
	} {
		_, err := st.Txn(t.Context(), c.op)
		var conflict *store.ConflictError
		if !errors.As(err, &conflict) {
			t.Errorf("%s: got %v, want a conflict", c.name, err)
			continue
		}
		if conflict.Key != c.op.Key || conflict.Current != c.current || conflict.Rev != res.Rev {
			t.Errorf("%s: got %+v, want key %q holding %v at revision %d", c.name, conflict, c.op.Key, c.current, res.Rev)
		}
	}
}

func rulesAreKept(t *testing.T, open Opener) {
	st := open(t, store.Config{})
	for name, txn := range map[string]store.Txn{
		"nothing":         {},
		"an empty key":    {put("", "1")},
		"a huge key":      {put(string(make([]byte, 5000)), "1")},
		"a huge value":    {put("a", string(make([]byte, 17<<20)))},
		"a key twice":     {put("a", "1"), put("b", "1"), put("a", "2")},
		"an unknown kind": {{Kind: 9, Key: "a"}},
		"a check's value": {{Kind: store.Check, Key: "a", Value: []byte("1")}},
		"a past TTL":      {{Kind: store.Put, Key: "a", TTL: -1}},
	} {
		if _, err := st.Txn(t.Context(), txn...); !errors.Is(err, store.ErrInvalid) {
			t.Errorf("%s: got %v, want ErrInvalid", name, err)
		}
	}
	if got := st.Revision(); got != 0 {
		t.Errorf("got revision %d, want 0", got)
	}
}

func batchesAnswerEach(t *testing.T, open Opener) {
	st := open(t, store.Config{})
	absent := put("a", "2")
	absent.Expect = store.Absent
	got := st.Batch(t.Context(), []store.Txn{{put("a", "1")}, {absent}, {}, {put("b", "1"), put("c", "1")}})
	var conflict *store.ConflictError
	switch {
	case got[0].Err != nil || got[0].Result.Rev != 1:
		t.Errorf("first: got %+v, want revision 1", got[0])
	case !errors.As(got[1].Err, &conflict):
		t.Errorf("second: got %+v, want a conflict", got[1])
	case !errors.Is(got[2].Err, store.ErrInvalid):
		t.Errorf("third: got %+v, want ErrInvalid", got[2])
	case got[3].Err != nil || got[3].Result.Rev != 2 || len(got[3].Result.Ops) != 2:
		t.Errorf("fourth: got %+v, want revision 2", got[3])
	}
	if got := st.Batch(t.Context(), nil); len(got) != 0 {
		t.Errorf("no transactions: got %v, want nothing", got)
	}
}

func largeBatches(t *testing.T, open Opener) {
	st := open(t, store.Config{})
	const n = 3000
	txns := make([]store.Txn, n)
	for i := range txns {
		txns[i] = store.Txn{put(fmt.Sprintf("k%05d", i), string(make([]byte, 1000)))}
	}
	for i, r := range st.Batch(t.Context(), txns) {
		if r.Err != nil || r.Result.Rev != store.Revision(i+1) {
			t.Fatalf("transaction %d: got %+v, want revision %d", i, r, i+1)
		}
	}
	s := st.Snapshot()
	if s.Count("k") != n || s.CountFrom("k", "k02000") != n-2000 || s.Len() != n {
		t.Errorf("got %d keys, %d from the 2000th, want %d", s.Count("k"), s.CountFrom("k", "k02000"), n)
	}
	i := 2990
	for kv := range s.Range("k", "k02990") {
		if want := fmt.Sprintf("k%05d", i); kv.Key != want {
			t.Fatalf("got key %q, want %q", kv.Key, want)
		}
		i++
	}
	if i != n {
		t.Errorf("got a walk to %d, want to %d", i, n)
	}
}

func oneWriterWins(t *testing.T, open Opener) {
	st := open(t, store.Config{})
	mustTxn(t, st, put("counter", "0"))
	const writers, rounds = 8, 20
	var wg sync.WaitGroup
	for range writers {
		wg.Go(func() {
			for done := 0; done < rounds; {
				cur := st.Snapshot().Get("counter")
				var n int
				fmt.Sscan(string(cur.Value), &n)
				op := put("counter", fmt.Sprint(n+1))
				op.Expect = store.Exact(cur.Rev)
				_, err := st.Txn(t.Context(), op)
				var conflict *store.ConflictError
				switch {
				case err == nil:
					done++
				case !errors.As(err, &conflict):
					t.Errorf("txn: %v", err)
					return
				}
			}
		})
	}
	wg.Wait()
	kv := st.Snapshot().Get("counter")
	if got, want := string(kv.Value), fmt.Sprint(writers*rounds); got != want || kv.Version != writers*rounds+1 {
		t.Errorf("got %s in version %d, want %s", got, kv.Version, want)
	}
}

func snapshotsStay(t *testing.T, open Opener) {
	st := open(t, store.Config{})
	mustTxn(t, st, put("a", "1"), put("b", "1"))
	before := st.Snapshot()
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			for n := range 50 {
				key := fmt.Sprint("k", i, n)
				if _, err := st.Txn(t.Context(), put(key, "1"), put(fmt.Sprint("own", i), key)); err != nil {
					t.Errorf("txn: %v", err)
				}
				if got := len(values(before, "")); got != 2 {
					t.Errorf("got %d keys in the snapshot, want 2", got)
				}
			}
		})
	}
	wg.Wait()
	if got, want := values(before, ""), map[string]string{"a": "1", "b": "1"}; !maps.Equal(got, want) || before.Revision() != 1 {
		t.Errorf("got %v, want %v", got, want)
	}
	if got := st.Snapshot().Len(); got != 2+4*50+4 {
		t.Errorf("got %d keys now, want %d", got, 2+4*50+4)
	}
}

func pastIsReadable(t *testing.T, open Opener) {
	st := open(t, store.Config{})
	for i := range 20 {
		mustTxn(t, st, put("a", fmt.Sprint(i)), put(fmt.Sprint("k", i), "1"))
	}
	for _, rev := range []store.Revision{20, 3, 19, 3, 1, 0, 10, 12, 11, 13, 14, 15, 16, 17} {
		s, err := st.At(rev)
		if err != nil {
			t.Fatalf("at %d: %v", rev, err)
		}
		if s.Revision() != rev || s.Count("k") != int(rev) {
			t.Errorf("at %d: got revision %d with %d keys", rev, s.Revision(), s.Count("k"))
		}
	}
	if _, err := st.At(21); !errors.Is(err, store.ErrFutureRevision) {
		t.Errorf("at 21: got %v, want ErrFutureRevision", err)
	}
	if err := st.Compact(t.Context(), 10); err != nil {
		t.Fatal(err)
	}
	if _, err := st.At(9); !errors.Is(err, store.ErrCompacted) {
		t.Errorf("at 9: got %v, want ErrCompacted", err)
	}
	if _, err := st.At(10); err != nil {
		t.Errorf("at 10: %v", err)
	}
	if err := st.Compact(t.Context(), 10); !errors.Is(err, store.ErrCompacted) {
		t.Errorf("compact again: got %v, want ErrCompacted", err)
	}
	if err := st.Compact(t.Context(), 99); !errors.Is(err, store.ErrFutureRevision) {
		t.Errorf("compact the future: got %v, want ErrFutureRevision", err)
	}
	if _, err := st.Watch(t.Context(), "", 10); !errors.Is(err, store.ErrCompacted) {
		t.Errorf("watch from 10: got %v, want ErrCompacted", err)
	}
}

func keysExpire(t *testing.T, open Opener) {
	st := open(t, store.Config{})
	short, long := put("short", "1"), put("long", "1")
	short.TTL, long.TTL = 20*time.Millisecond, time.Hour
	mustTxn(t, st, short, long, put("ever", "1"))
	if kv := st.Snapshot().Get("short"); kv == nil || kv.Expires == 0 {
		t.Fatalf("got %v, want the key with its deadline", kv)
	}
	w := mustWatch(t, st, "", 2)
	e := gather(w, 1)[0]
	if e.Cur != nil || e.Prev.Key != "short" {
		t.Errorf("got %+v, want the deletion of the short-lived key", e)
	}
	if got, want := values(st.Snapshot(), ""), map[string]string{"long": "1", "ever": "1"}; !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func readIndexIsABarrier(t *testing.T, open Opener) {
	st := open(t, store.Config{})
	for i := range 20 {
		res := mustTxn(t, st, put("a", fmt.Sprint(i)))
		if err := st.ReadIndex(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := st.Snapshot().Get("a").Rev; got < res.Rev {
			t.Fatalf("got revision %d, want at least %d", got, res.Rev)
		}
	}
	if err := st.Health(); err != nil {
		t.Errorf("health: %v", err)
	}
}

func contextsEndCalls(t *testing.T, open Opener) {
	st := open(t, store.Config{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	// The call may have been quicker than its end.
	if _, err := st.Txn(ctx, put("a", "1")); err != nil && !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want %v", err, context.Canceled)
	}
	if _, err := st.Txn(t.Context(), put("a", "2")); err != nil {
		t.Errorf("the next one: %v", err)
	}
}
