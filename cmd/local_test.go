package cmd

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"

	"copepod/cmd/build"
)

// localBench runs modules here, as a user does, with one cache for all runs.
type localBench struct {
	defaults      []byte
	folder, guest string // the Go guest, as source and as module
	data          string
}

func newLocalBench(t *testing.T) *localBench {
	t.Helper()
	defaults, err := os.ReadFile(filepath.Join("..", "config.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	b := &localBench{
		defaults: defaults,
		folder:   filepath.Join("testdata", "local"),
		data:     filepath.Join(t.TempDir(), "data"),
	}
	wasm, err := build.Module(t.Context(), b.folder, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	b.guest = file(t, "guest.wasm", string(wasm))
	return b
}

func file(t *testing.T, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// main is the command line with --local, on the streams given.
func (b *localBench) main(in io.Reader, out, errs io.Writer, args ...string) int {
	return Main(b.defaults, slices.Concat([]string{"run", "--local", "--data-dir", b.data}, args), in, out, errs)
}

func (b *localBench) run(stdin string, args ...string) (code int, out, errs string) {
	var o, e bytes.Buffer
	code = b.main(strings.NewReader(stdin), &o, &e, args...)
	return code, o.String(), e.String()
}

// row is one run; out and errs are what the streams hold, whole if they end in a
// newline or are empty.
type row struct {
	name      string
	args      []string
	stdin     string
	code      int
	out, errs string
}

func (b *localBench) rows(t *testing.T, rows []row) {
	t.Helper()
	same := func(got, want string) bool {
		if want == "" || strings.HasSuffix(want, "\n") {
			return got == want
		}
		return strings.Contains(got, want)
	}
	for _, tt := range rows {
		t.Run(tt.name, func(t *testing.T) {
			code, out, errs := b.run(tt.stdin, tt.args...)
			if code != tt.code || !same(out, tt.out) || !same(errs, tt.errs) {
				t.Errorf("got code %d, output %q, error %q, want %d, %q, %q", code, out, errs, tt.code, tt.out, tt.errs)
			}
		})
	}
}

// The parts share one bench: a Go guest takes its time to compile.
func TestLocalRun(t *testing.T) {
	b := newLocalBench(t)
	t.Run("HandsOverWhatAProgramHas", b.handsOver)
	t.Run("SaysWhatIsWrong", b.saysWhatIsWrong)
	t.Run("ShowsTheDirectoriesItIsGiven", b.showsDirectories)
	t.Run("ServesOnItsListener", b.serves)
	t.Run("EndsWithASignal", b.endsWithASignal)
	t.Run("TracesItsCalls", b.traces)
	t.Run("TakesAnImageOfTheStore", b.takesAnImage)
	t.Run("BuildsC", b.buildsC)
	t.Run("InvokesAFunction", b.invokes)
}

// trapping is a module whose _start does what WebAssembly does not allow.
const trapping = "\x00asm\x01\x00\x00\x00" + // a module:
	"\x01\x04\x01\x60\x00\x00" + "\x03\x02\x01\x00" + // one function, of no parameters,
	"\x07\x0a\x01\x06_start\x00\x00" + // exported,
	"\x0a\x05\x01\x03\x00\x00\x0b" // its body is unreachable

func (b *localBench) handsOver(t *testing.T) {
	t.Setenv("LOCAL_RUN_SHELL", "shell's")
	b.rows(t, []row{
		{name: "exit code", args: []string{b.guest, "exit", "42"}, code: 42},
		{name: "exit code past a byte is no success", args: []string{b.guest, "exit", "256"}, code: 255},
		{name: "arguments", args: []string{b.guest, "args", "one", "two words"}, out: "guest.wasm|args|one|two words\n"},
		{name: "arguments that look like flags", args: []string{b.guest, "--", "args", "--verbose", "-x"}, out: "guest.wasm|args|--verbose|-x\n"},
		{name: "our flags after the source", args: []string{b.guest, "--env", "A=1", "env"}, out: "A=1\n"},
		{name: "no environment of the shell", args: []string{b.guest, "env"}, out: "\n"},
		{name: "environment", args: []string{"--env", "A=1", "-e", "B=x=y", "--env", "A=2", "--env", "LOCAL_RUN_SHELL", "--env", "LOCAL_RUN_UNSET", b.guest, "env"}, out: "B=x=y|A=2|LOCAL_RUN_SHELL=shell's\n"},
		{name: "streams", args: []string{b.guest, "shout"}, stdin: "hello\nthere\n", out: "HELLO\nTHERE\n", errs: "done\n"},
		{name: "a folder", args: []string{b.folder, "args"}, out: "local|args\n"},
		{name: "a trap", args: []string{file(t, "trap.wasm", trapping)}, code: 134, errs: "error: trap.wasm: wasm error: unreachable"},
		{name: "a memory limit", args: []string{"--memory", "32Mi", b.guest, "hoard"}, code: 137, errs: "out of memory: it asked for more than its limit of 33554432 bytes"},
		{name: "less memory than it begins with", args: []string{"--memory", "64Ki", b.guest, "exit", "0"}, code: 1, errs: "65536"},
	})
}

func (b *localBench) saysWhatIsWrong(t *testing.T) {
	dir := t.TempDir()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	b.rows(t, []row{
		{name: "no such file", args: []string{filepath.Join(dir, "nothing.wasm")}, code: 1, errs: "nothing.wasm: there is no such file or folder"},
		{name: "no such image", args: []string{"nothing:v1"}, code: 1, errs: "neither a file nor an image of the local store"},
		{name: "not wasm", args: []string{file(t, "text.wasm", "hello")}, code: 1, errs: "text.wasm: "},
		{name: "no such directory", args: []string{"--dir", filepath.Join(dir, "nothing"), b.guest, "exit", "0"}, code: 1, errs: "nothing: no such file"},
		{name: "a directory above the root", args: []string{"--dir", "../x", b.guest}, code: 1, errs: "../x::/data"},
		{name: "a directory without a name", args: []string{"--dir", "::/data", b.guest}, code: 1, errs: "want HOST"},
		{name: "an address without a port", args: []string{"--listen", "localhost", b.guest}, code: 1, errs: "want HOST:PORT"},
		{name: "a port that is taken", args: []string{"--listen", taken.Addr().String(), b.guest}, code: 1, errs: "choose another with --listen"},
		{name: "a memory limit of nothing", args: []string{"--memory", "0", b.guest}, code: 1, errs: "as 64Mi"},
		{name: "an environment without a name", args: []string{"--env", "=1", b.guest}, code: 1, errs: "NAME=VALUE"},
		{name: "a flag of the cluster's", args: []string{"--replicas", "2", b.guest}, code: 1, errs: "--replicas works only without --local"},
		{name: "a flag of the program's", args: []string{b.guest, "--verbose"}, code: 1, errs: "goes after --"},
	})
	code, _, errs := command(t, "run", "--net", "hello:v1", "--data-dir", b.data)
	if code != 1 || !strings.Contains(errs, "--net works only with --local") {
		t.Errorf("--net without --local: code %d, error %q", code, errs)
	}
}

func (b *localBench) showsDirectories(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	if err := os.WriteFile("in.txt", []byte("text\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	b.rows(t, []row{
		{name: "none", args: []string{b.guest, "read", "/in.txt"}, code: 1, errs: "in.txt"},
		{name: "under another name", args: []string{"--dir", dir + "::/data", b.guest, "read", "/data/in.txt"}, out: "text\n"},
		{name: "under its own name", args: []string{"--dir", dir, b.guest, "read", filepath.ToSlash(dir) + "/in.txt"}, out: "text\n"},
		{name: "the current one", args: []string{"--dir", ".", b.guest, "read", "in.txt"}, out: "text\n"},
		{name: "one file", args: []string{"--dir", "in.txt::/etc/motd:ro", b.guest, "read", "/etc/motd"}, out: "text\n"},
		{name: "to read", args: []string{"--dir", dir + "::/data:ro", b.guest, "read", "/data/in.txt"}, out: "text\n"},
		{name: "not to write", args: []string{"--dir", dir + "::/data:ro", b.guest, "write", "/data/no.txt", "x"}, code: 1, errs: "/data/no.txt"},
		{name: "to write", args: []string{"--dir", dir + "::/data", b.guest, "write", "/data/out.txt", "written"}},
		{name: "and nothing above", args: []string{"--dir", dir + "::/data", b.guest, "read", "/data/../../etc/passwd"}, code: 1, errs: "passwd"},
	})
	if got, err := os.ReadFile("out.txt"); err != nil || string(got) != "written" {
		t.Errorf("got %q (%v) on the host, want what the guest wrote", got, err)
	}
	if _, err := os.Stat("no.txt"); err == nil {
		t.Error("the guest wrote into a read-only directory")
	}
}

func (b *localBench) serves(t *testing.T) {
	errs, w := io.Pipe()
	var out bytes.Buffer
	ended := make(chan int, 1)
	go func() {
		ended <- b.main(strings.NewReader(""), &out, w, "--listen", ":0", b.guest, "serve")
		w.Close()
	}()
	line, err := bufio.NewReader(errs).ReadString('\n')
	addr, ok := strings.CutPrefix(strings.TrimSpace(line), "listening on ")
	if err != nil || !ok || !strings.HasPrefix(addr, "127.0.0.1:") {
		t.Fatalf("got %q (%v), want the address that it listens on", line, err)
	}
	go io.Copy(io.Discard, errs)
	resp, err := http.Post("http://"+addr+"/echo", "text/plain", strings.NewReader("hello"))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if got, err := io.ReadAll(resp.Body); err != nil || string(got) != "hello" {
		t.Errorf("got %q (%v), want the echo", got, err)
	}
	if gone, err := http.Get("http://" + addr + "/leave"); err == nil {
		gone.Body.Close()
	}
	if code := <-ended; code != 3 || out.String() != "LISTEN_FDS=1\n" {
		t.Errorf("got code %d, output %q, want 3 and LISTEN_FDS=1", code, out.String())
	}
}

func (b *localBench) endsWithASignal(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("a process cannot interrupt itself on Windows")
	}
	for s, want := range map[os.Signal]int{os.Interrupt: 130, syscall.SIGTERM: 143} {
		t.Run(s.String(), func(t *testing.T) { b.endsWith(t, s, want) })
	}
}

func (b *localBench) traces(t *testing.T) {
	b.rows(t, []row{
		{name: "on", args: []string{"--trace", b.guest, "exit", "3"}, code: 3, errs: "proc_exit(3) = ?"},
		{name: "off", args: []string{b.guest, "exit", "3"}, code: 3},
	})
}

func (b *localBench) endsWith(t *testing.T, s os.Signal, want int) {
	out, w := io.Pipe()
	ended := make(chan int, 1)
	go func() {
		ended <- b.main(strings.NewReader(""), w, io.Discard, b.guest, "loop")
		w.Close()
	}()
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "ready\n" {
		t.Fatalf("got %q (%v), want a guest that is ready", line, err)
	}
	self, err := os.FindProcess(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if err := self.Signal(s); err != nil {
		t.Fatal(err)
	}
	if code := <-ended; code != want {
		t.Errorf("got code %d, want %d", code, want)
	}
}

func (b *localBench) takesAnImage(t *testing.T) {
	if code, _, errs := command(t, "build", b.guest, "--tag", "shop/guest:v1", "--data-dir", b.data); code != 0 {
		t.Fatalf("build: %s", errs)
	}
	b.rows(t, []row{{name: "image", args: []string{"shop/guest:v1", "args"}, out: "guest|args\n"}})
}

func (b *localBench) buildsC(t *testing.T) {
	source := file(t, "main.c", `#include <stdio.h>
int main(int argc, char **argv) {
  char line[64];
  printf("%d arguments, %s", argc - 1, fgets(line, sizeof line, stdin));
  return 7;
}
`)
	probe := exec.Command("clang", "--target=wasm32-wasi", "-o", filepath.Join(t.TempDir(), "probe.wasm"), source)
	if err := probe.Run(); err != nil {
		t.Skip("no clang with a WASI library here")
	}
	b.rows(t, []row{{name: "folder", args: []string{filepath.Dir(source), "a", "b"}, stdin: "and a line\n", code: 7, out: "2 arguments, and a line\n"}})
}

func TestLocalNetworkReachesThisMachine(t *testing.T) {
	var n hostNetwork
	l, err := n.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		if c, err := l.Accept(); err == nil {
			fmt.Fprint(c, "hello")
			c.Close()
		}
	}()
	c, err := n.Dial(t.Context(), "tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if got, err := io.ReadAll(c); err != nil || string(got) != "hello" {
		t.Errorf("got %q (%v), want hello", got, err)
	}
	addrs, err := n.Resolve(context.Background(), "127.0.0.1")
	if err != nil || len(addrs) != 1 || !addrs[0].Is4() {
		t.Errorf("resolve 127.0.0.1: got %v (%v), want the plain IPv4 address", addrs, err)
	}
}
