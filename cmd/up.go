package cmd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"copepod/cmd/config"
	"copepod/cmd/deploy"
	"copepod/registry"
)

func (a *app) up() *cobra.Command {
	c := &cobra.Command{
		Use:     "up [SOURCE]",
		Short:   "Start a control plane and a node, and serve SOURCE on it",
		Long:    "Start a control plane and a node in this process. With a SOURCE (a Go, C or Rust\nfolder, a .wasm file, or an image), serve it and print its URL.\n\nWhat was there before is there again: everything lives in the data directory.",
		Example: "  copepod up\n  copepod up ./samples/hello\n  copepod up --data-dir /var/lib/copepod --bind 192.0.2.7",
		Args:    cobra.MaximumNArgs(1),
	}
	if err := config.AddFlags(c.Flags(), a.defaults); err != nil {
		panic(fmt.Sprintf("the settings that are compiled in: %v", err)) // ours, and tested
	}
	c.RunE = func(c *cobra.Command, args []string) error {
		cfg, err := a.settings(c)
		if err != nil {
			return err
		}
		source := ""
		if len(args) == 1 {
			source = args[0]
		}
		return a.start(c.Context(), cfg, source)
	}
	return c
}

// start runs a machine until ctx ends, telling the console how it goes.
func (a *app) start(ctx context.Context, cfg config.Config, source string) error {
	unlock, err := lockDataDir(cfg.DataDir)
	if err != nil {
		return err
	}
	defer unlock()
	log, closeLog, err := openLog(cfg)
	if err != nil {
		return err
	}
	defer closeLog()
	images, err := registry.Open(imagesPath(cfg.DataDir))
	if err != nil {
		return err
	}
	m, err := newMachine(cfg, images, log)
	if err != nil {
		return err
	}
	con := newConsole(a.out)
	con.line("%s on %s, data in %s\n", con.paint(bold, "copepod "+release), m.cfg.Bind, cfg.DataDir)

	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	built := a.prepare(ctx, con, images, source) // a compiler needs no cluster
	ended := make(chan error, 1)
	go func() { ended <- m.run(ctx, con) }()
	stopped := func() error {
		cancel(nil)
		return <-ended
	}
	select {
	case err := <-ended:
		return err
	case <-m.ready:
	}
	var app deploy.App
	if source != "" {
		select {
		case err := <-ended:
			return err
		case got := <-built:
			if got.err != nil {
				return errors.Join(got.err, stopped())
			}
			app = got.app
		}
		if err := a.serve(ctx, con, kubeconfigPath(cfg.DataDir), app); err != nil {
			con.warn("not served", err.Error())
		}
	}
	a.usage(con, m)
	err = <-ended
	if err == nil {
		con.line("stopped\n")
	}
	return err
}

// prepared is a source that became an image, or did not.
type prepared struct {
	app deploy.App
	err error
}

func (a *app) prepare(ctx context.Context, con *console, images *registry.Store, source string) <-chan prepared {
	built := make(chan prepared, 1)
	if source == "" {
		return built
	}
	go func() {
		start := time.Now()
		app := deploy.App{Port: 8080}
		err := a.image(ctx, images, source, &app)
		if err == nil && isSource(source) {
			con.done("built "+app.Name, time.Since(start), app.Image)
		}
		built <- prepared{app, err}
	}()
	return built
}

// serve deploys the source and tells where it answers.
func (a *app) serve(ctx context.Context, con *console, kubeconfig string, app deploy.App) error {
	config, err := clusterConfig(kubeconfig)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, deployTimeout)
	defer cancel()
	start := time.Now()
	address, err := serveApp(ctx, config, app)
	if err != nil {
		return err
	}
	con.done("serving "+app.Name, time.Since(start), con.paint(bold, address))
	return nil
}

// usage says what to do next.
func (a *app) usage(con *console, m *machine) {
	const stop = "Ctrl-C stops. The next `copepod up` finds everything as it is now."
	dir, flag := m.cfg.DataDir, ""
	if home, err := os.UserHomeDir(); err != nil || dir != home+"/.copepod" {
		flag = " --data-dir " + dir
	}
	if !m.holdsPlane() {
		con.line("\n  The API answers at https://%s; administrators' kubeconfigs are on the planes.\n\n%s\n",
			hostPort(m.addr, m.cfg.API.Port), con.paint(faint, stop))
		return
	}
	con.line("\n  copepod get nodes,deploy,pods,svc -o wide%s\n  export KUBECONFIG=%s   # for kubectl, Helm, client-go\n\n%s\n",
		flag, kubeconfigPath(dir), con.paint(faint, stop))
}
