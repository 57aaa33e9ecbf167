package wasmrt_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"copepod/wasmrt"
)

// debugGuest builds testdata/c/trap.c with debug information of a version.
func debugGuest(t *testing.T, flags ...string) []byte {
	t.Helper()
	cGuest(t, "serve") // skips where there is no clang for WASI
	out := filepath.Join(t.TempDir(), "trap.wasm")
	args := append([]string{"--target=wasm32-wasi", "-O1", "-o", out, filepath.Join("testdata", "c", "trap.c")}, flags...)
	if text, err := exec.Command("clang", args...).CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, text)
	}
	code, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	return code
}

func TestATrapNamesLinesOfTheSource(t *testing.T) {
	h := newHost(t)
	for _, version := range []string{"-gdwarf-4", "-gdwarf-5"} {
		m := load(t, h, debugGuest(t, version))
		for how, want := range map[string]string{"1": "trap.c:10", "2": "trap.c:12", "3": "trap.c:14"} {
			exit := wait(t, start(t, h, m, wasmrt.Program{Name: "trap", Args: []string{"trap", how}}))
			if exit.Reason != wasmrt.Trap || !strings.Contains(exit.Message, want+"\n") || !strings.Contains(exit.Message, "trap.c:21") {
				t.Errorf("%s, way %s: got %+v, want a stack with %s and trap.c:21", version, how, exit, want)
			}
			if strings.Contains(exit.Message, "@:") {
				t.Errorf("%s, way %s: a frame without a line shows what stands in for one: %s", version, how, exit.Message)
			}
		}
	}
}

func TestLinesComeFromTheDiskCacheToo(t *testing.T) {
	code := debugGuest(t, "-g")
	dir := t.TempDir()
	for _, what := range []string{"compiled", "cached"} {
		h, err := wasmrt.New(t.Context(), wasmrt.Config{CacheDir: dir})
		if err != nil {
			t.Fatal(err)
		}
		m := load(t, h, code)
		exit := wait(t, start(t, h, m, wasmrt.Program{Args: []string{"trap", "1"}}))
		if !strings.Contains(exit.Message, "trap.c:10\n") {
			t.Errorf("%s: got %q, want trap.c:10 in it", what, exit.Message)
		}
		if err := m.Close(); err != nil {
			t.Error(err)
		}
		if err := h.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}
}

func TestATrapWithoutDebugInformationNamesFunctions(t *testing.T) {
	h := newHost(t)
	m := load(t, h, debugGuest(t, "-g0"))
	exit := wait(t, start(t, h, m, wasmrt.Program{Args: []string{"trap", "1"}}))
	if !strings.Contains(exit.Message, "main") || strings.Contains(exit.Message, "0x") {
		t.Errorf("got %q, want names of functions and no places", exit.Message)
	}
}
