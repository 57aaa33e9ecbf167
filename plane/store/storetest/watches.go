package storetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"copepod/plane/store"
)

// gather receives n events, or what came before the watch ended.
func gather(w *store.Watch, n int) []store.Event {
	var all []store.Event
	for batch := range w.Events() {
		if all = append(all, batch...); len(all) >= n {
			break
		}
	}
	return all
}

func mustWatch(t *testing.T, st *store.Store, prefix string, from store.Revision) *store.Watch {
	t.Helper()
	w, err := st.Watch(t.Context(), prefix, from)
	if err != nil {
		t.Fatalf("watch: %v", err)
	}
	return w
}

func watchesSeeAll(t *testing.T, open Opener) {
	st := open(t, store.Config{})
	prefixes := []string{"", "a/", "a/1", "b/", "c/", "a/1/x"}
	var watches []*store.Watch
	for _, p := range prefixes {
		watches = append(watches, mustWatch(t, st, p, 1))
	}
	var txns []store.Txn
	for i := range 300 {
		txns = append(txns, store.Txn{put(fmt.Sprintf("a/%d/x", i%20), "1"), put(fmt.Sprintf("b/%d", i), "1")})
	}
	for _, r := range st.Batch(t.Context(), txns[:200]) {
		if r.Err != nil {
			t.Fatal(r.Err)
		}
	}
	for _, txn := range txns[200:] {
		mustTxn(t, st, txn...)
	}
	mustTxn(t, st, put("a/1/x", "end"), put("b/", "end"), put("c/", "end"))
	past, err := st.At(0)
	if err != nil {
		t.Fatal(err)
	}
	all, err := st.Snapshot().Events(past.Revision() + 1)
	if err != nil {
		t.Fatal(err)
	}
	for i, w := range watches {
		var want []store.Event
		for _, e := range all {
			if strings.HasPrefix(e.Key(), prefixes[i]) {
				want = append(want, e)
			}
		}
		if got := gather(w, len(want)); !slices.Equal(got, want) {
			t.Errorf("watch of %q: got %d events, want %d, the same", prefixes[i], len(got), len(want))
		}
	}
}

func watchesResume(t *testing.T, open Opener) {
	st := open(t, store.Config{})
	for i := range 10 {
		mustTxn(t, st, put("a", fmt.Sprint(i)))
	}
	next, future := mustWatch(t, st, "a", 0), mustWatch(t, st, "a", 13)
	for from := store.Revision(1); from <= 12; from++ {
		w := mustWatch(t, st, "a", from)
		if from <= 10 {
			if got := gather(w, int(11-from)); len(got) != int(11-from) || got[0].Rev != from {
				t.Errorf("from %d: got %d events from %d", from, len(got), got[0].Rev)
			}
		}
	}
	for i := range 4 {
		mustTxn(t, st, put("a", fmt.Sprint(i)))
	}
	if got := gather(next, 1)[0].Rev; got != 11 {
		t.Errorf("from now on: got revision %d, want 11", got)
	}
	if got := gather(future, 1)[0].Rev; got != 13 {
		t.Errorf("from 13 on: got revision %d, want 13", got)
	}
}

func watchesProgress(t *testing.T, open Opener) {
	st := open(t, store.Config{})
	w := mustWatch(t, st, "quiet/", 1)
	mustTxn(t, st, put("quiet/a", "1"))
	for range 5 {
		mustTxn(t, st, put("busy", "1"))
	}
	rev := st.Revision()
	events := gather(w, 1)
	if len(events) != 1 || events[0].Rev != 1 {
		t.Fatalf("got %v, want the event of revision 1", events)
	}
	for seen := store.Revision(0); seen < rev; {
		w.RequestProgress()
		e := gather(w, 1)[0]
		if !e.IsProgress() || e.Rev < seen {
			t.Fatalf("got %+v after progress %d, want more progress", e, seen)
		}
		seen = e.Rev
	}
}

func watchesEnd(t *testing.T, open Opener) {
	st := open(t, store.Config{})
	ctx, cancel := context.WithCancel(t.Context())
	w, err := st.Watch(ctx, "", 1)
	if err != nil {
		t.Fatal(err)
	}
	if w.Err() != nil {
		t.Errorf("got %v while it runs, want nil", w.Err())
	}
	cancel()
	for range w.Events() {
	}
	if !errors.Is(w.Err(), context.Canceled) {
		t.Errorf("got %v, want %v", w.Err(), context.Canceled)
	}
}

func slowReadersAreTold(t *testing.T, open Opener) {
	st := open(t, store.Config{HistoryBytes: 64 << 10})
	slow := mustWatch(t, st, "", 1)
	var seen store.Revision
	quick := mustWatch(t, st, "a", 1)
	for range 400 {
		mustTxn(t, st, put("a", string(make([]byte, 1000))))
		for _, e := range gather(quick, 1) {
			seen = max(seen, e.Rev)
		}
	}
	if seen == 0 || quick.Err() != nil {
		t.Errorf("got revision %d, %v for the quick reader, want it served", seen, quick.Err())
	}
	// It is found out with a change that is dispatched; the reader does
	// nothing until then.
	for slow.Err() == nil {
		mustTxn(t, st, put("a", string(make([]byte, 1000))))
	}
	if !errors.Is(slow.Err(), store.ErrCompacted) {
		t.Errorf("got %v, want ErrCompacted", slow.Err())
	}
	last := store.Revision(0)
	for batch := range slow.Events() { // what lay ready is in order, then it is closed
		for _, e := range batch {
			if e.Rev != last+1 {
				t.Fatalf("got revision %d after %d, want no gap", e.Rev, last)
			}
			last = e.Rev
		}
	}
}
