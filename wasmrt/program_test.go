package wasmrt_test

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"copepod/wasmrt"
)

func TestGoProgramSeesWhatItIsGiven(t *testing.T) {
	h := newHost(t)
	m := load(t, h, goGuest(t, "echo"))
	dir := t.TempDir()
	write(t, filepath.Join(dir, "a.txt"), "from the host")
	single := filepath.Join(t.TempDir(), "real-name")
	write(t, single, "single")
	mounts := []wasmrt.Mount{
		{Guest: "/data", Host: dir},
		{Guest: "/ro", Host: dir, ReadOnly: true},
		{Guest: "/etc/app.conf", Host: single, ReadOnly: true},
	}
	for _, row := range []struct {
		name   string
		args   []string
		stdin  string
		out    string
		errOut string
		code   uint32
		reason wasmrt.ExitReason
	}{
		{name: "arguments", args: []string{"args", "a", "b"}, out: "a b\n"},
		{name: "environment", args: []string{"env", "COLOUR"}, out: "green\n"},
		{name: "standard input", args: []string{"stdin"}, stdin: strings.Repeat("x", 100_000), out: "100000 bytes\n"},
		{name: "empty standard input", args: []string{"stdin"}, out: "0 bytes\n"},
		{name: "standard error", args: []string{"stderr", "oh"}, errOut: "oh\n"},
		{name: "a mounted directory", args: []string{"cat", "/data/a.txt"}, out: "from the host"},
		{name: "a mounted file", args: []string{"cat", "/etc/app.conf"}, out: "single"},
		{name: "a listing", args: []string{"list", "/data"}, out: "a.txt false\n"},
		{name: "a listing of mounted files", args: []string{"list", "/etc"}, out: "app.conf false\n"},
		{name: "exit code", args: []string{"exit", "7"}, code: 7, reason: wasmrt.Error},
		{name: "a read-only mount", args: []string{"write", "/ro/b.txt", "x"}, code: 1, reason: wasmrt.Error, errOut: "open /ro/b.txt: Read-only file system\n"},
		{name: "outside", args: []string{"cat", "/data/../../etc/passwd"}, code: 1, reason: wasmrt.Error, errOut: "open /data/../../etc/passwd: No such file or directory\n"},
	} {
		t.Run(row.name, func(t *testing.T) {
			var out, errOut bytes.Buffer
			exit := wait(t, start(t, h, m, wasmrt.Program{
				Name: row.name, Args: append([]string{"echo"}, row.args...), Env: []string{"COLOUR=green"},
				Stdin: strings.NewReader(row.stdin), Stdout: &out, Stderr: &errOut, Mounts: mounts,
			}))
			if exit.Code != row.code || exit.Reason != row.reason {
				t.Errorf("got exit %+v, want code %d, reason %v", exit, row.code, row.reason)
			}
			if out.String() != row.out {
				t.Errorf("got output %q, want %q", &out, row.out)
			}
			if errOut.String() != row.errOut {
				t.Errorf("got errors %q, want %q", &errOut, row.errOut)
			}
		})
	}
}

func write(t testing.TB, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func listen(t testing.TB) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestGoServerAnswersOnItsListener(t *testing.T) {
	h := newHost(t)
	m := load(t, h, goGuest(t, "serve"))
	l := listen(t)
	i := start(t, h, m, wasmrt.Program{
		Name: "serve", Args: []string{"serve"}, Stderr: os.Stderr,
		Listeners: []wasmrt.Listener{{Name: "http", Listener: l}},
	})
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	for n := range 20 {
		url := fmt.Sprintf("http://%s/%d", l.Addr(), n)
		resp, err := client.Get(url)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if got, want := string(body), fmt.Sprintf("hello /%d from serve", n); got != want {
			t.Fatalf("got %q, want %q", got, want)
		}
	}
	big := strings.Repeat("0123456789abcdef", 1<<16)
	resp, err := client.Post("http://"+l.Addr().String()+"/echo", "text/plain", strings.NewReader(big))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if body, err := io.ReadAll(resp.Body); err != nil || string(body) != big {
		t.Errorf("got %d bytes back, %v; want %d", len(body), err, len(big))
	}
	i.Kill()
	if exit := wait(t, i); exit.Reason != wasmrt.Killed || exit.Code != 137 {
		t.Errorf("got %+v, want Killed with 137", exit)
	}
}

// get fetches / from a server, on a connection of its own.
func get(t testing.TB, l net.Listener) string {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get("http://" + l.Addr().String() + "/")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
