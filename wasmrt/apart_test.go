package wasmrt_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"copepod/wasmrt"
	"copepod/wasmrt/compile"
	"copepod/wasmrt/internal/wasmtest"
)

// apart is a host that compiles in child processes.
func apart(t testing.TB, cfg wasmrt.Config) *wasmrt.Host {
	t.Helper()
	command, err := compile.Self(compilerVerb)
	if err != nil {
		t.Fatal(err)
	}
	cfg.Compiler = command
	return hostWith(t, cfg)
}

func TestModulesAreCompiledInAChild(t *testing.T) {
	dir := t.TempDir()
	for _, row := range []struct {
		name           string
		dir            string
		compiled, hits uint64
	}{
		{"without a cache", "", 1, 0},
		{"into a cache", dir, 1, 0},
		{"from the cache", dir, 0, 1},
	} {
		h := apart(t, wasmrt.Config{CacheDir: row.dir})
		if exit := wait(t, start(t, h, load(t, h, sevenExit), wasmrt.Program{})); exit.Code != 7 {
			t.Errorf("%s: got %+v, want code 7", row.name, exit)
		}
		if got := h.Stats(); got.Compiled != row.compiled || got.CacheHits != row.hits {
			t.Errorf("%s: got %+v, want %d compiled and %d hits", row.name, got, row.compiled, row.hits)
		}
	}
	entries, err := os.ReadDir(dir)
	check(t, err)
	if len(entries) != 1 || strings.HasPrefix(entries[0].Name(), "compiling-") {
		t.Errorf("got %v, want the one entry", entries)
	}
}

func TestAChildsWorkIsNotLostWithTheDisk(t *testing.T) {
	dir := t.TempDir()
	h := apart(t, wasmrt.Config{CacheDir: dir})
	check(t, os.RemoveAll(dir))
	check(t, os.WriteFile(dir, []byte("in the way"), 0o600))
	if exit := wait(t, start(t, h, load(t, h, sevenExit), wasmrt.Program{})); exit.Code != 7 {
		t.Errorf("got %+v, want code 7", exit)
	}
}

func TestACompilerOfAnotherVersionIsFoundOut(t *testing.T) {
	path := built(t, "other", func(out string) *exec.Cmd {
		return exec.Command("go", "build", "-ldflags", "-X github.com/tetratelabs/wazero/internal/version.version=other", "-o", out, "./internal/wasmtest/compiler")
	})
	dir := t.TempDir()
	h := hostWith(t, wasmrt.Config{CacheDir: dir, Compiler: []string{path}})
	if _, err := h.Load(t.Context(), sevenExit); err == nil || !strings.Contains(err.Error(), "of another version") {
		t.Errorf("got %v, want that the compiler is of another version", err)
	}
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// dear is a module that passes every check and takes much memory to compile:
// straight code, as generators write it.
func dear() []byte {
	return program(1, bytes.Repeat([]byte{0x41, 1, 0x41, 1, 0x6a, 0x1a}, 400_000))
}

func TestAModuleThatTakesTooMuchToCompileIsRefusedForAWhile(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only Linux has limits for a process that hold for Go's memory")
	}
	dir := t.TempDir()
	h := apart(t, wasmrt.Config{CacheDir: dir, CompileMemory: 32 << 20})
	code := dear()
	for range 3 {
		_, err := h.Load(t.Context(), code)
		if e, ok := errors.AsType[*wasmrt.UnsupportedError](err); !ok || !strings.Contains(e.Error(), "more than 32 MiB of memory to compile") {
			t.Fatalf("got %v, want that it takes more than 32 MiB", err)
		}
	}
	if got := h.Stats(); got.Compiled != 1 || got.Stopped != 1 || got.Refused != 3 || got.Modules != 0 {
		t.Errorf("got %+v, want one attempt and three refusals", got)
	}
	load(t, h, program(1)) // others go on
	if left, _ := filepath.Glob(filepath.Join(dir, "compiling-*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestBombsAreRefusedWithTheReason(t *testing.T) {
	const targets = 1 << 20
	table := append([]byte{0x0e}, binary.AppendUvarint(nil, targets)...)
	var locals wasmtest.Module
	locals.Memory(1, 1)
	locals.Export("_start", wasmtest.Func, locals.FuncWithLocals("", "", []byte{1, 0xff, 0xff, 0xff, 0xff, 0x0f, 0x7e}))
	h := apart(t, wasmrt.Config{})
	for name, row := range map[string]struct {
		code []byte
		want string
	}{
		"nested blocks":   {program(1, bytes.Repeat(wasmtest.Block, 200_000), bytes.Repeat(wasmtest.End, 200_000)), "nested"},
		"a large table":   {program(1, wasmtest.Block, wasmtest.I32(0), table, make([]byte, targets+1), wasmtest.End), "target"},
		"straight code":   {program(1, bytes.Repeat([]byte{0x41, 1, 0x41, 1, 0x6a, 0x1a}, 20<<20/6)), "bytes"},
		"lying locals":    {locals.Bytes(), "locals"},
		"many ifs":        {program(1, bytes.Repeat([]byte{0x41, 1, 0x04, 0x40, 0x0b}, 200_000)), "compile"},
		"unclosed blocks": {program(1, bytes.Repeat(wasmtest.Block, 100)), ""},
	} {
		_, err := h.Load(t.Context(), row.code)
		_, unsupported := errors.AsType[*wasmrt.UnsupportedError](err)
		_, malformed := errors.AsType[*wasmrt.MalformedError](err)
		if !unsupported && !malformed || !strings.Contains(err.Error(), row.want) {
			t.Errorf("%s: got %v, want a typed error that says %q", name, err, row.want)
		}
	}
}

func TestSmallModulesDoNotWaitForLargeOnes(t *testing.T) {
	h := apart(t, wasmrt.Config{})
	large := func(n byte) []byte { // a custom section makes them so
		section := append([]byte{0}, binary.AppendUvarint(nil, 5<<20)...)
		return append(program(1), append(section, append([]byte{1, n}, make([]byte, 5<<20-2)...)...)...)
	}
	var wg sync.WaitGroup
	for n := range byte(4) {
		wg.Go(func() {
			m, err := h.Load(t.Context(), large(n))
			if err != nil {
				t.Error(err)
				return
			}
			m.Close()
		})
	}
	for pages := range uint32(4) {
		load(t, h, program(pages+1))
	}
	wg.Wait()
	if got := h.Stats(); got.Compiled != 8 {
		t.Errorf("got %d compiled, want 8", got.Compiled)
	}
}

func TestCloseEndsACompilation(t *testing.T) {
	command, err := compile.Self(compilerVerb)
	check(t, err)
	h, err := wasmrt.New(t.Context(), wasmrt.Config{Compiler: command})
	check(t, err)
	var wg sync.WaitGroup
	code := dear()
	for n := range 4 { // two compile and two wait
		code := append(bytes.Clone(code), 0, 2, 1, byte(n)) // a custom section
		wg.Go(func() {
			if m, err := h.Load(t.Context(), code); err == nil {
				m.Close()
			} else if !errors.Is(err, wasmrt.ErrClosed) {
				t.Errorf("got %v, want ErrClosed", err)
			}
		})
	}
	for h.Stats().Compiled == 0 {
		time.Sleep(time.Millisecond)
	}
	check(t, h.Close(t.Context()))
	wg.Wait()
}

func TestALoadThatIsGivenUpLeavesAtOnce(t *testing.T) {
	h := apart(t, wasmrt.Config{})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { _, err := h.Load(ctx, dear()); done <- err }()
	for h.Stats().Compiled == 0 {
		time.Sleep(time.Millisecond)
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
}

func TestWhatACompilerLeftBehindIsCleared(t *testing.T) {
	dir := t.TempDir()
	old, young := filepath.Join(dir, "compiling-1"), filepath.Join(dir, "compiling-2")
	check(t, os.Mkdir(old, 0o700))
	check(t, os.Mkdir(young, 0o700))
	then := time.Now().Add(-2 * time.Hour)
	check(t, os.Chtimes(old, then, then))
	hostWith(t, wasmrt.Config{CacheDir: dir})
	if _, err := os.Stat(old); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the old one is still there: %v", err)
	}
	if _, err := os.Stat(young); err != nil {
		t.Errorf("the one that may be in use is gone: %v", err)
	}
}
