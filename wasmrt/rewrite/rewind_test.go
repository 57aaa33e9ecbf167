package rewrite_test

import (
	"slices"
	"testing"

	"copepod/wasmrt/internal/wasmtest"
	"copepod/wasmrt/rewrite"
)

func TestModulesWhoseStateIsMemoryAndGlobalsSayThatTheyCanBeRewound(t *testing.T) {
	misc := func(sub byte, args ...byte) []byte { return slices.Concat([]byte{0xfc, sub}, args) }
	null := []byte{0xd0, 0x70}
	three := slices.Concat(wasmtest.I32(0), wasmtest.I32(0), wasmtest.I32(0))
	rows := []struct {
		name  string
		build func(m *wasmtest.Module) []byte
		want  bool
	}{
		{"memory and a global", func(m *wasmtest.Module) []byte {
			m.Memory(1, 1)
			return function(m, wasmtest.I64(1), wasmtest.GlobalSet(m.MutableI64(0)))
		}, true},
		{"table.get", func(m *wasmtest.Module) []byte {
			m.FuncTable(1)
			return function(m, wasmtest.I32(0), []byte{0x25, 0}, drop)
		}, true},
		{"table.set", func(m *wasmtest.Module) []byte {
			m.FuncTable(1)
			return function(m, wasmtest.I32(0), null, []byte{0x26, 0})
		}, false},
		{"table.grow", func(m *wasmtest.Module) []byte {
			m.FuncTable(1)
			return function(m, null, wasmtest.I32(1), misc(0x0f, 0), drop)
		}, false},
		{"table.fill", func(m *wasmtest.Module) []byte {
			m.FuncTable(1)
			return function(m, wasmtest.I32(0), null, wasmtest.I32(0), misc(0x11, 0))
		}, false},
		{"table.copy", func(m *wasmtest.Module) []byte {
			m.FuncTable(1)
			return function(m, three, misc(0x0e, 0, 0))
		}, false},
		{"a global of a reference", func(*wasmtest.Module) []byte {
			return raw([]byte{6, 1, 0x70, 1, 0xd0, 0x70, 0x0b})
		}, false},
		{"a constant reference", func(*wasmtest.Module) []byte {
			return raw([]byte{6, 1, 0x70, 0, 0xd0, 0x70, 0x0b})
		}, true},
		{"a global of a vector", func(*wasmtest.Module) []byte {
			return raw(slices.Concat([]byte{6, 1, 0x7b, 1, 0xfd, 12}, make([]byte, 16), []byte{0x0b}))
		}, false},
		{"data.drop", func(*wasmtest.Module) []byte {
			return raw([]byte{1, 1, 0x60, 0, 0}, []byte{3, 1, 0}, []byte{5, 1, 0, 1}, []byte{12, 1},
				[]byte{10, 1, 5, 0, 0xfc, 9, 0, 0x0b}, []byte{11, 1, 1, 1, 'x'})
		}, false},
		{"elem.drop", func(*wasmtest.Module) []byte {
			return raw([]byte{1, 1, 0x60, 0, 0}, []byte{3, 1, 0}, []byte{9, 1, 1, 0, 1, 0},
				[]byte{10, 1, 5, 0, 0xfc, 13, 0, 0x0b})
		}, false},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			_, report, err := rewrite.RewriteReport(row.build(&wasmtest.Module{}), rewrite.Limits{})
			if err != nil {
				t.Fatal(err)
			}
			if report.Rewindable != row.want {
				t.Errorf("got %v, want %v", report.Rewindable, row.want)
			}
		})
	}
}
