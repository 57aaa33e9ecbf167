package cmd

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// release is the version of this build; releases set it with
// -ldflags "-X copepod/cmd.release=v1.2.3".
var release = "v0.1.0"

// kubernetesVersion is the Kubernetes whose API is served: the minor version of
// the k8s.io modules in go.mod.
const kubernetesVersion = "v1.37.2"

func (a *app) version() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			_, err := fmt.Fprintf(a.out, "copepod %s (Kubernetes %s, wazero %s, %s %s/%s)\n",
				release, kubernetesVersion, moduleVersion("github.com/tetratelabs/wazero"), runtime.Version(), runtime.GOOS, runtime.GOARCH)
			return err
		},
	}
}

// moduleVersion is the version of a dependency in this binary.
func moduleVersion(path string) string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	for _, m := range info.Deps {
		if m.Path == path {
			return m.Version
		}
	}
	return "unknown"
}
