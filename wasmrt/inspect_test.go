package wasmrt_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"copepod/wasmrt"
	"copepod/wasmrt/internal/wasmtest"
)

// importing is a module that imports one function.
func importing(module, name, params, results string) []byte {
	var m wasmtest.Module
	m.Import(module, name, params, results)
	m.Memory(1, 1)
	m.Export("_start", wasmtest.Func, m.Func("", ""))
	return m.Bytes()
}

func TestInspectSaysWhatAModuleIs(t *testing.T) {
	var m wasmtest.Module
	m.Import("wasi_snapshot_preview1", "fd_write", "iiii", "i")
	m.Memory(2, 10)
	m.Export("_initialize", wasmtest.Func, m.Func("", ""))
	m.Start(1)
	info, err := wasmrt.Inspect(m.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	if info.Command() || !info.Reactor() || !info.Start {
		t.Errorf("got command %v, reactor %v, start %v; want a reactor with a start function", info.Command(), info.Reactor(), info.Start)
	}
	if info.MinMemory != 2<<16 || info.MaxMemory != 10<<16 {
		t.Errorf("memory: got %d to %d", info.MinMemory, info.MaxMemory)
	}
	if len(info.Imports) != 1 || info.Imports[0].Name != "fd_write" || len(info.Imports[0].Params) != 4 {
		t.Errorf("imports: got %+v", info.Imports)
	}
	if info, err = wasmrt.Inspect(goGuest(t, "echo")); err != nil || !info.Command() {
		t.Errorf("a Go program: got command %v, %v", info.Command(), err)
	}
}

func TestModulesThatCannotRunAreToldWhy(t *testing.T) {
	wat := []byte("(module\n)")
	component := []byte("\x00asm\x0d\x00\x01\x00")
	noMemory := func() []byte {
		var m wasmtest.Module
		m.Import("wasi_snapshot_preview1", "sched_yield", "", "i")
		m.Export("_start", wasmtest.Func, m.Func("", ""))
		return m.Bytes()
	}
	sharedMemory := slices.Concat([]byte("\x00asm\x01\x00\x00\x00"), []byte{5, 4, 1, 3, 1, 2})
	memory64 := slices.Concat([]byte("\x00asm\x01\x00\x00\x00"), []byte{5, 3, 1, 4, 1})
	for _, row := range []struct {
		name string
		code []byte
		want string
	}{
		{"unknown import", importing("env", "foo", "i", "i"), "imports env.foo, which no host provides; a symbol was left undefined"},
		{"browser Go", importing("gojs", "runtime.wasmExit", "i", ""), "build with GOOS=wasip1"},
		{"wasm-bindgen", importing("__wbindgen_placeholder__", "x", "", ""), "build for target wasm32-wasip1"},
		{"threads", importing("wasi", "thread-spawn", "i", "i"), "threads are not supported"},
		{"preview0", importing("wasi_unstable", "fd_write", "iiii", "i"), "rebuild with a current toolchain"},
		{"a name that is not for a terminal", importing("env", "a\n\x1b[31m"+strings.Repeat("x", 1000), "", ""), "imports env.a\uFFFD\uFFFD[31mxxx"},
		{"our own meter", importing("copepod_meter", "tick", "", ""), "imports copepod_meter.tick, which no host provides"},
		{"other types", importing("wasi_snapshot_preview1", "fd_write", "iiI", "i"), "the name is WASI's but the types are not"},
		{"component", component, "component (WASI 0.2): compile to wasip1"},
		{"text", wat, "WebAssembly text: assemble it first"},
		{"no memory", noMemory(), `no memory exported as "memory"`},
		{"shared memory", sharedMemory, "shared memory: threads are not supported"},
		{"64-bit memory", memory64, "64-bit memory: build for wasm32"},
		{"version 2", []byte("\x00asm\x02\x00\x00\x00"), "a version of WebAssembly other than 1"},
	} {
		t.Run(row.name, func(t *testing.T) {
			_, err := wasmrt.Inspect(row.code)
			if _, ok := errors.AsType[*wasmrt.UnsupportedError](err); !ok {
				t.Fatalf("got %v, want an *UnsupportedError", err)
			}
			if !strings.Contains(err.Error(), row.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("got %q, want one line with %q", err, row.want)
			}
		})
	}
}

func TestManyMissingImportsAreCountedNotListed(t *testing.T) {
	var m wasmtest.Module
	for _, name := range strings.Fields("a b c d e f g") {
		m.Import("env", name, "", "")
	}
	_, err := wasmrt.Inspect(m.Bytes())
	if got, want := err.Error(), "imports env.a, env.b, env.c, env.d, env.e and 2 more, which no host provides"; !strings.HasPrefix(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestBrokenModulesAreToldWhere(t *testing.T) {
	good := importing("wasi_snapshot_preview1", "sched_yield", "", "i")
	head := "\x00asm\x01\x00\x00\x00"
	for _, row := range []struct {
		name, code, want string
	}{
		{"empty", "", "it is empty at byte 0"},
		{"not wasm", "#!/bin/sh\necho", `it does not begin with "\0asm" at byte 0`},
		{"only the magic", "\x00asm", "unexpected end at byte 4"},
		{"cut short", string(good[:len(good)-3]), "announced, but only"},
		{"an unknown section", head + "\x20\x00", "section 32 does not exist"},
		{"sections out of order", head + "\x03\x01\x00\x01\x01\x00", "section 1 is out of order"},
		{"a count that lies", head + "\x01\x05\xff\xff\xff\xff\x0f", "announced, but only"},
		{"a number that does not end", head + "\x01\x06\xff\xff\xff\xff\xff\xff", "does not fit 32 bits"},
		{"a name that is not text", head + "\x02\x08\x01\x01\xff\x01a\x00\x00\x00", "a name is not UTF-8"},
		{"an import without a type", head + "\x02\x07\x01\x01a\x01b\x00\x09", "has type 9 of 0"},
		{"a memory past 4 GiB", head + "\x05\x05\x01\x00\x81\x80\x04", "a memory of 65537"},
		{"locals that lie", head + "\x0a\x0a\x01\x08\x01\xff\xff\xff\xff\x0f\x7f\x0b", "a function with 4294967295 locals"},
	} {
		t.Run(row.name, func(t *testing.T) {
			_, err := wasmrt.Inspect([]byte(row.code))
			if _, ok := errors.AsType[*wasmrt.MalformedError](err); !ok {
				t.Fatalf("got %v, want a *MalformedError", err)
			}
			if !strings.Contains(err.Error(), row.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("got %q, want one line with %q", err, row.want)
			}
		})
	}
}

// Whatever the bytes, Inspect answers, and what it takes is no news to the
// compiler's own checks of size.
func FuzzInspect(f *testing.F) {
	f.Add(importing("wasi_snapshot_preview1", "fd_write", "iiii", "i"))
	f.Add(importing("env", "foo", "iIfF", "i"))
	f.Add(program(1, yieldForever...))
	f.Add([]byte("\x00asm\x0d\x00\x01\x00"))
	seeds, _ := filepath.Glob(filepath.Join("testdata", "*.wasm"))
	for _, name := range seeds {
		if b, err := os.ReadFile(name); err == nil {
			f.Add(b)
		}
	}
	f.Fuzz(func(t *testing.T, code []byte) {
		info, err := wasmrt.Inspect(code)
		if err != nil && strings.Contains(err.Error(), "\n") {
			t.Errorf("more than one line: %q", err)
		}
		if len(info.Imports)+len(info.Exports) > len(code) {
			t.Errorf("%d imports and exports in %d bytes", len(info.Imports), len(code))
		}
	})
}
