package mvcc_test

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"copepod/plane/store/mvcc"
)

var update = flag.Bool("update", false, "write the output of the scripts into testdata")

// Scripts are paragraphs: commands, a line of dashes, the output.
func TestScriptsBehaveAsWritten(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("got %v, %v, want scripts", files, err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			s := script{t: t, m: mvcc.NewMachine(mvcc.Limits{})}
			var out strings.Builder
			for i, paragraph := range strings.Split(strings.TrimSpace(string(text)), "\n\n") {
				if i > 0 {
					out.WriteString("\n")
				}
				commands, _, _ := strings.Cut(paragraph, "\n----")
				out.WriteString(commands + "\n----\n" + s.run(commands))
			}
			if *update {
				if err := os.WriteFile(file, []byte(out.String()), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if got, want := out.String(), string(text); got != want {
				t.Errorf("got:\n%s\nwant:\n%s", got, want)
			}
		})
	}
}

type script struct {
	t    *testing.T
	m    *mvcc.Machine
	now  int64
	txns []mvcc.Txn
	out  strings.Builder
}

// run executes one paragraph. Lines of operations gather into transactions,
// and all transactions of the paragraph into one command.
func (s *script) run(commands string) string {
	s.out.Reset()
	for line := range strings.Lines(commands) {
		f := strings.Fields(line)
		if len(f) == 0 || f[0] == "#" {
			continue
		}
		switch f[0] {
		case "txn":
			s.txns = append(s.txns, nil)
		case "put", "delete", "check":
			s.op(f)
		default:
			s.flush()
			s.query(f)
		}
	}
	s.flush()
	return s.out.String()
}

func (s *script) op(f []string) {
	op := mvcc.Op{Key: f[1]}
	rest := f[2:]
	switch f[0] {
	case "put":
		op.Kind, op.Value, rest = mvcc.Put, []byte(f[2]), f[3:]
	case "delete":
		op.Kind = mvcc.Delete
	case "check":
		op.Kind = mvcc.Check
	}
	for _, word := range rest {
		name, value, _ := strings.Cut(word, "=")
		switch name {
		case "absent":
			op.Expect = mvcc.Absent
		case "exact":
			op.Expect = mvcc.Exact(mvcc.Revision(s.number(value)))
		case "ttl":
			op.TTL = time.Duration(s.number(value)) * time.Millisecond
		}
	}
	if len(s.txns) == 0 {
		s.t.Fatalf("%v is outside of a txn", f)
	}
	last := len(s.txns) - 1
	s.txns[last] = append(s.txns[last], op)
}

func (s *script) flush() {
	if len(s.txns) == 0 {
		return
	}
	var encoded [][]byte
	for _, txn := range s.txns {
		encoded = append(encoded, mvcc.AppendTxn(nil, txn))
	}
	s.txns = nil
	s.apply(mvcc.EncodeTxns(time.UnixMilli(s.now), encoded...))
}

func (s *script) apply(command []byte) {
	replies, err := s.m.Apply(command)
	if err != nil {
		s.t.Fatal(err)
	}
	for _, r := range replies {
		if r.Err != nil {
			fmt.Fprintln(&s.out, "error:", r.Err)
			continue
		}
		fmt.Fprintf(&s.out, "rev %d:", r.Result.Rev)
		for _, op := range r.Result.Ops {
			fmt.Fprintf(&s.out, " %s→%s", show(op.Prev), show(op.Cur))
		}
		fmt.Fprintln(&s.out)
	}
}

func (s *script) query(f []string) {
	snap := s.m.Publish()
	var err error
	switch f[0] {
	case "now":
		s.now = s.number(f[1])
	case "limits":
		s.m = mvcc.NewMachine(mvcc.Limits{Bytes: s.number(f[1]), Age: time.Duration(s.number(f[2])) * time.Millisecond})
	case "expire":
		s.apply(mvcc.EncodeExpire(time.UnixMilli(s.now), int(s.number(f[1]))))
	case "compact":
		s.apply(mvcc.EncodeCompact(time.UnixMilli(s.now), mvcc.Revision(s.number(f[1]))))
	case "at":
		if snap, err = snap.At(mvcc.Revision(s.number(f[1]))); err == nil {
			s.list(snap, "", "")
		}
	case "list":
		f = append(f, "", "")
		s.list(snap, f[1], f[2])
	case "events":
		var events []mvcc.Event
		events, err = snap.Events(mvcc.Revision(s.number(f[1])))
		for _, e := range events {
			fmt.Fprintf(&s.out, "%d %s: %s→%s\n", e.Rev, e.Key(), show(e.Prev), show(e.Cur))
		}
	case "restart":
		s.restart(snap)
	default:
		s.t.Fatalf("unknown command %v", f)
	}
	if err != nil {
		fmt.Fprintln(&s.out, "error:", err, errors.Is(err, mvcc.ErrCompacted), errors.Is(err, mvcc.ErrFutureRevision))
	}
}

func (s *script) list(snap *mvcc.Snapshot, prefix, from string) {
	fmt.Fprintf(&s.out, "rev %d, %d keys, %d of them wanted\n", snap.Revision(), snap.Len(), snap.CountFrom(prefix, from))
	for kv := range snap.Range(prefix, from) {
		fmt.Fprintf(&s.out, "%s %s created %d version %d", kv.Key, show(kv), kv.Created, kv.Version)
		if kv.Expires != 0 {
			fmt.Fprintf(&s.out, " expires %d", kv.Expires)
		}
		fmt.Fprintln(&s.out)
	}
}

func (s *script) restart(snap *mvcc.Snapshot) {
	var image bytes.Buffer
	if err := snap.WriteImage(&image); err != nil {
		s.t.Fatal(err)
	}
	m, err := mvcc.ReadImage(&image, mvcc.Limits{})
	if err != nil {
		s.t.Fatal(err)
	}
	s.m = m
}

func (s *script) number(text string) int64 {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		s.t.Fatal(err)
	}
	return n
}

func show(kv *mvcc.KV) string {
	if kv == nil {
		return "-"
	}
	return fmt.Sprintf("%s@%d", kv.Value, kv.Rev)
}
