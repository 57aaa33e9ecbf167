package cmd

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/util/duration"

	"copepod/cmd/build"
	"copepod/registry"
	"copepod/wasmrt"
)

func (a *app) build() *cobra.Command {
	var tag string
	c := &cobra.Command{
		Use:     "build SOURCE",
		Short:   "Build a Go, C or Rust folder, or take a ready .wasm, into the local image store",
		Example: "  copepod build ./samples/hello\n  copepod build app.wasm --tag app:v2",
		Args:    cobra.ExactArgs(1),
	}
	c.Flags().StringVarP(&tag, "tag", "t", "", "image name (default: the folder's name, :latest)")
	dir := a.dataDirFlag(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		store, err := openImages(dir)
		if err != nil {
			return err
		}
		img, err := a.buildImage(c.Context(), store, args[0], tag)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(a.out, "%s %s (%s)\n", img.Ref, img.Digest, bytesText(img.Size))
		return err
	}
	return c
}

func (a *app) push() *cobra.Command {
	var plain bool
	c := &cobra.Command{
		Use:     "push [FILE.wasm] NAME[:TAG]",
		Short:   "Put a module under a name, and send it to the registry if the name has one",
		Example: "  copepod push app.wasm app:v2\n  copepod push app.wasm registry.example.com/team/app:v2\n  copepod push registry.example.com/team/app:v2",
		Args:    cobra.RangeArgs(1, 2),
	}
	c.Flags().BoolVar(&plain, "plain-http", false, "talk HTTP to the registry, without TLS")
	dir := a.dataDirFlag(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		store, err := openImages(dir)
		if err != nil {
			return err
		}
		name := args[len(args)-1]
		ref, err := registry.ParseReference(name)
		if err != nil {
			return err
		}
		img := registry.Image{}
		if len(args) == 2 {
			if filepath.Ext(args[0]) != ".wasm" {
				return fmt.Errorf("push %s: want a .wasm file; `copepod build` takes folders", args[0])
			}
			if img, err = a.buildImage(c.Context(), store, args[0], name); err != nil {
				return err
			}
		}
		if !ref.Local() || len(args) == 1 {
			opts := registry.RemoteOptions{UserCredentials: true, PlainHTTP: plain}
			if img, err = store.Push(c.Context(), name, opts); err != nil {
				return err
			}
		}
		_, err = fmt.Fprintf(a.out, "%s %s\n", ref, img.Digest)
		return err
	}
	return c
}

func (a *app) pull() *cobra.Command {
	var plain bool
	c := &cobra.Command{
		Use:     "pull HOST/NAME[:TAG]",
		Short:   "Fetch an image from its registry into the local store",
		Example: "  copepod pull registry.example.com/team/app:v2",
		Args:    cobra.ExactArgs(1),
	}
	c.Flags().BoolVar(&plain, "plain-http", false, "talk HTTP to the registry, without TLS")
	dir := a.dataDirFlag(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		store, err := openImages(dir)
		if err != nil {
			return err
		}
		img, err := store.Pull(c.Context(), args[0], registry.RemoteOptions{UserCredentials: true, PlainHTTP: plain})
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(a.out, "%s %s (%s)\n", img.Ref, img.Digest, bytesText(img.Size))
		return err
	}
	return c
}

func (a *app) images() *cobra.Command {
	c := &cobra.Command{
		Use:   "images",
		Short: "List the images of the local store",
		Args:  cobra.NoArgs,
	}
	dir := a.dataDirFlag(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		store, err := openImages(dir)
		if err != nil {
			return err
		}
		images, err := store.Images(c.Context())
		if err != nil {
			return err
		}
		w := tabwriter.NewWriter(a.out, 0, 8, 3, ' ', 0)
		_, _ = fmt.Fprintln(w, "IMAGE\tDIGEST\tSIZE\tTARGET\tCREATED")
		for _, i := range images {
			_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", i.Ref, short(i.Digest), bytesText(i.Size), i.OS, createdText(i.Created))
		}
		return w.Flush()
	}
	return c
}

func openImages(dir func() (string, error)) (*registry.Store, error) {
	dataDir, err := dir()
	if err != nil {
		return nil, err
	}
	if err := makeDataDir(dataDir); err != nil {
		return nil, err
	}
	return registry.Open(imagesPath(dataDir))
}

// buildImage builds a source and stores it as tag, or under the source's name. A
// module that no node could run is refused here, where its author can see it.
func (a *app) buildImage(ctx context.Context, store *registry.Store, source, tag string) (registry.Image, error) {
	if tag == "" {
		name, err := build.Name(source)
		if err != nil {
			return registry.Image{}, err
		}
		tag = name + ":latest"
	}
	wasm, err := build.Module(ctx, source, a.err)
	if err != nil {
		return registry.Image{}, err
	}
	if _, err := wasmrt.Inspect(wasm); err != nil {
		return registry.Image{}, fmt.Errorf("%s: %w", source, err)
	}
	return store.Pack(ctx, wasm, registry.PackConfig{Ref: tag})
}

func short(d registry.Digest) string {
	if len(d) > 19 {
		return string(d[:19])
	}
	return string(d)
}

func createdText(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return duration.HumanDuration(time.Since(t)) + " ago"
}

func bytesText(n int64) string {
	switch {
	case n >= 1<<20:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	case n >= 1<<10:
		return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
	}
	return fmt.Sprintf("%d B", n)
}

// makeDataDir makes the data directory, and refuses one that others may read.
func makeDataDir(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("data directory: %w", err)
	}
	return checkDataDir(dir)
}
