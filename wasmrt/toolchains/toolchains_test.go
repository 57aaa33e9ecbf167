// Package toolchains holds what guests can do with the network to a test for
// each toolchain: a program in each language listens, connects, sends datagrams
// and resolves names, waiting in the call and waiting in poll_oneoff.
// docs/toolchains.md is the table; a row that is missing here is not in it.
package toolchains

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"copepod/wasmrt"
)

// toolchain builds a guest from testdata, or says what it lacks.
type toolchain struct {
	build func(out string) *exec.Cmd
	needs string // a program that must be there, besides Go
	probe []string
	modes []string
	waits int // host calls that an idle server may make while it is watched
}

var both = []string{"block", "nonblock"}

// Each toolchain is a test of its own: some take seconds to build a guest.

func TestGoGuestsUseTheNetwork(t *testing.T) {
	// Go's runtime polls, whatever the program does.
	toolchain{modes: []string{"runtime"}, waits: 64, build: func(out string) *exec.Cmd {
		cmd := exec.Command("go", "build", "-o", out, "./testdata/go")
		cmd.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm", "GOFLAGS=")
		return cmd
	}}.test(t)
}

func TestCGuestsUseTheNetworkByWasmEdgeVersion1(t *testing.T) { compileC().test(t) }

func TestCGuestsUseTheNetworkByWasmEdgeVersion2(t *testing.T) { compileC("-DV2").test(t) }

func compileC(flags ...string) toolchain {
	return toolchain{modes: both, needs: "clang", probe: c(), build: func(out string) *exec.Cmd {
		return exec.Command("clang", append([]string{"--target=wasm32-wasi", "-o", out, "testdata/c/net.c"}, flags...)...)
	}}
}

func TestRustGuestsUseTheNetwork(t *testing.T) {
	toolchain{modes: both, needs: rustc(), probe: rust(), build: func(out string) *exec.Cmd {
		return exec.Command(rustc(), "--target", "wasm32-wasi", "-o", out, "testdata/rust/net.rs")
	}}.test(t)
}

func TestAssemblyScriptGuestsUseTheNetwork(t *testing.T) {
	toolchain{modes: both, needs: "asc", build: func(out string) *exec.Cmd {
		return exec.Command("asc", "testdata/as/net.ts", "--runtime", "stub", "--exportStart", "_start", "--use", "abort=", "-o", out)
	}}.test(t)
}

// What a toolchain needs beyond the program itself is probed with a file of
// that extension and content.
func c() []string    { return []string{".c", "#include <stdio.h>\nint main() { return 0; }\n"} }
func rust() []string { return []string{".rs", "fn main() {}\n"} }

// rustc is the one of the system, which is where distributions put the target.
func rustc() string {
	if _, err := os.Stat("/usr/bin/rustc"); err == nil {
		return "/usr/bin/rustc"
	}
	return "rustc"
}

func (tc toolchain) compile(t *testing.T) []byte {
	t.Helper()
	if tc.needs != "" {
		if _, err := exec.LookPath(tc.needs); err != nil {
			t.Skipf("%s is not installed", tc.needs)
		}
	}
	dir := t.TempDir()
	out := filepath.Join(dir, "guest.wasm")
	if text, err := tc.build(out).CombinedOutput(); err != nil {
		tc.skipWithoutTarget(t, dir)
		t.Fatalf("build: %v\n%s", err, text)
	}
	code, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	return code
}

// skipWithoutTarget skips where the compiler cannot build anything for WASI.
func (tc toolchain) skipWithoutTarget(t *testing.T, dir string) {
	t.Helper()
	if tc.probe == nil {
		return
	}
	source := filepath.Join(dir, "probe"+tc.probe[0])
	if err := os.WriteFile(source, []byte(tc.probe[1]), 0o600); err != nil {
		t.Fatal(err)
	}
	if exec.Command(tc.needs, "--target=wasm32-wasi", "-o", filepath.Join(dir, "probe.wasm"), source).Run() != nil {
		t.Skipf("%s has no WASI target here", tc.needs)
	}
}

// network is this machine's loopback, with one name.
type network struct{}

func (network) Listen(ctx context.Context, network, addr string) (net.Listener, error) {
	return (&net.ListenConfig{}).Listen(ctx, network, addr)
}

func (network) ListenPacket(ctx context.Context, network, addr string) (net.PacketConn, error) {
	return (&net.ListenConfig{}).ListenPacket(ctx, network, addr)
}

func (network) Dial(ctx context.Context, network, addr string) (net.Conn, error) {
	return (&net.Dialer{}).DialContext(ctx, network, addr)
}

func (network) Resolve(_ context.Context, host string) ([]netip.Addr, error) {
	if host == "db.test" {
		return []netip.Addr{netip.MustParseAddr("fd00::1"), netip.MustParseAddr("10.1.2.3")}, nil
	}
	return nil, errors.New("no such host")
}

// bench runs one guest.
type bench struct {
	host   *wasmrt.Host
	module *wasmrt.Module
}

func newBench(t *testing.T, code []byte) *bench {
	t.Helper()
	host, err := wasmrt.New(t.Context(), wasmrt.Config{Compiler: compiler(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = host.Close(context.Background()) })
	module, err := host.Load(t.Context(), code)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = module.Close() })
	return &bench{host, module}
}

// calls counts the lines of a trace.
type calls struct{ n atomic.Int64 }

func (c *calls) Write(p []byte) (int, error) {
	c.n.Add(1)
	return len(p), nil
}

type run struct {
	*wasmrt.Instance
	out   *bufio.Reader
	errs  *bytes.Buffer
	calls *calls
}

func (b *bench) start(t *testing.T, listeners []wasmrt.Listener, args ...string) *run {
	t.Helper()
	r, w := io.Pipe()
	out := &run{out: bufio.NewReader(r), errs: &bytes.Buffer{}, calls: &calls{}}
	var err error
	out.Instance, err = b.host.Start(t.Context(), b.module, wasmrt.Program{
		Name: "guest", Args: append([]string{"guest"}, args...),
		Stdout: w, Stderr: out.errs, Trace: out.calls,
		Listeners: listeners, Network: network{},
	})
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		<-out.Done()
		_ = w.Close()
	}()
	t.Cleanup(func() {
		_ = r.Close()
		out.Kill()
		<-ended
	})
	return out
}

func (r *run) line(t *testing.T) string {
	t.Helper()
	line, err := r.out.ReadString('\n')
	if err != nil {
		exit, _ := r.Wait(t.Context())
		t.Fatalf("the guest said nothing: %v; %+v; %s", err, exit, r.errs)
	}
	return strings.TrimSuffix(line, "\n")
}

func (r *run) ends(t *testing.T) {
	t.Helper()
	exit, err := r.Wait(t.Context())
	if err != nil || exit.Reason != wasmrt.Completed {
		t.Fatalf("got exit %+v, %v; %s", exit, err, r.errs)
	}
}

// rests fails if the guest does not rest: one that spins makes thousands of
// calls while it is watched, or none and never gives the processor back.
func (r *run) rests(t *testing.T, most int) {
	t.Helper()
	before := r.calls.n.Load()
	time.Sleep(100 * time.Millisecond) // how long it is watched; nothing waits for it
	if n := r.calls.n.Load() - before; n > int64(most) {
		t.Errorf("it made %d calls to the host while it had nothing to do", n)
	}
}

// echoes talks to the guest's server.
func echoes(t *testing.T, addr string) {
	t.Helper()
	conn, err := net.DialTimeout("tcp", addr, 30*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(30 * time.Second))
	for _, part := range []string{"one", "two"} { // in two parts, so that it waits between them
		if _, err := io.WriteString(conn, part); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, len(part))
		if _, err := io.ReadFull(conn, got); err != nil || string(got) != part {
			t.Fatalf("got %q, %v, want %q", got, err, part)
		}
	}
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if rest, err := io.ReadAll(conn); err != nil || len(rest) > 0 {
		t.Fatalf("got %q, %v after the end, want nothing", rest, err)
	}
}

func (tc toolchain) test(t *testing.T) {
	b := newBench(t, tc.compile(t))
	for _, mode := range tc.modes {
		t.Run(mode, func(t *testing.T) {
			t.Run("serves on the listener that it is given", func(t *testing.T) { tc.inherits(t, b, mode) })
			t.Run("listens", func(t *testing.T) { tc.listens(t, b, mode) })
			t.Run("connects", func(t *testing.T) { tc.connects(t, b, mode) })
			t.Run("sends datagrams", func(t *testing.T) { tc.datagrams(t, b, mode) })
			t.Run("resolves", func(t *testing.T) {
				r := b.start(t, nil, "dns", mode, "db.test")
				if got := r.line(t); got != "10.1.2.3:80" {
					t.Errorf("got %q, want 10.1.2.3:80", got)
				}
				r.ends(t)
			})
		})
	}
}

func (tc toolchain) inherits(t *testing.T, b *bench, mode string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Skip("no loopback here")
	}
	r := b.start(t, []wasmrt.Listener{{Listener: l}}, "inherit", mode)
	r.rests(t, tc.waits+32) // it may still be starting
	echoes(t, l.Addr().String())
	r.ends(t)
}

func (tc toolchain) listens(t *testing.T, b *bench, mode string) {
	r := b.start(t, nil, "listen", mode)
	port := r.line(t)
	r.rests(t, tc.waits+8) // it has yet to call accept
	echoes(t, "127.0.0.1:"+port)
	r.ends(t)
}

func (tc toolchain) connects(t *testing.T, b *bench, mode string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Skip("no loopback here")
	}
	defer func() { _ = l.Close() }()
	r := b.start(t, nil, "connect", mode, fmt.Sprint(l.Addr().(*net.TCPAddr).Port))
	_ = l.(*net.TCPListener).SetDeadline(time.Now().Add(30 * time.Second))
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(30 * time.Second))
	got := make([]byte, 4)
	if _, err := io.ReadFull(conn, got); err != nil || string(got) != "ping" {
		t.Fatalf("got %q, %v, want ping", got, err)
	}
	r.rests(t, tc.waits+8)
	if _, err := io.WriteString(conn, "pong"); err != nil {
		t.Fatal(err)
	}
	if got := r.line(t); got != "pong" {
		t.Errorf("got %q, want pong", got)
	}
	r.ends(t)
}

func (tc toolchain) datagrams(t *testing.T, b *bench, mode string) {
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Skip("no loopback here")
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(30 * time.Second))
	r := b.start(t, nil, "udp", mode, fmt.Sprint(conn.LocalAddr().(*net.UDPAddr).Port))
	buf := make([]byte, 16)
	n, from, err := conn.ReadFrom(buf)
	if err != nil || string(buf[:n]) != "ping" {
		t.Fatalf("got %q, %v, want ping; %s", buf[:n], err, r.errs)
	}
	r.rests(t, tc.waits+8)
	if _, err := conn.WriteTo([]byte("pong"), from); err != nil {
		t.Fatal(err)
	}
	if got := r.line(t); got != "pong from there" {
		t.Errorf("got %q, want pong from there", got)
	}
	r.ends(t)
}
