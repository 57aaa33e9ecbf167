package serve_test

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"copepod/wasmrt"
	"copepod/wasmrt/serve"
)

// guests are built once for all tests of the package.
var guests struct {
	sync.Mutex
	dir   string
	built map[string][]byte
}

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "guests")
	if err != nil {
		panic(err)
	}
	guests.dir, guests.built = dir, map[string][]byte{}
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

func guest(t testing.TB, name string, build func(out string) *exec.Cmd) []byte {
	t.Helper()
	guests.Lock()
	defer guests.Unlock()
	if b, ok := guests.built[name]; ok {
		return b
	}
	out := filepath.Join(guests.dir, name+".wasm")
	if text, err := build(out).CombinedOutput(); err != nil {
		t.Fatalf("build guest %s: %v\n%s", name, err, text)
	}
	b, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	guests.built[name] = b
	return b
}

func goGuest(t testing.TB, name string, flags ...string) []byte {
	t.Helper()
	return guest(t, "go-"+name, func(out string) *exec.Cmd {
		cmd := exec.Command("go", append(append([]string{"build"}, flags...), "-o", out, "./"+filepath.Join("testdata", name))...)
		cmd.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm", "GOFLAGS=")
		return cmd
	})
}

func goHandler(t testing.TB) []byte { return goGuest(t, "handler", "-buildmode=c-shared") }

// cGuest builds testdata/c/name.c, or skips the test where the toolchain is not
// installed.
func cGuest(t testing.TB, name string, flags ...string) []byte {
	t.Helper()
	try := filepath.Join(guests.dir, "try.c")
	if err := os.WriteFile(try, []byte("#include <stdio.h>\nint main(){return 0;}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if exec.Command("clang", "--target=wasm32-wasi", "-O2", "-o", try+".wasm", try).Run() != nil {
		t.Skip("clang with wasi-libc is not installed")
	}
	return guest(t, "c-"+name, func(out string) *exec.Cmd {
		return exec.Command("clang", append(append([]string{"--target=wasm32-wasi", "-O2"}, flags...), "-o", out, filepath.Join("testdata", "c", name+".c"))...)
	})
}

func cHandler(t testing.TB) []byte { return cGuest(t, "handler", "-mexec-model=reactor") }

// compiler builds one that does not look for races in wazero: that would take a
// minute for a guest in Go. A test has wazero's version from nowhere, and calls it
// "dev".
func compiler(out string) *exec.Cmd {
	return exec.Command("go", "build", "-ldflags", "-X github.com/tetratelabs/wazero/internal/version.version=dev", "-o", out, "../internal/wasmtest/compiler")
}

func newHost(t testing.TB) *wasmrt.Host {
	t.Helper()
	guest(t, "compiler", compiler)
	h, err := wasmrt.New(t.Context(), wasmrt.Config{
		CacheDir: filepath.Join(guests.dir, "cache"),
		Compiler: []string{filepath.Join(guests.dir, "compiler.wasm")},
	})
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

// subject is a server under test, with what its guests have said.
type subject struct {
	*serve.Server
	t   testing.TB
	log *buffer
	web *httptest.Server
}

// buffer is a writer that may be read at any time.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func newServer(t testing.TB, code []byte, mode serve.Mode, change func(*serve.Config)) *subject {
	t.Helper()
	s, err := tryServer(t, code, mode, change)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func tryServer(t testing.TB, code []byte, mode serve.Mode, change func(*serve.Config)) (*subject, error) {
	t.Helper()
	h := newHost(t)
	m, err := h.Load(t.Context(), code)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	log := &buffer{}
	cfg := serve.Config{Host: h, Module: m, Mode: mode, Program: wasmrt.Program{
		Name: "guest", Args: []string{"guest"}, Env: []string{"ORIGIN=here"}, Stdout: log, Stderr: log,
	}}
	if change != nil {
		change(&cfg)
	}
	s, err := serve.New(t.Context(), cfg)
	if err != nil {
		return nil, err
	}
	web := httptest.NewServer(s)
	t.Cleanup(func() { s.Close(); web.Close() })
	return &subject{Server: s, t: t, log: log, web: web}, nil
}

// answer is a response that was read to its end.
type answer struct {
	status int
	header http.Header
	body   string
}

func (s *subject) get(path string) answer { s.t.Helper(); return s.do(http.MethodGet, path, nil) }

func (s *subject) do(method, path string, body io.Reader) answer {
	s.t.Helper()
	r, err := http.NewRequestWithContext(s.t.Context(), method, s.web.URL+path, body)
	if err != nil {
		s.t.Fatal(err)
	}
	resp, err := s.web.Client().Do(r)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatalf("%s %s: %v after %q", method, path, err, b)
	}
	return answer{resp.StatusCode, resp.Header, string(b)}
}

func (s *subject) expect(path string, status int, body string) {
	s.t.Helper()
	if a := s.get(path); a.status != status || !strings.Contains(a.body, body) {
		s.t.Errorf("%s: got %d %q, want %d %q; log %q", path, a.status, a.body, status, body, s.log)
	}
}

// eventually waits for what another goroutine brings about.
func eventually(t testing.TB, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !is(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within 30 s: %s", what)
		}
	}
}
