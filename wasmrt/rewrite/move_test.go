package rewrite_test

import (
	"bytes"
	"encoding/binary"
	"slices"
	"testing"

	"copepod/wasmrt/internal/wasmtest"
	"copepod/wasmrt/rewrite"
)

// codeSection is the contents of the code section.
func codeSection(t *testing.T, module []byte) []byte {
	t.Helper()
	for b := module[8:]; len(b) > 0; {
		n, k := binary.Uvarint(b[1:])
		body := b[1+k : 1+k+int(n)]
		if b[0] == 10 {
			return body
		}
		b = b[1+k+int(n):]
	}
	t.Fatal("no code section")
	return nil
}

func TestMovesSayWhereCodeWent(t *testing.T) {
	var m wasmtest.Module
	exit := m.Import("wasi_snapshot_preview1", "proc_exit", "i", "")
	m.Memory(1, 1)
	inner := m.Func("i", "", wasmtest.Loop, wasmtest.LocalGet(0), wasmtest.Call(exit), wasmtest.Br(0), wasmtest.End)
	m.Export("_start", wasmtest.Func, m.Func("", "", wasmtest.I32(1234567), wasmtest.Call(inner), wasmtest.I32(7654321), wasmtest.Call(exit)))
	code := m.Bytes()
	plain, err := rewrite.Rewrite(code, rewrite.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	out, moves, err := rewrite.RewriteMoves(code, rewrite.Limits{})
	if err != nil || !bytes.Equal(out, plain) {
		t.Fatalf("got other code with moves than without (%v)", err)
	}
	if !slices.IsSortedFunc(moves, func(a, b rewrite.Move) int { return int(a.New) - int(b.New) }) ||
		!slices.IsSortedFunc(moves, func(a, b rewrite.Move) int { return int(a.Old) - int(b.Old) }) {
		t.Errorf("got moves out of order: %v", moves)
	}
	before, after := codeSection(t, code), codeSection(t, out)
	for _, constant := range []int32{1234567, 7654321} {
		instruction := wasmtest.I32(constant)
		old, now := bytes.Index(before, instruction), bytes.Index(after, instruction)
		i := slices.IndexFunc(moves, func(m rewrite.Move) bool { return int(m.Old) > old }) - 1
		if i == -2 {
			i = len(moves) - 1
		}
		if got := int(moves[i].New) + old - int(moves[i].Old); got != now {
			t.Errorf("constant %d: moved from %d to %d, the moves say %d", constant, old, now, got)
		}
	}
}
