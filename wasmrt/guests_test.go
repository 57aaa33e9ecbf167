package wasmrt_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"copepod/wasmrt"
	"copepod/wasmrt/compile"
)

// guests are built once for all tests of the package.
var guests struct {
	sync.Mutex
	dir   string
	built map[string]bool
}

// TestMain is also the compiler that tests start as a child process.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == compilerVerb {
		os.Exit(compile.Main(os.Args[2:], os.Stdin, os.Stderr))
	}
	dir, err := os.MkdirTemp("", "guests")
	if err != nil {
		panic(err)
	}
	guests.dir, guests.built = dir, map[string]bool{}
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

const compilerVerb = "compile-for-a-test"

// goGuest builds testdata/name with the local Go toolchain.
func goGuest(t testing.TB, name string) []byte {
	t.Helper()
	return guest(t, "go "+name, func(out string) *exec.Cmd {
		cmd := exec.Command("go", "build", "-o", out, "./"+filepath.Join("testdata", name))
		cmd.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm", "GOFLAGS=")
		return cmd
	})
}

func guest(t testing.TB, key string, build func(out string) *exec.Cmd) []byte {
	t.Helper()
	b, err := os.ReadFile(built(t, filepath.Base(key)+".wasm", build))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// built is the path of a file that is built once.
func built(t testing.TB, name string, build func(out string) *exec.Cmd) string {
	t.Helper()
	guests.Lock()
	defer guests.Unlock()
	out := filepath.Join(guests.dir, name)
	if guests.built[name] {
		return out
	}
	if text, err := build(out).CombinedOutput(); err != nil {
		t.Fatalf("build %s: %v\n%s", name, err, text)
	}
	guests.built[name] = true
	return out
}

func newHost(t testing.TB) *wasmrt.Host {
	t.Helper()
	h, err := wasmrt.New(t.Context(), wasmrt.Config{CacheDir: filepath.Join(guests.dir, "cache"), Compiler: compiler(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return h
}

func load(t testing.TB, h *wasmrt.Host, code []byte) *wasmrt.Module {
	t.Helper()
	m, err := h.Load(t.Context(), code)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return m
}

func start(t testing.TB, h *wasmrt.Host, m *wasmrt.Module, p wasmrt.Program) *wasmrt.Instance {
	t.Helper()
	i, err := h.Start(t.Context(), m, p)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { i.Kill(); <-i.Done() })
	return i
}

func wait(t testing.TB, i *wasmrt.Instance) wasmrt.Exit {
	t.Helper()
	exit, err := i.Wait(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return exit
}

// cGuest builds testdata/c/name.c, or skips the test where the toolchain is not
// installed.
func cGuest(t testing.TB, name string) []byte {
	t.Helper()
	requireTarget(t, "clang with wasi-libc", "#include <stdio.h>\nint main(){return 0;}\n", "c", func(in, out string) *exec.Cmd {
		return exec.Command("clang", "--target=wasm32-wasi", "-O2", "-o", out, in)
	})
	return guest(t, "c "+name, func(out string) *exec.Cmd {
		return exec.Command("clang", "--target=wasm32-wasi", "-O2", "-o", out, filepath.Join("testdata", "c", name+".c"))
	})
}

// rustGuest builds testdata/rust/name.rs, with a rustc that has a WASI target.
func rustGuest(t testing.TB, name string) []byte {
	t.Helper()
	for _, rustc := range []string{"rustc", "/usr/bin/rustc"} {
		for _, target := range []string{"wasm32-wasip1", "wasm32-wasi"} {
			build := func(in, out string) *exec.Cmd {
				return exec.Command(rustc, "--target", target, "-O", "-o", out, in)
			}
			if !compiles("fn main() {}\n", "rs", build) {
				continue
			}
			return guest(t, "rust "+name, func(out string) *exec.Cmd {
				return build(filepath.Join("testdata", "rust", name+".rs"), out)
			})
		}
	}
	t.Skip("no rustc with a WASI target is installed")
	return nil
}

func requireTarget(t testing.TB, what, source, ext string, build func(in, out string) *exec.Cmd) {
	t.Helper()
	if !compiles(source, ext, build) {
		t.Skip(what + " is not installed")
	}
}

func compiles(source, ext string, build func(in, out string) *exec.Cmd) bool {
	in := filepath.Join(guests.dir, "try."+ext)
	if err := os.WriteFile(in, []byte(source), 0o600); err != nil {
		return false
	}
	return build(in, filepath.Join(guests.dir, "try.wasm")).Run() == nil
}
