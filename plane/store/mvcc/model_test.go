package mvcc_test

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"copepod/plane/store/mvcc"
)

// model is the store as one would write it without caring for cost: a whole
// map for each revision.
type model struct {
	past []map[string]string // by revision; the value and what KV says of it
}

func (m *model) now() map[string]string { return m.past[len(m.past)-1] }

func describe(kv *mvcc.KV) string {
	return fmt.Sprintf("%s rev=%d created=%d version=%d expires=%d", kv.Value, kv.Rev, kv.Created, kv.Version, kv.Expires)
}

func contents(s *mvcc.Snapshot) map[string]string {
	all := map[string]string{}
	for kv := range s.Range("", "") {
		all[kv.Key] = describe(kv)
	}
	return all
}

func TestMachineAgreesWithWholeCopies(t *testing.T) {
	for seed := range uint64(10) {
		r := rand.New(rand.NewPCG(seed, 1))
		m := mvcc.NewMachine(mvcc.Limits{})
		ref := &model{past: []map[string]string{{}}}
		snaps := map[mvcc.Revision]*mvcc.Snapshot{0: m.Publish()}
		for step := range 150 {
			now := int64(1000 + step*10)
			if r.IntN(10) == 0 {
				stepExpire(t, r, m, ref, now)
			} else {
				stepTxns(t, r, m, ref, now)
			}
			s := m.Publish()
			if got, want := int(s.Revision()), len(ref.past)-1; got != want {
				t.Fatalf("seed %d: got revision %d, want %d", seed, got, want)
			}
			snaps[s.Revision()] = s
		}
		checkPast(t, r, m.Publish(), ref)
		for rev, s := range snaps {
			if got, want := contents(s), ref.past[rev]; !maps.Equal(got, want) {
				t.Fatalf("seed %d: snapshot %d changed: got %v, want %v", seed, rev, got, want)
			}
		}
	}
}

func randomKey(r *rand.Rand) string {
	return strings.Repeat(string(rune('a'+r.IntN(3))), 1+r.IntN(3)) + string(rune('0'+r.IntN(10)))
}

// stepTxns applies a command of single-key transactions to both.
func stepTxns(t *testing.T, r *rand.Rand, m *mvcc.Machine, ref *model, now int64) {
	t.Helper()
	var encoded [][]byte
	var txns []mvcc.Txn
	for range 1 + r.IntN(5) {
		op := mvcc.Op{Kind: mvcc.Put, Key: randomKey(r), Value: []byte(fmt.Sprint(r.IntN(1000)))}
		switch r.IntN(4) {
		case 0:
			op.Kind, op.Value = mvcc.Delete, nil
		case 1:
			op.TTL = time.Duration(r.IntN(300)) * time.Millisecond
		case 2:
			op.Expect = mvcc.Absent
		}
		txns = append(txns, mvcc.Txn{op})
		encoded = append(encoded, mvcc.AppendTxn(nil, mvcc.Txn{op}))
	}
	replies, err := m.Apply(mvcc.EncodeTxns(time.UnixMilli(now), encoded...))
	if err != nil {
		t.Fatal(err)
	}
	for i, txn := range txns {
		op, before := txn[0], ref.now()
		old, exists := before[op.Key]
		if op.Expect == mvcc.Absent && exists {
			if replies[i].Err == nil {
				t.Fatalf("%v: got success, want a conflict", op)
			}
			continue
		}
		if op.Kind == mvcc.Delete && !exists {
			continue
		}
		next := maps.Clone(before)
		rev := len(ref.past)
		if op.Kind == mvcc.Delete {
			delete(next, op.Key)
		} else {
			created, version, expires := rev, 1, int64(0)
			if exists {
				fmt.Sscanf(old[strings.Index(old, "created="):], "created=%d version=%d", &created, &version)
				version++
			}
			if op.TTL > 0 {
				expires = now + op.TTL.Milliseconds()
			}
			next[op.Key] = fmt.Sprintf("%s rev=%d created=%d version=%d expires=%d", op.Value, rev, created, version, expires)
		}
		ref.past = append(ref.past, next)
	}
}

// stepExpire expires everything that is due, in both.
func stepExpire(t *testing.T, _ *rand.Rand, m *mvcc.Machine, ref *model, now int64) {
	t.Helper()
	replies, err := m.Apply(mvcc.EncodeExpire(time.UnixMilli(now), 1000))
	if err != nil {
		t.Fatal(err)
	}
	for _, op := range replies[0].Result.Ops {
		if op.Prev.Expires > now {
			t.Fatalf("got %q deleted at %d, want it kept until %d", op.Prev.Key, now, op.Prev.Expires)
		}
		next := maps.Clone(ref.now())
		delete(next, op.Prev.Key)
		ref.past = append(ref.past, next)
	}
	for kv := range m.Publish().Range("", "") {
		if kv.Expires != 0 && kv.Expires <= now {
			t.Fatalf("got %q kept at %d, want it deleted from %d on", kv.Key, now, kv.Expires)
		}
	}
}

// checkPast compares every revision, every count, and the events between.
func checkPast(t *testing.T, r *rand.Rand, s *mvcc.Snapshot, ref *model) {
	t.Helper()
	events, err := s.Events(1)
	if err != nil {
		t.Fatal(err)
	}
	replayed := map[string]string{}
	for rev, want := range ref.past {
		for len(events) > 0 && int(events[0].Rev) == rev {
			e := events[0]
			if before, had := replayed[e.Key()]; had != (e.Prev != nil) || had && before != describe(e.Prev) {
				t.Fatalf("revision %d: got an event from %v, want from %q", rev, e.Prev, before)
			}
			delete(replayed, e.Key())
			if e.Cur != nil {
				replayed[e.Key()] = describe(e.Cur)
			}
			events = events[1:]
		}
		past, err := s.At(mvcc.Revision(rev))
		if err != nil {
			t.Fatal(err)
		}
		if got := contents(past); !maps.Equal(got, want) || !maps.Equal(replayed, want) {
			t.Fatalf("revision %d: got %v, events lead to %v, want %v", rev, got, replayed, want)
		}
		older, err := past.At(mvcc.Revision(r.IntN(rev + 1)))
		if err != nil || !maps.Equal(contents(older), ref.past[older.Revision()]) {
			t.Fatalf("revision %d from %d: got another state, %v", older.Revision(), rev, err)
		}
		prefix, from := randomKey(r)[:1], randomKey(r)
		n := 0
		for range past.Range(prefix, from) {
			n++
		}
		if got := past.CountFrom(prefix, from); got != n {
			t.Fatalf("keys with %q from %q: got count %d, want %d", prefix, from, got, n)
		}
		var size int64
		for kv := range past.Range("", "") {
			size += int64(len(kv.Key)+len(kv.Value)) + 88
		}
		if got := past.Bytes(); got != size {
			t.Fatalf("revision %d: got %d bytes, want %d", rev, got, size)
		}
	}
}

func TestImageHoldsEverythingAndNoticesEveryFlippedBit(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 7))
	m := mvcc.NewMachine(mvcc.Limits{})
	ref := &model{past: []map[string]string{{}}}
	for step := range 200 {
		stepTxns(t, r, m, ref, int64(step))
	}
	var image bytes.Buffer
	if err := m.Publish().WriteImage(&image); err != nil {
		t.Fatal(err)
	}
	restored, err := mvcc.ReadImage(bytes.NewReader(image.Bytes()), mvcc.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := contents(restored.Publish()), ref.now(); !maps.Equal(got, want) {
		t.Fatalf("got %v, want %v", got, want)
	}
	for i := range image.Len() {
		bad := slices.Clone(image.Bytes())
		bad[i] ^= 1 << r.IntN(8)
		if _, err := mvcc.ReadImage(bytes.NewReader(bad), mvcc.Limits{}); err == nil {
			t.Fatalf("byte %d flipped: got no error, want one", i)
		}
		if _, err := mvcc.ReadImage(bytes.NewReader(image.Bytes()[:i]), mvcc.Limits{}); err == nil {
			t.Fatalf("cut at %d: got no error, want one", i)
		}
	}
}
