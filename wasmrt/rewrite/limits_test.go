package rewrite_test

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/tetratelabs/wazero"

	"copepod/wasmrt/internal/wasmtest"
	"copepod/wasmrt/rewrite"
)

// raw is a module of sections as they stand in the binary: an id, then the body.
func raw(sections ...[]byte) []byte {
	out := []byte("\x00asm\x01\x00\x00\x00")
	for _, s := range sections {
		out = append(out, s[0])
		for n := len(s) - 1; ; n >>= 7 {
			if n < 0x80 {
				out = append(out, byte(n))
				break
			}
			out = append(out, byte(n)|0x80)
		}
		out = append(out, s[1:]...)
	}
	return out
}

// body is a module of one function of no parameters with these bytes after the
// length of its body.
func body(code ...byte) []byte {
	return raw([]byte{1, 1, 0x60, 0, 0}, []byte{3, 1, 0}, slices.Concat([]byte{10, 1, byte(len(code))}, code))
}

func function(m *wasmtest.Module, code ...[]byte) []byte {
	m.Func("", "", code...)
	return m.Bytes()
}

func TestEachLimitNamesWhatIsPastItAndWhere(t *testing.T) {
	nested := slices.Concat(bytes.Repeat(block, 4), bytes.Repeat(end, 4))
	table := func(min byte) []byte { return []byte{0x70, 0, min} }
	var module wasmtest.Module
	rows := []struct {
		name   string
		code   []byte
		limits rewrite.Limits
		want   string
	}{
		{"types", raw([]byte{1, 2, 0x60, 0, 0, 0x60, 0, 0}), rewrite.Limits{Types: 1}, "2 types; 1 are allowed at byte 10"},
		{"parameters", raw([]byte{1, 1, 0x60, 2, 0x7f, 0x7f, 0}), rewrite.Limits{Params: 1}, "2 parameters; 1 are allowed at byte 12"},
		{"results", raw([]byte{1, 1, 0x60, 0, 2, 0x7f, 0x7f}), rewrite.Limits{Params: 1}, "2 results; 1 are allowed at byte 13"},
		{"imports", raw([]byte{1, 1, 0x60, 0, 0}, []byte{2, 2, 0, 0, 0, 0, 0, 0, 0, 0}), rewrite.Limits{Imports: 1}, "2 imports; 1 are allowed at byte 16"},
		{"functions", raw([]byte{1, 1, 0x60, 0, 0}, []byte{3, 2, 0, 0}), rewrite.Limits{Functions: 1}, "2 functions; 1 are allowed at byte 16"},
		{"tables", raw(slices.Concat([]byte{4, 2}, table(1), table(1))), rewrite.Limits{Tables: 1}, "2 tables; 1 are allowed at byte 10"},
		{"table entries", raw(slices.Concat([]byte{4, 2}, table(60), table(60))), rewrite.Limits{TableEntries: 100}, "tables of 120 entries; 100 are allowed at byte 14"},
		{"globals", raw([]byte{6, 2, 0x7f, 0, 0x41, 0, 0x0b, 0x7f, 0, 0x41, 0, 0x0b}), rewrite.Limits{Globals: 1}, "2 globals; 1 are allowed at byte 10"},
		{"exports", raw([]byte{5, 1, 0, 0}, []byte{7, 2, 0, 2, 0, 1, 'a', 2, 0}), rewrite.Limits{Exports: 1}, "2 exports; 1 are allowed at byte 15"},
		{"tags", raw([]byte{1, 1, 0x60, 0, 0}, []byte{13, 2, 0, 0, 0, 0}), rewrite.Limits{Tags: 1, Exceptions: true}, "2 tags; 1 are allowed at byte 16"},
		{"element segments", raw([]byte{9, 2, 1, 0, 0, 1, 0, 0}), rewrite.Limits{Elements: 1}, "2 element segments; 1 are allowed at byte 10"},
		{"data segments", raw([]byte{11, 2, 1, 0, 1, 0}), rewrite.Limits{DataSegments: 1}, "2 data segments; 1 are allowed at byte 10"},
		{"a body", function(&module, bytes.Repeat([]byte{1}, 50)), rewrite.Limits{BodyBytes: 20}, "52 bytes of a function; 20 are allowed at byte 21"},
		{"code", module.Bytes(), rewrite.Limits{CodeBytes: 20}, "54 bytes of code; 20 are allowed at byte 20"},
		{"locals", body(1, 51, 0x7f, 0x0b), rewrite.Limits{Locals: 50}, "a function with 51 locals; 50 are allowed at byte 23"},
		{"locals that lie", body(1, 0xff, 0xff, 0xff, 0xff, 0x0f, 0x7f, 0x0b), rewrite.Limits{}, "a function with 4294967295 locals; 50000 are allowed at byte 23"},
		{"locals in all", body(1, 51, 0x7f, 0x0b), rewrite.Limits{TotalLocals: 50}, "more than 50 locals in all functions at byte 22"},
		{"nesting", body(slices.Concat([]byte{0}, nested, end)...), rewrite.Limits{Nesting: 3}, "blocks nested more than 3 deep at byte 29"},
		{"branch targets", body(0, 0x41, 0, 0x0e, 3, 0, 0, 0, 0, 0x0b), rewrite.Limits{BranchTargets: 2}, "3 targets of a br_table; 2 are allowed at byte 26"},
		{"branch targets in all", body(0, 0x41, 0, 0x0e, 3, 0, 0, 0, 0, 0x0e, 3, 0, 0, 0, 0, 0x0b), rewrite.Limits{TotalTargets: 2}, "more than 2 targets of br_tables in all at byte 25"},
		{"branches", body(slices.Concat([]byte{0}, nested, end)...), rewrite.Limits{CompileWork: 100}, "functions so branched that they take too long to compile, this one with some 4 blocks at byte 23"},
		{"a constant", raw([]byte{6, 1, 0x7f, 0, 0x41, 0, 0x41, 0, 0x6a, 0x0b}), rewrite.Limits{ConstantLength: 2}, "a constant expression of more than 2 instructions at byte 13"},
		{"memory", raw([]byte{5, 1, 0, 0x81, 0x80, 0x04}), rewrite.Limits{}, "a memory of 65537 to 0 pages; 65536 are allowed at byte 11"},
		{"a count that lies", raw([]byte{11, 0x90, 0x4e}), rewrite.Limits{}, "10000 data segments announced, but only 0 bytes follow at byte 10"},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			_, err := rewrite.Rewrite(row.code, row.limits)
			if malformed, ok := errors.AsType[*rewrite.Error](err); !ok || malformed.Error() != row.want {
				t.Errorf("got %v, want %s", err, row.want)
			}
		})
	}
}

func TestAGuestCannotNameWhatIsAdded(t *testing.T) {
	rows := []struct {
		name string
		code []byte
		want string
	}{
		{"the fuel, to set it", body(0, 0x42, 0, 0x24, 0, 0x0b), "global 0 of 0 at byte 26"},
		{"the fuel, to export it", raw([]byte{7, 1, 1, 'x', 3, 0}), "global 0 of 0 at byte 14"},
		{"a helper, to call it", body(0, 0x10, 1, 0x0b), "function 1 of 1 at byte 24"},
		{"a helper, for a table", body(0, 0xd2, 2, 0x1a, 0x0b), "function 2 of 1 at byte 24"},
		{"our locals", body(0, 0x20, 0, 0x1a, 0x0b), "local 0 of 0 at byte 24"},
		{"the block around it", body(0, 0x03, 0x40, 0x0c, 2, 0x0b, 0x0b), "label 2 of 2 at byte 26"},
		{"our types", body(0, 0x02, 1, 0x0b, 0x0b), "block of type 1 of 1 at byte 24"},
		{"the import", raw([]byte{1, 1, 0x60, 0, 0}, slices.Concat([]byte{2, 1, 13}, []byte("copepod_meter"), []byte{4}, []byte("tick"), []byte{0, 0})),
			`an import from the reserved module "copepod_meter" at byte 17`},
		{"the export", raw([]byte{5, 1, 0, 0}, slices.Concat([]byte{7, 1, 14}, []byte("__copepod_fuel"), []byte{2, 0})),
			`an export of the reserved name "__copepod_fuel" at byte 16`},
		{"an opcode that wazero reads otherwise", body(0, 0xfd, 0x8c, 0, 0x0b), "instruction 0xfd 12 in 2 bytes at byte 23"},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			if _, err := rewrite.Rewrite(row.code, rewrite.Limits{}); err == nil || err.Error() != row.want {
				t.Errorf("got %v, want %s", err, row.want)
			}
		})
	}
}

func TestFeaturesThatAreMissingAreNamed(t *testing.T) {
	rows := []struct {
		feature string
		code    []byte
	}{
		{"threads", body(0, 0xfe, 0, 0, 0x0b)},
		{"threads", raw([]byte{5, 1, 3, 1, 1})},
		{"relaxed SIMD", body(0, 0xfd, 0x80, 0x02, 0x0b)},
		{"garbage-collected types", body(0, 0xfb, 0, 0, 0x0b)},
		{"garbage-collected types", raw([]byte{1, 1, 0x4e, 1, 0x60, 0, 0})},
		{"64-bit memory", raw([]byte{5, 1, 4, 1})},
		{"more than one memory", raw([]byte{5, 2, 0, 1, 0, 1})},
		{"typed function references", body(0, 0x14, 0, 0x0b)},
		{"typed function references", raw([]byte{1, 1, 0x60, 1, 0x64, 0x70, 0})},
		{"legacy exceptions", body(0, 0x06, 0x40, 0x0b, 0x0b)},
		{"exceptions", body(0, 0x1f, 0x40, 0, 0x0b, 0x0b)},
		{"exceptions", raw([]byte{1, 1, 0x60, 0, 0}, []byte{13, 1, 0, 0})},
		{"wide arithmetic", body(0, 0xfc, 19, 0x0b)},
		{"component (WASI 0.2)", []byte("\x00asm\x0d\x00\x01\x00")},
	}
	for _, row := range rows {
		_, err := rewrite.Rewrite(row.code, rewrite.Limits{})
		if unsupported, ok := errors.AsType[*rewrite.UnsupportedFeatureError](err); !ok || unsupported.Feature != row.feature {
			t.Errorf("got %v, want %s", err, row.feature)
		}
	}
}

func TestTablesShareWhatTheyMayGrowTo(t *testing.T) {
	code := raw([]byte{4, 3, 0x70, 0, 10, 0x70, 0, 20, 0x6f, 1, 5, 5})
	_, report, err := rewrite.RewriteReport(code, rewrite.Limits{TableEntries: 1035})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := report.TableEntries, 1035; got != want {
		t.Errorf("got %d entries at the most, want %d", got, want)
	}
}

func TestLaterDataWinsWhereSegmentsOverlap(t *testing.T) {
	var m wasmtest.Module
	m.Memory(1, 1)
	m.Data(100, []byte("first first"))
	m.Data(4, []byte("low"))
	m.Data(103, []byte("SECOND"))
	m.Data(101, []byte("3"))
	m.Data(60_000, []byte("far"))
	code, report, err := rewrite.RewriteReport(m.Bytes(), rewrite.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	if report.Merged != 3 {
		t.Errorf("got %d segments, want 3", report.Merged)
	}
	if got, want := memoryOf(t, code), memoryOf(t, m.Bytes()); !bytes.Equal(got, want) {
		t.Errorf("got %q, want %q", got[:120], want[:120])
	}
}

func memoryOf(t *testing.T, code []byte) []byte {
	t.Helper()
	ctx := context.Background()
	rt := wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfigInterpreter())
	defer rt.Close(ctx)
	ticks := 0
	host(t, rt, &ticks)
	mod, err := rt.Instantiate(ctx, code)
	if err != nil {
		t.Fatal(err)
	}
	b, _ := mod.Memory().Read(0, mod.Memory().Size())
	return bytes.Clone(b)
}

func TestBulkOperationsOfAnyLengthWriteTheSame(t *testing.T) {
	const mib = 1 << 20
	var m wasmtest.Module
	m.Memory(80, 80) // 5 MiB
	operands := slices.Concat(wasmtest.LocalGet(0), wasmtest.LocalGet(1), wasmtest.LocalGet(2))
	m.Export("fill", wasmtest.Func, m.Func("iii", "", operands, fill))
	m.Export("copy", wasmtest.Func, m.Func("iii", "", operands, memoryCopy))
	code, err := rewrite.Rewrite(m.Bytes(), rewrite.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	rows := []struct {
		name string
		args []uint64
	}{
		{"fill", []uint64{5, 7, 1000}}, {"fill", []uint64{5, 8, 1025}}, {"fill", []uint64{77, 9, 3*mib + 5}},
		{"fill", []uint64{0, 1, 5 * mib}}, {"fill", []uint64{1, 2, 5 * mib}}, {"fill", []uint64{1 << 31, 2, 1 << 31}},
		{"fill", []uint64{5 * mib, 2, 0}}, {"fill", []uint64{5*mib + 1, 2, 0}}, {"fill", []uint64{9, 3, mib}},
		{"copy", []uint64{100, 0, 4 * mib}}, {"copy", []uint64{0, 100, 4 * mib}}, {"copy", []uint64{mib / 2, 0, 3*mib + 7}},
		{"copy", []uint64{0, 2 * mib, 3 * mib}}, {"copy", []uint64{0, 2*mib + 1, 3 * mib}}, {"copy", []uint64{2*mib + 1, 0, 3 * mib}},
		{"copy", []uint64{7, 7, 2 * mib}}, {"copy", []uint64{3, 1 << 31, 1 << 31}}, {"copy", []uint64{2 * mib, 1, mib + 1}},
	}
	ctx := context.Background()
	rt := wazero.NewRuntime(ctx)
	defer rt.Close(ctx)
	ticks := 0
	host(t, rt, &ticks)
	plain, err := rt.InstantiateWithConfig(ctx, m.Bytes(), wazero.NewModuleConfig().WithName("plain"))
	if err != nil {
		t.Fatal(err)
	}
	metered, err := rt.InstantiateWithConfig(ctx, code, wazero.NewModuleConfig().WithName("metered"))
	if err != nil {
		t.Fatal(err)
	}
	a, _ := plain.Memory().Read(0, 5*mib)
	b, _ := metered.Memory().Read(0, 5*mib)
	for i := range a {
		a[i] = byte(i * 2654435761 >> 13)
	}
	copy(b, a)
	for _, row := range rows {
		_, want := plain.ExportedFunction(row.name).Call(ctx, row.args...)
		_, got := metered.ExportedFunction(row.name).Call(ctx, row.args...)
		if reason(got) != reason(want) {
			t.Errorf("%s %d: got %v, want %v", row.name, row.args, got, want)
		}
		if !bytes.Equal(a, b) {
			t.Fatalf("%s %d: memory differs", row.name, row.args)
		}
	}
}

func reason(err error) string {
	if err == nil {
		return ""
	}
	first, _, _ := strings.Cut(err.Error(), "\n")
	return first
}
