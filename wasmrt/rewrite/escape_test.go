package rewrite_test

import (
	"bytes"
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/sys"

	"copepod/wasmrt/internal/wasmtest"
	"copepod/wasmrt/rewrite"
)

// The pieces that hostile guests are made of.
var (
	step       = slices.Concat(wasmtest.GlobalGet(0), wasmtest.I64(1), []byte{0x7c}, wasmtest.GlobalSet(0)) // counts what it did
	loop       = []byte{0x03, 0x40}
	block      = []byte{0x02, 0x40}
	ifTrue     = []byte{0x04, 0x40}
	end        = []byte{0x0b}
	drop       = []byte{0x1a}
	fill       = []byte{0xfc, 0x0b, 0x00}
	memoryCopy = []byte{0xfc, 0x0a, 0x00, 0x00}
)

func forever(body ...[]byte) []byte {
	return slices.Concat(loop, slices.Concat(body...), wasmtest.Br(0), end)
}

// times runs body n times, with a local to count.
func times(n int32, local uint32, body ...[]byte) []byte {
	set, get := []byte{0x21, byte(local)}, []byte{0x20, byte(local)}
	return slices.Concat(wasmtest.I32(n), set, loop, slices.Concat(body...),
		get, wasmtest.I32(1), []byte{0x6b, 0x22, byte(local)}, []byte{0x0d, 0x00}, end)
}

// The fuel of one tick, and how many a guest gets. A tick sets the fuel anew and
// forgives what a single large charge took it below zero, so a fill costs a
// slice for each of its chunks at least.
const (
	slice           = 50_000
	ticksBeforeKill = 20
)

// escape is a guest that tries to run on without being seen.
type escape struct {
	name  string
	build func(m *wasmtest.Module) uint32 // returns the function to call
	cost  int                             // of one step, in fuel, at least
	slack int                             // steps that it may be ahead
}

var twoLocals = []byte{1, 2, 0x7f}

var escapes = []escape{
	{"a tight loop", func(m *wasmtest.Module) uint32 {
		return m.Func("", "", forever(step))
	}, 5, 4_000},
	{"a loop that comes round by br_if", func(m *wasmtest.Module) uint32 {
		return m.Func("", "", loop, step, wasmtest.I32(1), []byte{0x0d, 0}, end)
	}, 5, 4_000},
	{"a loop around a br_table", func(m *wasmtest.Module) uint32 {
		return m.Func("", "", loop, block, block, step, wasmtest.I32(7), []byte{0x0e, 2, 0, 1, 2}, end, end, wasmtest.Br(0), end)
	}, 5, 4_000},
	{"recursion", func(m *wasmtest.Module) uint32 {
		return m.Func("", "", step, wasmtest.Call(0))
	}, 5, 1},
	{"recursion of two", func(m *wasmtest.Module) uint32 {
		m.Func("", "", step, wasmtest.Call(1))
		return m.Func("", "", wasmtest.Call(0))
	}, 5, 1},
	{"recursion with work below a chunk in each call", func(m *wasmtest.Module) uint32 {
		return m.FuncWithLocals("", "", twoLocals, times(900, 0, step), wasmtest.Call(0))
	}, 5, 4_000},
	{"a storm of calls of a light function", func(m *wasmtest.Module) uint32 {
		m.Func("", "", step)
		return m.Func("", "", forever(wasmtest.Call(0)))
	}, 5, 4_000},
	{"calls of a function that loops, one after the other", func(m *wasmtest.Module) uint32 {
		m.FuncWithLocals("", "", twoLocals, times(900, 0, step))
		return m.Func("", "", forever(bytes.Repeat(wasmtest.Call(0), 10_000)))
	}, 5, 4_000},
	{"calls of a light function, one after the other", func(m *wasmtest.Module) uint32 {
		m.Func("", "", step)
		return m.Func("", "", forever(bytes.Repeat(wasmtest.Call(0), 300_000)))
	}, 5, 10_000},
	{"a long way through branches not taken", func(m *wasmtest.Module) uint32 {
		some := slices.Concat(bytes.Repeat(step, 100), wasmtest.I32(0), ifTrue, bytes.Repeat(step, 2000), end)
		return m.Func("", "", forever(bytes.Repeat(some, 100)))
	}, 4, 10_000},
	{"loops within loops", func(m *wasmtest.Module) uint32 {
		return m.FuncWithLocals("", "", twoLocals, forever(times(30, 0, times(30, 1, step))))
	}, 5, 4_000},
	{"tail calls of itself", func(m *wasmtest.Module) uint32 {
		return m.Func("", "", step, []byte{0x12, 0})
	}, 5, 1},
	{"fills", func(m *wasmtest.Module) uint32 {
		m.Memory(64, 64)
		return m.Func("", "", forever(step, wasmtest.I32(0), wasmtest.I32(1), wasmtest.I32(64<<16), fill))
	}, 4 * slice, 1},
	{"fills that are short", func(m *wasmtest.Module) uint32 {
		m.Memory(64, 64)
		return m.Func("", "", forever(step, wasmtest.I32(0), wasmtest.I32(1), wasmtest.GlobalGet(0), []byte{0xa7}, wasmtest.I32(1023), []byte{0x71}, fill))
	}, 64, 300},
	{"copies", func(m *wasmtest.Module) uint32 {
		m.Memory(64, 64)
		return m.Func("", "", forever(step, wasmtest.I32(9), wasmtest.I32(1), wasmtest.I32(60<<16), memoryCopy))
	}, 3 * slice, 1},
	{"growing", func(m *wasmtest.Module) uint32 {
		m.Memory(1, 64)
		return m.Func("", "", forever(step, wasmtest.I32(0), []byte{0x40, 0}, drop))
	}, 2_000, 10},
}

// steps runs a guest until it ticked often enough, and returns how far it got
// and the fuel that it had for it.
func steps(t *testing.T, config wazero.RuntimeConfig, code []byte) (done, fuel int) {
	t.Helper()
	ctx := context.Background()
	rt := wazero.NewRuntimeWithConfig(ctx, config.WithCoreFeatures(features))
	defer rt.Close(ctx)
	tick := func(_ context.Context, mod api.Module, _ []uint64) {
		if fuel == slice*ticksBeforeKill {
			done = int(mod.ExportedGlobal("__copepod_global_0").Get())
			panic(sys.NewExitError(137))
		}
		fuel += slice
		mod.ExportedGlobal("__copepod_fuel").(api.MutableGlobal).Set(slice)
	}
	_, err := rt.NewHostModuleBuilder("copepod_meter").
		NewFunctionBuilder().WithGoModuleFunction(api.GoModuleFunc(tick), nil, nil).Export("tick").Instantiate(ctx)
	if err != nil {
		t.Fatal(err)
	}
	mod, err := rt.Instantiate(ctx, code)
	if err != nil {
		t.Fatal(err)
	}
	if _, err = mod.ExportedFunction("run").Call(ctx); err == nil || !strings.Contains(err.Error(), "exit_code(137)") {
		t.Fatalf("the guest ended with %v, want to be killed by the tick", err)
	}
	return done, fuel
}

func TestNoGuestRunsFurtherThanItsFuel(t *testing.T) {
	for _, e := range escapes {
		t.Run(e.name, func(t *testing.T) {
			var m wasmtest.Module
			m.MutableI64(0)
			m.Export("run", wasmtest.Func, e.build(&m))
			code, err := rewrite.Rewrite(m.Bytes(), rewrite.Limits{})
			if err != nil {
				t.Fatal(err)
			}
			for engine, config := range engines {
				if engine == "interpreter" && strings.HasPrefix(e.name, "recursion") {
					continue // its stack ends before the fuel
				}
				done, fuel := steps(t, config(), code)
				if most := fuel/e.cost + e.slack; done > most || done == 0 {
					t.Errorf("%s: got %d steps for %d of fuel, want at most %d", engine, done, fuel, most)
				}
			}
		})
	}
}

func TestAStartFunctionTicks(t *testing.T) {
	var m wasmtest.Module
	m.MutableI64(0)
	m.Start(m.Func("", "", forever(step)))
	code, err := rewrite.Rewrite(m.Bytes(), rewrite.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	rt := wazero.NewRuntime(ctx)
	defer rt.Close(ctx)
	_, err = rt.NewHostModuleBuilder("copepod_meter").NewFunctionBuilder().WithFunc(func() {
		panic(sys.NewExitError(137))
	}).Export("tick").Instantiate(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := rt.Instantiate(ctx, code); err == nil || !strings.Contains(err.Error(), "exit_code(137)") {
		t.Errorf("got %v, want to be killed by the tick", err)
	}
}

func TestDeepRecursionTrapsInAFunctionThatSaysSo(t *testing.T) {
	var m wasmtest.Module
	m.MutableI64(0)
	m.Export("run", wasmtest.Func, m.Func("", "", step, wasmtest.Call(0), step))
	code, report, err := rewrite.RewriteReport(m.Bytes(), rewrite.Limits{CallStack: 100_000})
	if err != nil {
		t.Fatal(err)
	}
	if report.Counted != 1 {
		t.Errorf("got %d functions that count, want 1", report.Counted)
	}
	ctx := context.Background()
	rt := wazero.NewRuntime(ctx)
	defer rt.Close(ctx)
	ticks := 0
	host(t, rt, &ticks)
	mod, err := rt.Instantiate(ctx, code)
	if err != nil {
		t.Fatal(err)
	}
	_, err = mod.ExportedFunction("run").Call(ctx)
	if err == nil || !strings.Contains(err.Error(), ".call stack exhausted()") {
		t.Errorf("got %v, want a trap in call stack exhausted", err)
	}
	if deep := mod.ExportedGlobal("__copepod_global_0").Get(); deep < 100 || deep > 1000 {
		t.Errorf("got %d calls deep, want some hundreds", deep)
	}
}

func TestACallThatReturnsGivesItsDepthBack(t *testing.T) {
	var m wasmtest.Module
	m.MutableI64(0)
	recurse := m.FuncWithLocals("i", "", []byte{0}, step, wasmtest.LocalGet(0), ifTrue,
		wasmtest.LocalGet(0), wasmtest.I32(1), []byte{0x6b}, wasmtest.Call(0), []byte{0x0f}, end)
	m.Export("run", wasmtest.Func, recurse)
	code, err := rewrite.Rewrite(m.Bytes(), rewrite.Limits{CallStack: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	rt := wazero.NewRuntime(ctx)
	defer rt.Close(ctx)
	ticks := 0
	host(t, rt, &ticks)
	mod, err := rt.Instantiate(ctx, code)
	if err != nil {
		t.Fatal(err)
	}
	for range 50 {
		if _, err := mod.ExportedFunction("run").Call(ctx, 500); err != nil {
			t.Fatal(err)
		}
	}
	if left := mod.ExportedGlobal("__copepod_depth").Get(); left != 0 {
		t.Errorf("got a depth of %d when nothing runs, want 0", left)
	}
}
