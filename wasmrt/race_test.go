//go:build race

package wasmrt_test

import (
	"os/exec"
	"testing"
)

// racing: the detector's own memory grows with all that was ever touched.
const racing = true

// compiler is one that does not look for races in wazero: that would take a
// minute for a server in Go.
func compiler(t testing.TB) []string {
	t.Helper()
	path := built(t, "compiler", func(out string) *exec.Cmd {
		// A test has wazero's version from nowhere, and calls it "dev".
		return exec.Command("go", "build", "-ldflags", "-X github.com/tetratelabs/wazero/internal/version.version=dev", "-o", out, "./internal/wasmtest/compiler")
	})
	return []string{path}
}
