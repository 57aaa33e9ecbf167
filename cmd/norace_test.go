//go:build !race

package cmd

import (
	"os"

	"copepod/wasmrt/compile"
)

func prepareCompiler() error { return nil }

func compileModule(args []string) int { return compile.Main(args, os.Stdin, os.Stderr) }
