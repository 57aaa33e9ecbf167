package cmd

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"copepod/cmd/build"
	"copepod/cmd/deploy"
	"copepod/registry"
)

// deployTimeout is how long `up SOURCE` and `run` wait for pods to be ready.
const deployTimeout = time.Minute

func (a *app) run() *cobra.Command {
	var app deploy.App
	var replicas int32
	var env []string
	var kubeconfig string
	var timeout time.Duration
	var local localRun
	c := &cobra.Command{
		Use:     "run SOURCE [-- ARGS…]",
		Short:   "Serve a folder, a .wasm file or an image on a running node and print its URL; or run it here",
		Example: "  copepod run ./samples/hello\n  copepod run app.wasm --replicas 3\n  copepod run registry.example.com/team/app:v2 --port 3000",
		Args:    cobra.MinimumNArgs(1),
	}
	f := c.Flags()
	f.StringVar(&app.Name, "name", "", "name of the Deployment and the Service (default: the source's)")
	f.StringVarP(&app.Namespace, "namespace", "n", "default", "namespace to run in")
	f.Int32Var(&app.Port, "port", 8080, "port that the program listens on")
	f.Int32Var(&replicas, "replicas", 1, "number of pods")
	f.StringArrayVarP(&env, "env", "e", nil, "environment variable, NAME=VALUE (with --local also NAME, to hand on this shell's); may be repeated")
	f.StringVar(&kubeconfig, "kubeconfig", "", "kubeconfig of the cluster (default DATA-DIR/kubeconfig)")
	f.DurationVar(&timeout, "timeout", deployTimeout, "how long to wait for the pods to be ready")
	local.addFlags(c)
	dir := a.dataDirFlag(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		dataDir, err := dir()
		if err != nil {
			return err
		}
		if err := local.check(c.Flags()); err != nil {
			return err
		}
		if local.on {
			return a.local(c.Context(), dataDir, args, env, local)
		}
		if kubeconfig == "" {
			kubeconfig = kubeconfigPath(dataDir)
		}
		if c.Flags().Changed("replicas") {
			app.Replicas = &replicas
		}
		app.Args = args[1:]
		if app.Env, err = environment(env); err != nil {
			return err
		}
		config, err := clusterConfig(kubeconfig)
		if err != nil {
			return err
		}
		store, err := registry.Open(imagesPath(dataDir))
		if err != nil {
			return err
		}
		if err := a.image(c.Context(), store, args[0], &app); err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(c.Context(), timeout)
		defer cancel()
		address, err := serveApp(ctx, config, app)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintln(a.out, address)
		return err
	}
	return c
}

// serveApp applies app and returns its URL.
func serveApp(ctx context.Context, config *rest.Config, app deploy.App) (string, error) {
	api, err := kubernetes.NewForConfig(config)
	if err != nil {
		return "", err
	}
	server, err := url.Parse(config.Host)
	if err != nil {
		return "", fmt.Errorf("API server %q: %w", config.Host, err)
	}
	return app.Apply(ctx, api, server.Hostname())
}

// image finds or builds what is to run, and names the app after it. A module that
// was built here gets a tag made of its digest besides :latest, so that a changed
// source is a changed Deployment.
func (a *app) image(ctx context.Context, store *registry.Store, source string, app *deploy.App) error {
	if !isSource(source) {
		ref, err := registry.ParseReference(source)
		if err != nil {
			return err
		}
		app.Image = ref.String()
		if app.Name == "" {
			app.Name, err = build.Name(filepath.Base(ref.Repository))
		}
		return err
	}
	img, err := a.buildImage(ctx, store, source, "")
	if err != nil {
		return err
	}
	ref, err := registry.ParseReference(img.Ref)
	if err != nil {
		return err
	}
	if app.Name == "" {
		app.Name = ref.Repository
	}
	app.Image = ref.Repository + ":" + strings.TrimPrefix(string(img.Layer), "sha256:")[:12]
	return store.Tag(ctx, img.Digest, app.Image)
}

// isSource tells a path from an image name: it exists, or it looks like nothing
// else.
func isSource(s string) bool {
	if _, err := os.Stat(s); err == nil {
		return true
	}
	return strings.HasPrefix(s, ".") || filepath.IsAbs(s) || filepath.Ext(s) == ".wasm"
}

func environment(pairs []string) (map[string]string, error) {
	env := map[string]string{}
	for _, kv := range pairs {
		k, v, ok := strings.Cut(kv, "=")
		if !ok || k == "" {
			return nil, fmt.Errorf("--env %q: want NAME=VALUE", kv)
		}
		env[k] = v
	}
	return env, nil
}

// clusterConfig reads a kubeconfig; without one there is no cluster to talk to.
func clusterConfig(path string) (*rest.Config, error) {
	if _, err := os.Stat(path); err != nil {
		return nil, fmt.Errorf("no kubeconfig at %s: start a node with `copepod up`, or name one with --kubeconfig", path)
	}
	config, err := clientcmd.BuildConfigFromFlags("", path)
	if err != nil {
		return nil, fmt.Errorf("kubeconfig %s: %w", path, err)
	}
	return config, nil
}
