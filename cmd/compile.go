package cmd

import (
	"github.com/spf13/cobra"

	"copepod/wasmrt/compile"
)

// compileVerb is how we call ourselves to compile a module; see compile.Main.
const compileVerb = "compile-wasm"

// compileWasm is the verb that nobody types: the child process that compiles
// one module within limits.
func (a *app) compileWasm() *cobra.Command {
	return &cobra.Command{
		Use:                compileVerb,
		Short:              "Compile one module (for copepod's own use)",
		Hidden:             true,
		DisableFlagParsing: true,
		RunE: func(_ *cobra.Command, args []string) error {
			if code := compile.Main(args, a.in, a.err); code != 0 {
				return &exitError{code: code} // it has said why
			}
			return nil
		},
	}
}
