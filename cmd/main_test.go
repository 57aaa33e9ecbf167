package cmd

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// command runs the command line as main does.
func command(t *testing.T, args ...string) (code int, out, errs string) {
	t.Helper()
	defaults, err := os.ReadFile(filepath.Join("..", "config.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var o, e bytes.Buffer
	code = Main(defaults, args, strings.NewReader(""), &o, &e)
	return code, o.String(), e.String()
}

func TestHelpListsOurVerbsAndKubectls(t *testing.T) {
	code, out, _ := command(t, "--help")
	if code != 0 {
		t.Fatalf("exit code %d", code)
	}
	for _, verb := range []string{"up", "run", "build", "push", "pull", "images", "version", "get", "apply", "describe", "logs", "rollout", "explain"} {
		if !strings.Contains(out, "\n  "+verb+" ") {
			t.Errorf("the help does not list %q", verb)
		}
	}
}

func TestAModuleIsBuiltListedAndRefused(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	write := func(name, content string) string {
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	component := write("component.wasm", "\x00asm\x0d\x00\x01\x00")
	unknown := write("unknown.wasm", "\x00asm\x01\x00\x00\x00\x01\x04\x01\x60\x00\x00\x02\x09\x01\x03env\x01f\x00\x00")
	for _, tt := range []struct {
		args []string
		want string // of the output if the code is 0, else of the error
		code int
	}{
		{[]string{"push", component, "c:v1"}, "wasip1", 1},
		{[]string{"push", unknown, "u:v1"}, "env.f", 1},
		{[]string{"push", "main.go", "x:v1"}, "want a .wasm file", 1},
		{[]string{"push", "x:v1"}, "not found", 1},
		{[]string{"build", filepath.Join(dir, "nothing")}, "no such file", 1},
		{[]string{"pull", "hello:v1"}, "no registry host", 1},
		{[]string{"images"}, "IMAGE", 0},
	} {
		code, out, errs := command(t, append(tt.args, "--data-dir", dir)...)
		got := errs
		if tt.code == 0 {
			got = out
		}
		if code != tt.code || !strings.Contains(got, tt.want) {
			t.Errorf("%v: code %d, output %q, error %q; want code %d and %q", tt.args, code, out, errs, tt.code, tt.want)
		}
	}
}

func TestRunWithoutANodeSaysHowToStartOne(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	code, _, errs := command(t, "run", "hello:v1", "--data-dir", dir)
	if code == 0 || !strings.Contains(errs, "copepod up") {
		t.Errorf("code %d, error %q", code, errs)
	}
}
