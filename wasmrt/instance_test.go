package wasmrt_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	"copepod/wasmrt"
	"copepod/wasmrt/internal/wasmtest"
)

// program is a module whose _start is code. Its _start may call proc_exit (0)
// and sched_yield (1).
func program(pages uint32, code ...[]byte) []byte {
	var m wasmtest.Module
	m.Import("wasi_snapshot_preview1", "proc_exit", "i", "")
	m.Import("wasi_snapshot_preview1", "sched_yield", "", "i")
	m.Memory(pages, 65536)
	m.Export("_start", wasmtest.Func, m.Func("", "", code...))
	return m.Bytes()
}

const (
	procExit   = 0
	schedYield = 1
)

// yieldForever calls the host in a loop.
var yieldForever = [][]byte{wasmtest.Loop, wasmtest.Call(schedYield), wasmtest.Drop, wasmtest.Br(0), wasmtest.End}

func runProgram(t *testing.T, code []byte, p wasmrt.Program) wasmrt.Exit {
	t.Helper()
	h := newHost(t)
	return wait(t, start(t, h, load(t, h, code), p))
}

func TestExitTellsWhatEndedTheGuest(t *testing.T) {
	for _, row := range []struct {
		name    string
		code    []byte
		want    wasmrt.ExitReason
		exit    uint32
		message string
	}{
		{name: "main returns", code: program(1), want: wasmrt.Completed},
		{name: "exit 0", code: program(1, wasmtest.I32(0), wasmtest.Call(procExit)), want: wasmrt.Completed},
		{name: "exit 7", code: program(1, wasmtest.I32(7), wasmtest.Call(procExit)), want: wasmrt.Error, exit: 7},
		{name: "exit 137 of its own", code: program(1, wasmtest.I32(137), wasmtest.Call(procExit)), want: wasmrt.Error, exit: 137},
		{name: "unreachable", code: program(1, wasmtest.Unreachable), want: wasmrt.Trap, exit: 134, message: "unreachable"},
		{name: "division by zero", code: program(1, wasmtest.I32(1), wasmtest.I32(0), wasmtest.I32DivU, wasmtest.Drop), want: wasmrt.Trap, exit: 134, message: "divide by zero"},
		{name: "outside its memory", code: program(1, wasmtest.I32(-1), wasmtest.I32Load, wasmtest.Drop), want: wasmrt.Trap, exit: 134, message: "out of bounds"},
		{name: "endless recursion", code: program(1, wasmtest.Call(2)), want: wasmrt.Trap, exit: 134, message: "stack overflow"},
	} {
		t.Run(row.name, func(t *testing.T) {
			exit := runProgram(t, row.code, wasmrt.Program{})
			if exit.Reason != row.want || exit.Code != row.exit || !strings.Contains(exit.Message, row.message) {
				t.Errorf("got %+v, want %v with code %d and %q", exit, row.want, row.exit, row.message)
			}
		})
	}
}

func TestTrapCarriesTheStackOfTheGuest(t *testing.T) {
	h := newHost(t)
	i := start(t, h, load(t, h, goGuest(t, "echo")), wasmrt.Program{Args: []string{"echo", "trap"}})
	if exit := wait(t, i); exit.Reason != wasmrt.Trap || !strings.Contains(exit.Message, "main.dive") {
		t.Errorf("got %+v, want a trap in main.dive", exit)
	}
}

func TestAFailingStartFunctionIsTheGuestsOwnEnd(t *testing.T) {
	for _, row := range []struct {
		name string
		code [][]byte
		want wasmrt.ExitReason
	}{
		{"trap", [][]byte{wasmtest.Unreachable}, wasmrt.Trap},
		{"exit", [][]byte{wasmtest.I32(3), wasmtest.Call(0)}, wasmrt.Error},
	} {
		t.Run(row.name, func(t *testing.T) {
			var m wasmtest.Module
			m.Import("wasi_snapshot_preview1", "proc_exit", "i", "")
			m.Memory(1, 1)
			m.Start(m.Func("", "", row.code...))
			m.Export("_start", wasmtest.Func, m.Func("", ""))
			if exit := runProgram(t, m.Bytes(), wasmrt.Program{}); exit.Reason != row.want {
				t.Errorf("got %+v, want %v", exit, row.want)
			}
		})
	}
}

// grow asks for pages, and exits with the code if it does not get them.
func grow(pages, code int32) [][]byte {
	return [][]byte{
		wasmtest.I32(pages), wasmtest.MemoryGrow, wasmtest.I32(-1), {0x46}, wasmtest.If,
		wasmtest.I32(code), wasmtest.Call(procExit), wasmtest.End,
	}
}

func TestMemoryLimitHolds(t *testing.T) {
	const page = 64 << 10
	for _, row := range []struct {
		name  string
		limit int64
		code  [][]byte
		want  wasmrt.ExitReason
		exit  uint32
	}{
		{name: "up to the limit", limit: 10 * page, code: grow(9, 1), want: wasmrt.Completed},
		{name: "one page past it", limit: 10 * page, code: grow(10, 1), want: wasmrt.OOMKilled, exit: 137},
		{name: "a refusal that is survived", limit: 10 * page, code: grow(10, 0), want: wasmrt.Completed},
		{name: "a trap after a refusal", limit: 10 * page, code: append(grow(10, 0)[:3:3], wasmtest.Drop, wasmtest.Drop, wasmtest.Unreachable), want: wasmrt.OOMKilled, exit: 137},
		{name: "no limit", code: grow(10_000, 1), want: wasmrt.Completed},
		{name: "past 4 GiB", code: grow(65_535, 1), want: wasmrt.OOMKilled, exit: 137},
	} {
		t.Run(row.name, func(t *testing.T) {
			exit := runProgram(t, program(1, row.code...), wasmrt.Program{MemoryLimit: row.limit})
			if exit.Reason != row.want || exit.Code != row.exit {
				t.Errorf("got %+v, want %v with %d", exit, row.want, row.exit)
			}
		})
	}
}

func TestAModuleThatNeedsMoreThanItsLimitIsNotStarted(t *testing.T) {
	h := newHost(t)
	m := load(t, h, program(100))
	_, err := h.Start(t.Context(), m, wasmrt.Program{Name: "big", MemoryLimit: 50 * 64 << 10})
	too, ok := errors.AsType[*wasmrt.MemoryError](err)
	if !ok || too.Need != 100*64<<10 || too.Limit != 50*64<<10 {
		t.Errorf("got %v, want a *MemoryError with both sizes", err)
	}
}

func TestProgramsThatEatMemoryAreOOMKilled(t *testing.T) {
	for name, build := range map[string]func() []byte{
		"go": func() []byte { return goGuest(t, "echo") },
		"c":  func() []byte { return cGuest(t, "main") },
	} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t)
			i := start(t, h, load(t, h, build()), wasmrt.Program{Args: []string{"x", "grow"}, MemoryLimit: 64 << 20})
			if exit := wait(t, i); exit.Reason != wasmrt.OOMKilled || exit.Code != 137 {
				t.Errorf("got %+v, want OOMKilled with 137", exit)
			}
			if got := i.Stats().MemoryBytes; got > 64<<20 {
				t.Errorf("it held %d bytes", got)
			}
		})
	}
}

func TestKillEndsAGuestWhereverItIs(t *testing.T) {
	h := newHost(t)
	echo := goGuest(t, "echo")
	for _, row := range []struct {
		name string
		code []byte
		p    wasmrt.Program
	}{
		{name: "parked in a read", code: echo, p: wasmrt.Program{Args: []string{"echo", "park"}}},
		{name: "in a flood of calls", code: program(1, yieldForever...)},
		{name: "not even begun", code: program(1, yieldForever...)},
	} {
		t.Run(row.name, func(t *testing.T) {
			r, w := io.Pipe()
			defer w.Close()
			row.p.Stdin = r
			i := start(t, h, load(t, h, row.code), row.p)
			if row.name == "parked in a read" {
				w.Write([]byte("it reads")) // returns once the guest took it
			}
			i.Kill()
			i.Kill()
			if exit := wait(t, i); exit.Reason != wasmrt.Killed || exit.Code != 137 {
				t.Errorf("got %+v, want Killed with 137", exit)
			}
		})
	}
}

func TestTerminateLetsAServerFinish(t *testing.T) {
	h := newHost(t)
	l := listen(t)
	i := start(t, h, load(t, h, goGuest(t, "serve")), wasmrt.Program{Args: []string{"serve"}, Listeners: []wasmrt.Listener{{Listener: l}}})
	i.Terminate()
	// http.Serve fails once its listener does, and the guest exits of its own.
	if exit := wait(t, i); exit.Reason != wasmrt.Error || exit.Code != 1 {
		t.Errorf("got %+v, want its own exit code 1", exit)
	}
}

func TestWaitEndsWithItsContext(t *testing.T) {
	h := newHost(t)
	i := start(t, h, load(t, h, program(1, yieldForever...)), wasmrt.Program{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := i.Wait(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
}

func TestCloseKillsWhatRuns(t *testing.T) {
	h, err := wasmrt.New(t.Context(), wasmrt.Config{})
	if err != nil {
		t.Fatal(err)
	}
	m, err := h.Load(t.Context(), program(1, yieldForever...))
	if err != nil {
		t.Fatal(err)
	}
	i, err := h.Start(t.Context(), m, wasmrt.Program{})
	if err != nil {
		t.Fatal(err)
	}
	if err := h.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if exit := wait(t, i); exit.Reason != wasmrt.Killed {
		t.Errorf("got %+v, want Killed", exit)
	}
	if _, err := h.Load(t.Context(), program(1)); !errors.Is(err, wasmrt.ErrClosed) {
		t.Errorf("Load: got %v, want ErrClosed", err)
	}
	if _, err := h.Start(t.Context(), m, wasmrt.Program{}); !errors.Is(err, wasmrt.ErrClosed) {
		t.Errorf("Start: got %v, want ErrClosed", err)
	}
}

func TestInstancesOutliveTheModuleThatStartedThem(t *testing.T) {
	h := newHost(t)
	m, err := h.Load(t.Context(), program(1, yieldForever...))
	if err != nil {
		t.Fatal(err)
	}
	i := start(t, h, m, wasmrt.Program{})
	m.Close()
	if got := h.Stats(); got.Modules != 1 || got.Instances != 1 {
		t.Errorf("while it runs: got %+v", got)
	}
	i.Kill()
	wait(t, i)
	if got := h.Stats(); got.Modules != 0 || got.Instances != 0 || got.Exits.Killed != 1 {
		t.Errorf("after it ended: got %+v", got)
	}
	if _, err := h.Start(t.Context(), m, wasmrt.Program{}); err == nil {
		t.Error("a closed module was started")
	}
}

func TestManyInstancesShareOneModule(t *testing.T) {
	h := newHost(t)
	m := load(t, h, program(1, yieldForever...))
	var all []*wasmrt.Instance
	for range 2000 {
		r, _ := io.Pipe()
		all = append(all, start(t, h, m, wasmrt.Program{Stdin: r}))
	}
	if got := h.Stats(); got.Instances != 2000 || got.Modules != 1 {
		t.Errorf("got %d instances of %d modules, want 2000 of 1", got.Instances, got.Modules)
	}
	for _, i := range all {
		i.Kill()
	}
	for _, i := range all {
		if exit := wait(t, i); exit.Reason != wasmrt.Killed {
			t.Fatalf("got %+v, want Killed", exit)
		}
	}
	if got := h.Stats().MemoryBytes; got != 0 {
		t.Errorf("%d bytes of memory are still held", got)
	}
}

// sevenExit is a program that exits with code 7.
var sevenExit = program(1, wasmtest.I32(7), wasmtest.Call(procExit))
