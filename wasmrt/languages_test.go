package wasmrt_test

import (
	"bytes"
	"io"
	"net"
	"path/filepath"
	"strings"
	"testing"

	"copepod/wasmrt"
)

type languageRow struct {
	name   string
	args   []string
	stdin  string
	out    string
	code   uint32
	reason wasmrt.ExitReason
}

func runRows(t *testing.T, code []byte, rows []languageRow) {
	h := newHost(t)
	m := load(t, h, code)
	dir := t.TempDir()
	write(t, filepath.Join(dir, "a.txt"), "line 1\nline 2\n")
	write(t, filepath.Join(dir, "b.txt"), "")
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			var out, errOut bytes.Buffer
			exit := wait(t, start(t, h, m, wasmrt.Program{
				Name: row.name, Args: append([]string{"guest"}, row.args...), Env: []string{"KEY=value"},
				Stdin: strings.NewReader(row.stdin), Stdout: &out, Stderr: &errOut,
				Mounts: []wasmrt.Mount{{Guest: "/data", Host: dir, ReadOnly: true}, {Guest: "/tmp", Host: t.TempDir()}},
			}))
			if exit.Code != row.code || exit.Reason != row.reason {
				t.Errorf("got exit %+v, want code %d, reason %v; stderr %q", exit, row.code, row.reason, &errOut)
			}
			if out.String() != row.out {
				t.Errorf("got output %q, want %q", &out, row.out)
			}
		})
	}
}

func TestCProgramSeesWhatItIsGiven(t *testing.T) {
	runRows(t, cGuest(t, "main"), []languageRow{
		{name: "cat", args: []string{"cat", "/data/a.txt"}, out: "line 1\nline 2\n"},
		{name: "missing", args: []string{"cat", "/data/no.txt"}, code: 1, reason: wasmrt.Error},
		{name: "list", args: []string{"list", "/tmp"}, out: ".\n..\n"},
		{name: "environment", args: []string{"env", "KEY"}, out: "value\n"},
		{name: "exit", args: []string{"exit", "3"}, code: 3, reason: wasmrt.Error},
		{name: "sleep", args: []string{"sleep"}},
	})
}

func TestRustProgramSeesWhatItIsGiven(t *testing.T) {
	runRows(t, rustGuest(t, "main"), []languageRow{
		{name: "cat", args: []string{"cat", "/data/a.txt"}, out: "line 1\nline 2\n"},
		{name: "list", args: []string{"list", "/data"}, out: "a.txt b.txt\n"},
		{name: "write", args: []string{"write", "/tmp"}, out: "9\n"},
		{name: "stdin", args: []string{"stdin"}, stdin: "abc\n", out: "ABC\n"},
		{name: "exit", args: []string{"exit", "9"}, code: 9, reason: wasmrt.Error},
		{name: "panic", args: []string{"panic", "oh"}, code: 134, reason: wasmrt.Trap},
	})
}

func TestCServerAnswersOnItsListener(t *testing.T) {
	h := newHost(t)
	m := load(t, h, cGuest(t, "serve"))
	l := listen(t)
	i := start(t, h, m, wasmrt.Program{Name: "serve", Args: []string{"serve"}, Listeners: []wasmrt.Listener{{Listener: l}}})
	for range 3 {
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(c, "hello")
		c.(*net.TCPConn).CloseWrite()
		if b, err := io.ReadAll(c); string(b) != "hello" || err != nil {
			t.Errorf("got %q, %v, want hello", b, err)
		}
		c.Close()
	}
	i.Terminate()
	if exit := wait(t, i); exit.Reason != wasmrt.Completed {
		t.Errorf("after Terminate: got %+v, want Completed", exit)
	}
}
