// Command compiler compiles one module, as compile.Main has it: for tests that
// are themselves built in a way that makes compiling slow.
package main

import (
	"os"

	"copepod/wasmrt/compile"
)

func main() { os.Exit(compile.Main(os.Args[1:], os.Stdin, os.Stderr)) }
