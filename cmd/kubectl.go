package cmd

import (
	"os"

	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"k8s.io/kubectl/pkg/cmd"
)

// addKubectl puts kubectl's own commands under root, so that `copepod get pods`
// is `kubectl get pods` with the kubeconfig that `up` wrote. Where both have a
// verb, ours wins; kubectl itself still offers the other.
func (a *app) addKubectl(root *cobra.Command, args []string) {
	streams := genericiooptions.IOStreams{In: a.in, Out: a.out, ErrOut: a.err}
	flags := genericclioptions.NewConfigFlags(true).WithDeprecatedPasswordFlag().WithDiscoveryBurst(300).WithDiscoveryQPS(50).WithWarningPrinter(streams)
	kubectl := cmd.NewKubectlCommand(cmd.KubectlOptions{
		Arguments:   append([]string{"kubectl"}, args...),
		ConfigFlags: flags,
		IOStreams:   streams,
	})
	shared := kubectl.PersistentFlags()
	shared.String("data-dir", "", "where `copepod up` keeps its kubeconfig (default ~/.copepod)")
	before := func(c *cobra.Command, args []string) error {
		if *flags.KubeConfig == "" && os.Getenv("KUBECONFIG") == "" {
			cfg, err := a.settings(c)
			if err != nil {
				return err
			}
			*flags.KubeConfig = kubeconfigPath(cfg.DataDir)
		}
		return kubectl.PersistentPreRunE(c, args)
	}
	ours := map[string]bool{}
	for _, c := range root.Commands() {
		ours[c.Name()] = true
	}
	for _, c := range kubectl.Commands() {
		kubectl.RemoveCommand(c)
		if ours[c.Name()] || c.Name() == "help" {
			continue
		}
		c.PersistentFlags().AddFlagSet(shared)
		c.PersistentPreRunE, c.PersistentPostRunE = before, kubectl.PersistentPostRunE
		c.GroupID = kubectlGroup
		root.AddCommand(c)
	}
}
