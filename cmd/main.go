// Package cmd is the command line and the wiring: it reads the settings, starts
// the parts in order, and stops them in reverse. It is the only importer of both
// node and plane. One verb a file; the verbs of kubectl stand beside ours.
package cmd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/spf13/cobra"

	"copepod/cmd/config"
)

// app is what all verbs share.
type app struct {
	defaults []byte // config.yaml
	in       io.Reader
	out, err io.Writer
}

// exitError ends the program with a code of its own.
type exitError struct {
	code int
	err  error // nil: said already
}

func (e *exitError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit code %d", e.code)
	}
	return e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }

// Main runs the command line and returns the process's exit code. defaults is
// config.yaml.
func Main(defaults []byte, args []string, in io.Reader, out, err io.Writer) int {
	a := &app{defaults: defaults, in: in, out: out, err: err}
	root := a.root(args)
	root.SetArgs(args)
	failed := root.ExecuteContext(context.Background())
	if failed == nil {
		return 0
	}
	var exit *exitError
	if !errors.As(failed, &exit) {
		exit = &exitError{code: 1, err: failed}
	}
	if exit.err != nil {
		_, _ = fmt.Fprintf(err, "error: %v\n", exit.err)
	}
	return exit.code
}

func (a *app) root(args []string) *cobra.Command {
	root := &cobra.Command{
		Use:           "copepod",
		Short:         "Runs WebAssembly pods behind the Kubernetes API",
		Long:          "Copepod runs pods of WebAssembly modules behind the Kubernetes API.\n\nStart with `copepod up ./samples/hello`; then every verb of kubectl works here,\nand so do kubectl and Helm with the kubeconfig that `up` writes.",
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.SetIn(a.in)
	root.SetOut(a.out)
	root.SetErr(a.err)
	root.AddGroup(&cobra.Group{ID: ownGroup, Title: "Copepod:"}, &cobra.Group{ID: kubectlGroup, Title: "Kubernetes:"})
	verbs := []*cobra.Command{a.up(), a.join(), a.token(), a.nodes(), a.run(), a.build(), a.push(), a.pull(), a.images(), a.plane(), a.version()}
	for _, v := range verbs {
		v.GroupID = ownGroup
		v.RunE = interruptible(v.RunE)
		root.AddCommand(v)
	}
	root.AddCommand(a.compileWasm())
	a.addKubectl(root, args)
	return root
}

// interruptible ends the verb's context with the first Ctrl-C or SIGTERM; a
// second one ends the process. (kubectl's verbs end at once, as in kubectl.)
func interruptible(run func(*cobra.Command, []string) error) func(*cobra.Command, []string) error {
	return func(c *cobra.Command, args []string) error {
		ctx, stop := signal.NotifyContext(c.Context(), os.Interrupt, syscall.SIGTERM)
		defer stop()
		context.AfterFunc(ctx, stop)
		c.SetContext(ctx)
		return run(c, args)
	}
}

// Groups of verbs in the help.
const (
	ownGroup     = "copepod"
	kubectlGroup = "kubernetes"
)

// dataDirFlag gives a verb --data-dir; the function that it returns reads it
// together with the other places where the directory may be set.
func (a *app) dataDirFlag(c *cobra.Command) (dir func() (string, error)) {
	c.Flags().String("data-dir", "", "where everything lives (default ~/.copepod)")
	return func() (string, error) {
		cfg, err := a.settings(c)
		return cfg.DataDir, err
	}
}

func (a *app) settings(c *cobra.Command) (config.Config, error) {
	home, err := os.UserHomeDir()
	if err != nil {
		return config.Config{}, fmt.Errorf("home directory: %w; give one with --data-dir", err)
	}
	return config.Load(config.Sources{Defaults: a.defaults, Flags: c.Flags(), Environ: os.Environ(), Home: home})
}

// kubeconfigPath is where `up` leaves the administrator's kubeconfig.
func kubeconfigPath(dataDir string) string { return filepath.Join(dataDir, "kubeconfig") }

// imagesPath is the image store of a data directory.
func imagesPath(dataDir string) string { return filepath.Join(dataDir, "images") }
