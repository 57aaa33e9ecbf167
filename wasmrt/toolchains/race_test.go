//go:build race

package toolchains

import (
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

var built struct {
	sync.Mutex
	path string
}

// compiler is one that does not look for races in wazero, which would take most
// of a minute for a guest in Go.
func compiler(t *testing.T) []string {
	t.Helper()
	built.Lock()
	defer built.Unlock()
	if built.path == "" {
		dir, err := os.MkdirTemp("", "compiler")
		if err != nil {
			t.Fatal(err)
		}
		out := filepath.Join(dir, "compiler")
		// A test has wazero's version from nowhere, and calls it "dev".
		cmd := exec.Command("go", "build", "-ldflags", "-X github.com/tetratelabs/wazero/internal/version.version=dev", "-o", out, "../internal/wasmtest/compiler")
		if text, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		built.path = out
	}
	return []string{built.path}
}

func TestMain(m *testing.M) {
	code := m.Run()
	if built.path != "" {
		_ = os.RemoveAll(filepath.Dir(built.path))
	}
	os.Exit(code)
}
