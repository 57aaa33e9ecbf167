//go:build race

package cmd

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
)

// compilerPath is a compiler that does not look for races in wazero: that takes
// longer than a compilation may.
func compilerPath() string {
	self, err := filepath.EvalSymlinks("/proc/self/exe")
	if err != nil {
		self = os.Args[0]
	}
	return self + ".compiler"
}

func prepareCompiler() error {
	// A test has wazero's version from nowhere, and calls it "dev".
	build := exec.Command("go", "build", "-ldflags", "-X github.com/tetratelabs/wazero/internal/version.version=dev",
		"-o", compilerPath(), "copepod/wasmrt/internal/wasmtest/compiler")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build a compiler: %w\n%s", err, out)
	}
	return nil
}

func compileModule(args []string) int {
	path := compilerPath()
	fmt.Fprintln(os.Stderr, syscall.Exec(path, append([]string{path}, args...), nil))
	return 1
}
