package mvcc_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"copepod/plane/store/mvcc"
)

func appendOnly(key string) []byte {
	return mvcc.AppendTxn(nil, mvcc.Txn{{Kind: mvcc.Put, Key: key, Value: []byte("v")}})
}

func group(session, seq, lowest uint64, keys ...string) []byte {
	var txns [][]byte
	for _, k := range keys {
		txns = append(txns, appendOnly(k))
	}
	return mvcc.AppendGroup(nil, mvcc.Group{Session: session, Seq: seq, Lowest: lowest}, txns...)
}

func apply(t *testing.T, m *mvcc.Machine, groups ...[]byte) []mvcc.Reply {
	t.Helper()
	replies, err := m.Apply(mvcc.EncodeGroups(time.UnixMilli(1), len(groups), groups...))
	if err != nil {
		t.Fatal(err)
	}
	return replies
}

// reread is the machine that another member makes of the image.
func reread(t *testing.T, m *mvcc.Machine) *mvcc.Machine {
	t.Helper()
	var b bytes.Buffer
	if err := m.Image().Write(&b); err != nil {
		t.Fatal(err)
	}
	again, err := mvcc.ReadImage(&b, mvcc.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	return again
}

func TestGroupHappensOnce(t *testing.T) {
	for _, restored := range []bool{false, true} {
		m := mvcc.NewMachine(mvcc.Limits{})
		replies := apply(t, m, group(7, 1, 1, "a", "b"), group(8, 1, 1, "a"))
		if len(replies) != 3 || replies[0].Result.Rev != 1 || replies[1].Result.Rev != 2 || replies[2].Result.Rev != 3 {
			t.Fatalf("got %+v, want revisions 1, 2 and 3", replies)
		}
		if took := m.TakeGroups(); len(took) != 2 || took[1].Session != 8 || took[0].Replies[1].Result.Rev != 2 || m.TakeGroups() != nil {
			t.Fatalf("got %+v, want both groups, once", took)
		}
		if restored {
			m = reread(t, m)
		}
		for _, r := range apply(t, m, group(7, 1, 1, "a", "b"), group(8, 1, 1, "a")) {
			if !errors.Is(r.Err, mvcc.ErrRepeated) {
				t.Errorf("restored %v: got %v, want ErrRepeated", restored, r.Err)
			}
		}
		if rev := m.Publish().Revision(); rev != 3 || m.TakeGroups() != nil {
			t.Errorf("restored %v: got revision %d, want 3 still", restored, rev)
		}
		if revs, ok := m.Outcome(7, 1); !ok || fmt.Sprint(revs) != "[1 2]" {
			t.Errorf("restored %v: got %v, want what had become of it", restored, revs)
		}
	}
}

func TestGroupThatWasGivenUpComesTooLate(t *testing.T) {
	m := mvcc.NewMachine(mvcc.Limits{})
	apply(t, m, group(7, 1, 1, "a"))
	apply(t, m, group(7, 3, 3, "b")) // nobody waits for 1 and 2 any more
	if _, ok := m.Outcome(7, 1); ok {
		t.Error("got the outcome of a group that nobody waits for, want it forgotten")
	}
	for _, m := range []*mvcc.Machine{m, reread(t, m)} {
		for seq := range uint64(2) {
			if r := apply(t, m, group(7, seq+1, seq+1, "late")); !errors.Is(r[0].Err, mvcc.ErrRepeated) {
				t.Errorf("group %d: got %v, want ErrRepeated", seq+1, r[0].Err)
			}
		}
		if m.Publish().Get("late") != nil {
			t.Error("got what was given up written, want it refused")
		}
		if r := apply(t, m, group(7, 4, 3, "next")); r[0].Err != nil {
			t.Errorf("the next: got %v, want it to happen", r[0].Err)
		}
	}
}

// The memory of groups is bounded, is the same on every member, and goes on
// alike from an image.
func TestSessionsAreBoundedAndAlike(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	one, two := mvcc.NewMachine(mvcc.Limits{}), mvcc.NewMachine(mvcc.Limits{})
	seqs := map[uint64]uint64{}
	for step := range 4000 {
		session := r.Uint64N(1500)
		seqs[session]++
		seq := seqs[session]
		command := mvcc.EncodeGroups(time.UnixMilli(int64(step)), 1, group(session, seq, max(1, seq-min(seq-1, r.Uint64N(3))), fmt.Sprint("k", r.IntN(50))))
		for range 1 + r.IntN(2) {
			_, err := one.Apply(command)
			_, again := two.Apply(command)
			if err := errors.Join(err, again); err != nil {
				t.Fatal(err)
			}
		}
		if step%500 == 250 {
			two = reread(t, two)
		}
	}
	var a, b bytes.Buffer
	if err := errors.Join(one.Image().Write(&a), two.Image().Write(&b)); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(a.Bytes(), b.Bytes()) {
		t.Error("got two states of one log, want the same")
	}
	if a.Len() > 100<<10 {
		t.Errorf("got an image of %d bytes, want it bounded", a.Len())
	}
	kept := 0
	for session, seq := range seqs {
		if _, ok := one.Outcome(session, seq); ok {
			kept++
		}
	}
	if kept != 1024 {
		t.Errorf("got %d sessions, want the 1024 that were used last", kept)
	}
}

func TestAdvanceSkipsRevisions(t *testing.T) {
	m := mvcc.NewMachine(mvcc.Limits{})
	apply(t, m, group(1, 1, 1, "a"))
	m = reread(t, m)
	m.Advance(100)
	if s := m.Publish(); s.Revision() != 101 || s.Get("a").Rev != 1 {
		t.Errorf("got revision %d, want 101", s.Revision())
	}
	if _, err := m.Publish().At(50); !errors.Is(err, mvcc.ErrCompacted) {
		t.Errorf("got %v, want ErrCompacted for a revision that was skipped", err)
	}
	if r := apply(t, reread(t, m), group(1, 2, 1, "b")); r[0].Result.Rev != 102 {
		t.Errorf("got %+v, want revision 102", r[0])
	}
}

// An image of the format before there were sessions is read still.
func TestImageWithoutSessionsIsRead(t *testing.T) {
	old := []byte("CPODMVCC\x01")
	raw := []byte{5, 2, 1, 'k', 5, 4, 2, 0, 1, 'v'} // revision 5, compacted 2, and a key
	old = append(old, frame(raw)...)
	m, err := mvcc.ReadImage(bytes.NewReader(old), mvcc.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	s := m.Publish()
	if kv := s.Get("k"); s.Revision() != 5 || kv == nil || kv.Rev != 5 || kv.Created != 4 || kv.Version != 2 || string(kv.Value) != "v" {
		t.Errorf("got %+v at revision %d, want k at 5", kv, s.Revision())
	}
	old[8] = 3
	if _, err := mvcc.ReadImage(bytes.NewReader(old), mvcc.Limits{}); !errors.Is(err, mvcc.ErrNewerFormat) {
		t.Errorf("format 3: got %v, want ErrNewerFormat", err)
	}
}

// A group from another member is read as a whole or refused, and one that is
// read can be applied.
func FuzzGroupThatIsReadCanBeApplied(f *testing.F) {
	f.Add(group(7, 1, 1, "a", "b"))
	f.Add(group(1<<63, 1<<40, 3, "a"))
	f.Add(mvcc.AppendGroup(nil, mvcc.Group{Session: 1, Seq: 1, Lowest: 1}, mvcc.AppendTxn(nil, mvcc.Txn{
		{Kind: mvcc.Put, Key: "a", TTL: time.Hour, Expect: mvcc.Absent}, {Kind: mvcc.Delete, Key: "b"}, {Kind: mvcc.Check, Key: "c", Expect: mvcc.Exact(3)}})))
	f.Fuzz(func(t *testing.T, b []byte) {
		g, txns, err := mvcc.ReadGroup(b)
		if err != nil {
			if !errors.Is(err, mvcc.ErrCorrupt) {
				t.Fatalf("got %v, want ErrCorrupt", err)
			}
			return
		}
		m := mvcc.NewMachine(mvcc.Limits{})
		replies, err := m.Apply(mvcc.EncodeGroups(time.UnixMilli(1), 1, b))
		if err != nil || len(replies) != len(txns) {
			t.Fatalf("got %v and %d replies for %d transactions, want it applied", err, len(replies), len(txns))
		}
		if took := m.TakeGroups(); len(took) != 1 || took[0].Group != g {
			t.Fatalf("got %+v, want %+v", took, g)
		}
	})
}
