//go:build unix

package compile_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tetratelabs/wazero"

	"copepod/wasmrt/compile"
	"copepod/wasmrt/internal/wasmtest"
)

// TestMain is the child, too: "compile" is its verb, and "told" the same for who
// wants to know its process.
func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == "told" {
		if err := os.WriteFile(filepath.Join(os.Args[2], "pid"), strconv.AppendInt(nil, int64(os.Getpid()), 10), 0o600); err != nil {
			panic(err)
		}
		os.Args[1] = "compile"
	}
	if len(os.Args) > 1 && os.Args[1] == "compile" {
		os.Exit(compile.Main(os.Args[2:], os.Stdin, os.Stderr))
	}
	os.Exit(m.Run())
}

func child(t testing.TB, verb string) compile.Child {
	t.Helper()
	command, err := compile.Self(verb)
	if err != nil {
		t.Fatal(err)
	}
	return compile.Child{Command: command, Memory: 256 << 20, Time: time.Minute, Workers: 2}
}

func function(locals []byte, code ...[]byte) []byte {
	var m wasmtest.Module
	m.Export("f", wasmtest.Func, m.FuncWithLocals("", "", locals, code...))
	return m.Bytes()
}

func TestTheParentFindsWhatTheChildMade(t *testing.T) {
	dir := t.TempDir()
	code := function([]byte{0})
	if err := child(t, "compile").Compile(t.Context(), code, dir); err != nil {
		t.Fatal(err)
	}
	before := files(t, dir)
	if len(before) != 1 {
		t.Fatalf("got %v, want one entry", before)
	}
	cache, err := wazero.NewCompilationCacheWithDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	rt := compile.NewRuntime(t.Context(), cache)
	defer rt.Close(t.Context())
	if _, err := rt.CompileModule(t.Context(), code); err != nil {
		t.Fatal(err)
	}
	if after := files(t, dir); len(after) != 1 || after[0] != before[0] {
		t.Errorf("the parent compiled it anew: got %v, want %v", after, before)
	}
}

func files(t testing.TB, dir string) []string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(dir, "*", "*"))
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// bombs are modules that would end or stall the process that compiles them.
func bombs() map[string][]byte {
	const targets = 1 << 20
	table := append([]byte{0x0e}, binary.AppendUvarint(nil, targets)...)
	return map[string][]byte{
		"200,000 nested blocks":        function([]byte{0}, bytes.Repeat(wasmtest.Block, 200_000), bytes.Repeat(wasmtest.End, 200_000)),
		"a br_table of 1 << 20":        function([]byte{0}, wasmtest.Block, wasmtest.I32(0), table, make([]byte, targets+1), wasmtest.End),
		"20 MB of straight code":       function([]byte{1, 1, 0x7f}, bytes.Repeat([]byte{0x20, 0, 0x20, 0, 0x6a, 0x21, 0}, 3_000_000)),
		"a locals count of four G":     function([]byte{1, 0xff, 0xff, 0xff, 0xff, 0x0f, 0x7e}),
		"10,000 functions of 2 GB":     manyLocals(),
		"a section of 4 GB that is no": append([]byte("\x00asm\x01\x00\x00\x00\x01"), 0xff, 0xff, 0xff, 0xff, 0x0f),
	}
}

func manyLocals() []byte {
	var m wasmtest.Module
	for range 10_000 {
		m.FuncWithLocals("", "", []byte{1, 0x80, 0x80, 0x80, 0x01, 0x7f}) // 2,097,152
	}
	return m.Bytes()
}

func TestNoModuleEndsOrStallsTheParent(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only Linux has limits for a process that hold for Go's memory")
	}
	for name, code := range bombs() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := child(t, "compile")
			c.Time = 2 * time.Second
			err := c.Compile(t.Context(), code, t.TempDir())
			_, limit := errors.AsType[*compile.LimitError](err)
			_, invalid := errors.AsType[*compile.InvalidError](err)
			if !limit && !invalid {
				t.Errorf("got %v, want a *LimitError or an *InvalidError", err)
			}
			t.Log(err)
		})
	}
}

// compiling begins what takes very long.
func compiling(t *testing.T, ctx context.Context) (pid int, done <-chan error) {
	t.Helper()
	dir := t.TempDir()
	ended := make(chan error, 1)
	go func() { ended <- child(t, "told").Compile(ctx, bombs()["200,000 nested blocks"], dir) }()
	for pid == 0 {
		select {
		case err := <-ended:
			t.Fatalf("it ended before it began: %v", err)
		case <-time.After(time.Millisecond):
		}
		text, _ := os.ReadFile(filepath.Join(dir, "pid"))
		pid, _ = strconv.Atoi(string(text))
	}
	return pid, ended
}

func TestAChildThatIsKilledSaysSo(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("needs a module that takes long and a system that can bound it")
	}
	pid, done := compiling(t, t.Context())
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	err := <-done
	_, limit := errors.AsType[*compile.LimitError](err)
	if err == nil || limit || !strings.Contains(err.Error(), "ended from outside") {
		t.Errorf("got %v, want that it was ended from outside", err)
	}
}

func TestAChildEndsWithItsContext(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("needs a module that takes long and a system that can bound it")
	}
	ctx, cancel := context.WithCancel(t.Context())
	pid, done := compiling(t, ctx)
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
	if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) {
		t.Errorf("the process is still there: %v", err)
	}
}

func TestAChildIsHeldToTheClock(t *testing.T) {
	c := child(t, "compile")
	c.Time = time.Millisecond // by the clock: a process does not even begin in that time
	err := c.Compile(t.Context(), function([]byte{0}), t.TempDir())
	if _, limit := errors.AsType[*compile.LimitError](err); !limit {
		t.Errorf("got %v, want a *LimitError", err)
	}
}

func TestWhatTheCompilerRefusesIsInvalid(t *testing.T) {
	err := child(t, "compile").Compile(t.Context(), function([]byte{0}, wasmtest.I32Add), t.TempDir())
	if _, invalid := errors.AsType[*compile.InvalidError](err); !invalid {
		t.Errorf("got %v, want an *InvalidError", err)
	}
}

func TestTroubleThatIsNotTheModulesIsToldApart(t *testing.T) {
	code := function([]byte{0})
	wrong := child(t, "compile")
	wrong.Command = []string{filepath.Join(t.TempDir(), "nothing")}
	gone := filepath.Join(t.TempDir(), "gone")
	for name, err := range map[string]error{
		"no such program":   wrong.Compile(t.Context(), code, t.TempDir()),
		"no such directory": child(t, "compile").Compile(t.Context(), code, gone),
		"no command":        compile.Child{}.Compile(t.Context(), code, t.TempDir()),
	} {
		_, limit := errors.AsType[*compile.LimitError](err)
		_, invalid := errors.AsType[*compile.InvalidError](err)
		_, crash := errors.AsType[*compile.CrashError](err)
		if err == nil || limit || invalid || crash {
			t.Errorf("%s: got %v, want an error that does not blame the module", name, err)
		}
	}
}

func TestArgumentsAreChecked(t *testing.T) {
	for _, args := range [][]string{nil, {"x"}, {"", "1", "1", "1"}, {"d", "0", "1", "1"}, {"d", "1", "-1", "1"}, {"d", "1", "1", "many"}} {
		var said bytes.Buffer
		if code := compile.Main(args, strings.NewReader(""), &said); code == 0 || said.Len() == 0 {
			t.Errorf("%q: got code %d, %q; want a refusal that says why", args, code, &said)
		}
	}
}

func TestChildrenLeaveNothingBehind(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("needs /proc")
	}
	count := func() (goroutines, files int) {
		entries, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return runtime.NumGoroutine(), len(entries)
	}
	dir := t.TempDir()
	round := func() {
		_ = child(t, "compile").Compile(t.Context(), function([]byte{0}), dir)
		_ = child(t, "compile").Compile(t.Context(), function([]byte{0}, wasmtest.I32Add), dir)
		_ = child(t, "compile").Compile(t.Context(), bombs()["a locals count of four G"], dir)
	}
	round()
	goroutines, open := count()
	for range 3 {
		round()
	}
	for begin := time.Now(); ; time.Sleep(time.Millisecond) {
		g, f := count()
		if g <= goroutines && f <= open {
			break
		}
		if time.Since(begin) > 30*time.Second {
			t.Fatalf("got %d goroutines and %d files, want no more than %d and %d", g, f, goroutines, open)
		}
	}
	// All were waited for: this process has no children, dead or alive.
	if children, err := os.ReadFile("/proc/self/task/" + strconv.Itoa(os.Getpid()) + "/children"); err == nil && len(children) > 0 {
		t.Errorf("children are left: %s", children)
	}
	if left := files(t, dir); len(left) != 1 {
		t.Errorf("got %v, want one entry", left)
	}
}

// go test -run '^$' -bench Child ./wasmrt/compile
func BenchmarkChild(b *testing.B) {
	c := child(b, "compile")
	for b.Loop() {
		if err := c.Compile(b.Context(), function([]byte{0}), b.TempDir()); err != nil {
			b.Fatal(err)
		}
	}
}
