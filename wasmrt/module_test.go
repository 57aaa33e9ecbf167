package wasmrt_test

import (
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"copepod/wasmrt"
	"copepod/wasmrt/internal/wasmtest"
)

func hostWith(t testing.TB, cfg wasmrt.Config) *wasmrt.Host {
	t.Helper()
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	h, err := wasmrt.New(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close(t.Context()) })
	return h
}

func TestLoadsOfOneModuleShareOneCompilation(t *testing.T) {
	h := hostWith(t, wasmrt.Config{})
	code := program(1)
	m, err := h.Load(t.Context(), code)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			m, err := h.Load(t.Context(), code)
			if err != nil {
				t.Error(err)
				return
			}
			defer m.Close()
			i, err := h.Start(t.Context(), m, wasmrt.Program{})
			if err != nil {
				t.Error(err)
				return
			}
			<-i.Done()
		})
	}
	wg.Wait()
	if got := h.Stats(); got.Compiled != 1 || got.Modules != 1 {
		t.Errorf("got %d compilations, %d modules, want 1 and 1", got.Compiled, got.Modules)
	}
	m.Close()
	m.Close()
	if got := h.Stats().Modules; got != 0 {
		t.Errorf("after the last Close: got %d modules, want 0", got)
	}
}

func TestTheDiskCacheOutlivesTheHost(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "cache")
	code := program(1, wasmtest.I32(5), wasmtest.Call(procExit))
	run := func() wasmrt.HostStats {
		h := hostWith(t, wasmrt.Config{CacheDir: dir})
		if exit := wait(t, start(t, h, load(t, h, code), wasmrt.Program{})); exit.Code != 5 {
			t.Errorf("got %+v, want code 5", exit)
		}
		return h.Stats()
	}
	if got := run(); got.Compiled != 1 || got.CacheHits != 0 {
		t.Errorf("first: got %+v, want one compilation", got)
	}
	if got := run(); got.Compiled != 0 || got.CacheHits != 1 {
		t.Errorf("second: got %+v, want one hit", got)
	}
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("cache directory: got %v, %v, want 0700", info.Mode(), err)
	}
}

func TestADamagedCacheEntryIsMadeAgain(t *testing.T) {
	code := program(1, wasmtest.I32(5), wasmtest.Call(procExit))
	for name, damage := range map[string]func(t *testing.T, path string){
		"cut short": func(t *testing.T, path string) { check(t, os.Truncate(path, 20)) },
		"emptied":   func(t *testing.T, path string) { check(t, os.Truncate(path, 0)) },
		"removed":   func(t *testing.T, path string) { check(t, os.Remove(path)) },
		"a flipped byte": func(t *testing.T, path string) {
			b, err := os.ReadFile(path)
			check(t, err)
			b[len(b)/2] ^= 1
			check(t, os.WriteFile(path, b, 0o600))
		},
		"a count that lies": func(t *testing.T, path string) {
			b, err := os.ReadFile(path)
			check(t, err)
			copy(b[7+len("v1.12.0"):], []byte{255, 255, 255, 127})
			check(t, os.WriteFile(path, b, 0o600))
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			h := hostWith(t, wasmrt.Config{CacheDir: dir})
			load(t, h, code)
			check(t, h.Close(t.Context()))
			check(t, filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
				if err == nil && !e.IsDir() {
					damage(t, path)
				}
				return err
			}))
			h = hostWith(t, wasmrt.Config{CacheDir: dir})
			if exit := wait(t, start(t, h, load(t, h, code), wasmrt.Program{})); exit.Code != 5 {
				t.Errorf("got %+v, want code 5", exit)
			}
			if got := h.Stats(); got.CacheHits != 0 || got.Compiled != 1 {
				t.Errorf("got %+v, want a compilation and no hit", got)
			}
			check(t, h.Close(t.Context()))
			h = hostWith(t, wasmrt.Config{CacheDir: dir})
			load(t, h, code)
			if got := h.Stats(); got.CacheHits != 1 {
				t.Errorf("afterwards: got %d hits, want 1", got.CacheHits)
			}
		})
	}
}

func TestCacheEntriesThatNobodyLoadsAreRemoved(t *testing.T) {
	dir := t.TempDir()
	h := hostWith(t, wasmrt.Config{CacheDir: dir})
	load(t, h, program(1))
	load(t, h, program(2))
	seals, err := filepath.Glob(filepath.Join(dir, "*", "seal"))
	check(t, err)
	if len(seals) != 2 {
		t.Fatalf("got %d entries, want 2", len(seals))
	}
	old := time.Now().Add(-60 * 24 * time.Hour)
	check(t, os.Chtimes(seals[0], old, old))
	hostWith(t, wasmrt.Config{CacheDir: dir})
	if left, _ := filepath.Glob(filepath.Join(dir, "*")); len(left) != 1 || left[0] != filepath.Dir(seals[1]) {
		t.Errorf("got %v, want only %s", left, filepath.Dir(seals[1]))
	}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestADiskThatCannotBeWrittenCostsOnlyTheCache(t *testing.T) {
	dir := t.TempDir()
	h := hostWith(t, wasmrt.Config{CacheDir: dir})
	check(t, os.RemoveAll(dir))
	check(t, os.WriteFile(dir, []byte("in the way"), 0o600))
	if exit := wait(t, start(t, h, load(t, h, program(1)), wasmrt.Program{})); exit.Reason != wasmrt.Completed {
		t.Errorf("got %+v, want Completed", exit)
	}
}

func TestConfigIsChecked(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	write(t, file, "")
	for name, cfg := range map[string]wasmrt.Config{
		"negative workers":     {CompileWorkers: -1},
		"negative size":        {MaxModuleBytes: -1},
		"a file for a cache":   {CacheDir: file},
		"no place for a cache": {CacheDir: filepath.Join(file, "x")},
	} {
		if _, err := wasmrt.New(t.Context(), cfg); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
}

func TestLoadRefusesWhatCannotRun(t *testing.T) {
	h := hostWith(t, wasmrt.Config{MaxModuleBytes: 1000})
	for name, code := range map[string][]byte{
		"empty":            nil,
		"too large":        make([]byte, 1001),
		"a missing import": importing("env", "foo", "", ""),
		"invalid code":     program(1, wasmtest.I32Add),
		"an unknown call":  program(1, wasmtest.Call(77)),
	} {
		_, err := h.Load(t.Context(), code)
		_, unsupported := errors.AsType[*wasmrt.UnsupportedError](err)
		_, malformed := errors.AsType[*wasmrt.MalformedError](err)
		if !unsupported && !malformed {
			t.Errorf("%s: got %v, want a typed error", name, err)
		}
	}
	if got := h.Stats(); got.Modules != 0 || got.Refused != 5 {
		t.Errorf("got %+v, want no modules and five refused", got)
	}
	var m wasmtest.Module
	m.Memory(1, 1)
	m.Export("_initialize", wasmtest.Func, m.Func("", ""))
	_, err := h.Start(t.Context(), load(t, h, m.Bytes()), wasmrt.Program{Name: "lib"})
	if _, ok := errors.AsType[*wasmrt.UnsupportedError](err); !ok {
		t.Errorf("a reactor: got %v, want an *UnsupportedError", err)
	}
}
