package wasi

import (
	"context"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/sys"

	"copepod/wasmrt/internal/wasmtest"
)

// guest calls the host functions as a module does: through a module that
// exports one wrapper for each of them.
type guest struct {
	t      testing.TB
	ctx    context.Context
	system *System
	mod    api.Module
	next   uint32 // of the memory that put hands out
}

const guestPages = 64

// newGuest starts a guest that knows preview1 and what shapes names: "name" or
// "name/types" of the dialects.
func newGuest(t testing.TB, cfg Config, shapes ...string) *guest {
	t.Helper()
	system, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(system.Close)
	imports, code := wrappers(shapes)
	ctx := system.Context(context.Background())
	rt := wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfigInterpreter())
	t.Cleanup(func() { rt.Close(ctx) })
	if err := Instantiate(ctx, rt, imports); err != nil {
		t.Fatal(err)
	}
	mod, err := rt.InstantiateWithConfig(ctx, code, wazero.NewModuleConfig().WithStartFunctions())
	if err != nil {
		t.Fatal(err)
	}
	return &guest{t: t, ctx: ctx, system: system, mod: mod, next: 1024}
}

func wrappers(shapes []string) ([]Import, []byte) {
	wanted := map[string]string{} // name to types
	for name, f := range functions {
		wanted[name] = f.params
	}
	for _, shape := range shapes {
		name, params, fixed := strings.Cut(shape, "/")
		if !fixed {
			params = dialects[name][0].params
		}
		wanted[name] = params
	}
	var m wasmtest.Module
	var imports []Import
	index := map[string]uint32{}
	for name, params := range wanted {
		results := "i"
		if functions[name].void {
			results = ""
		}
		index[name] = m.Import(ModuleName, name, params, results)
		i := Import{Module: ModuleName, Name: name, Params: function{params: params}.types()}
		if results != "" {
			i.Results = []api.ValueType{api.ValueTypeI32}
		}
		imports = append(imports, i)
	}
	m.Memory(guestPages, guestPages)
	for name, params := range wanted {
		var code [][]byte
		for i := range params {
			code = append(code, wasmtest.LocalGet(uint32(i)))
		}
		code = append(code, wasmtest.Call(index[name]))
		results := "i"
		if functions[name].void {
			results = ""
		}
		m.Export(name, wasmtest.Func, m.Func(params, results, code...))
	}
	return imports, m.Bytes()
}

// call is one host call, with integers for arguments.
func (g *guest) call(name string, args ...uint64) errno {
	g.t.Helper()
	result, err := g.mod.ExportedFunction(name).Call(g.ctx, args...)
	if err != nil {
		g.t.Fatalf("%s: %v", name, err)
	}
	return errno(result[0])
}

// exits is a call that must end the guest; it returns the exit code.
func (g *guest) exits(name string, args ...uint64) uint32 {
	g.t.Helper()
	_, err := g.mod.ExportedFunction(name).Call(g.ctx, args...)
	exit, ok := errors.AsType[*sys.ExitError](err)
	if !ok {
		g.t.Fatalf("%s: got %v, want an exit", name, err)
	}
	return exit.ExitCode()
}

// want fails the test unless the call answers e.
func (g *guest) want(e errno, name string, args ...uint64) {
	g.t.Helper()
	if got := g.call(name, args...); got != e {
		g.t.Errorf("%s%v: got %v, want %v", name, args, got, e)
	}
}

func (g *guest) ok(name string, args ...uint64) { g.t.Helper(); g.want(success, name, args...) }

// room is n bytes of fresh guest memory.
func (g *guest) room(n uint32) uint64 {
	p := (g.next + 15) &^ 15
	if g.next = p + n; g.next > guestPages<<16 {
		g.t.Fatal("the guest is out of memory")
	}
	return uint64(p)
}

func (g *guest) put(b []byte) uint64 {
	p := g.room(uint32(len(b)))
	g.mod.Memory().Write(uint32(p), b)
	return p
}

func (g *guest) u32(p uint64) uint64 {
	v, _ := g.mod.Memory().ReadUint32Le(uint32(p))
	return uint64(v)
}

func (g *guest) u64(p uint64) uint64 {
	v, _ := g.mod.Memory().ReadUint64Le(uint32(p))
	return v
}

func (g *guest) bytes(p, n uint64) string {
	b, _ := g.mod.Memory().Read(uint32(p), uint32(n))
	return string(b)
}

// text puts a string and returns its two arguments.
func (g *guest) text(s string) (ptr, n uint64) { return g.put([]byte(s)), uint64(len(s)) }

// iovec puts an array of buffers.
func (g *guest) iovec(bufs ...[2]uint64) (ptr, n uint64) {
	var b []byte
	for _, v := range bufs {
		b = binary.LittleEndian.AppendUint32(b, uint32(v[0]))
		b = binary.LittleEndian.AppendUint32(b, uint32(v[1]))
	}
	return g.put(b), uint64(len(bufs))
}

// open is path_open with all that most tests leave alone.
func (g *guest) open(dir uint64, name string, oflags uint32, r rights, flags fdflags) (uint64, errno) {
	g.t.Helper()
	p, n := g.text(name)
	out := g.room(4)
	e := g.call("path_open", dir, 0, p, n, uint64(oflags), uint64(r), uint64(r), uint64(flags), out)
	return g.u32(out), e
}

func (g *guest) mustOpen(dir uint64, name string, oflags uint32, r rights, flags fdflags) uint64 {
	g.t.Helper()
	fd, e := g.open(dir, name, oflags, r, flags)
	if e != success {
		g.t.Fatalf("open %q: %v", name, e)
	}
	return fd
}

// write writes text to fd, and returns how much went.
func (g *guest) write(fd uint64, s string) (uint64, errno) {
	g.t.Helper()
	p, n := g.text(s)
	iov, one := g.iovec([2]uint64{p, n})
	out := g.room(4)
	e := g.call("fd_write", fd, iov, one, out)
	return g.u32(out), e
}

// read reads up to n bytes of fd.
func (g *guest) read(fd, n uint64) (string, errno) {
	g.t.Helper()
	buf := g.room(uint32(n))
	iov, one := g.iovec([2]uint64{buf, n})
	out := g.room(4)
	e := g.call("fd_read", fd, iov, one, out)
	return g.bytes(buf, g.u32(out)), e
}

// onPath calls a function that takes a directory and a path last.
func (g *guest) onPath(name string, dir uint64, path string) errno {
	g.t.Helper()
	p, n := g.text(path)
	return g.call(name, dir, p, n)
}

func (g *guest) wantPath(e errno, name string, dir uint64, path string) {
	g.t.Helper()
	if got := g.onPath(name, dir, path); got != e {
		g.t.Errorf("%s(%q): got %v, want %v", name, path, got, e)
	}
}

// scratch is a guest with an empty directory mounted at /, as descriptor 3.
func scratch(t testing.TB) (*guest, string) {
	t.Helper()
	dir := t.TempDir()
	return newGuest(t, Config{Mounts: []Mount{{Guest: "/", Host: dir}}}), dir
}

const rootFD = 3

func fill(t testing.TB, dir string, files ...string) {
	t.Helper()
	for _, name := range files {
		path := filepath.Join(dir, name)
		if strings.HasSuffix(name, "/") {
			if err := os.MkdirAll(path, 0o755); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if err := os.WriteFile(path, []byte(name), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// soon fails the test if done is not closed within a time that only a bug
// needs.
func soon(t testing.TB, what string, done <-chan struct{}) {
	t.Helper()
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		t.Fatalf("%s: still waiting", what)
	}
}
