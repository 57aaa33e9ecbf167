package cmd

import (
	"fmt"

	"github.com/spf13/cobra"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// clusterFlags gives a verb --kubeconfig and --data-dir; the function that it
// returns connects as they say, and tells the data directory.
func (a *app) clusterFlags(c *cobra.Command) (connect func() (*kubernetes.Clientset, *rest.Config, string, error)) {
	kubeconfig := c.Flags().String("kubeconfig", "", "kubeconfig of the cluster (default DATA-DIR/kubeconfig)")
	dir := a.dataDirFlag(c)
	return func() (*kubernetes.Clientset, *rest.Config, string, error) {
		dataDir, err := dir()
		if err != nil {
			return nil, nil, "", err
		}
		path := *kubeconfig
		if path == "" {
			path = kubeconfigPath(dataDir)
		}
		config, err := clusterConfig(path)
		if err != nil {
			return nil, nil, "", err
		}
		client, err := kubernetes.NewForConfig(config)
		if err != nil {
			return nil, nil, "", fmt.Errorf("kubeconfig %s: %w", path, err)
		}
		return client, config, dataDir, nil
	}
}

// family is a verb that only groups others.
func family(use, short string, members ...*cobra.Command) *cobra.Command {
	c := &cobra.Command{Use: use, Short: short, Args: cobra.NoArgs}
	c.RunE = func(c *cobra.Command, _ []string) error { return c.Help() }
	for _, m := range members {
		m.RunE = interruptible(m.RunE)
		c.AddCommand(m)
	}
	return c
}
