// Copepod is a WebAssembly-native orchestrator behind the Kubernetes API.
package main

import (
	_ "embed"
	"os"

	"copepod/cmd"
)

//go:embed config.yaml
var defaults []byte

func main() { os.Exit(cmd.Main(defaults, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)) }
