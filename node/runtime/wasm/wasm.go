// Package wasm is the Runtime of WebAssembly: images come from an image store,
// and programs run in wasmrt, in this process. It knows both and what a Spec asks
// for; it never learns what a pod is.
//
//	rt, err := wasm.New(wasm.Config{Host: host, Images: store})
package wasm

import (
	"cmp"
	"container/list"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"path"
	"sync"

	"copepod/node/runtime"
	"copepod/registry"
	"copepod/wasmrt"
)

// Images is what we need of an image store. *registry.Store is one.
type Images interface {
	Resolve(ctx context.Context, name string) (registry.Image, error)
	Pull(ctx context.Context, name string, opts registry.RemoteOptions) (registry.Image, error)
	Module(ctx context.Context, manifest registry.Digest) ([]byte, error)
}

// Config configures a Runtime. Host and Images are required.
type Config struct {
	Host   *wasmrt.Host
	Images Images
	Log    *slog.Logger
}

// Runtime runs WebAssembly programs.
type Runtime struct {
	cfg Config

	mu      sync.Mutex // guards what follows
	modules map[registry.Digest]*loaded
	idle    list.List // of *loaded that nobody uses, the longest first
}

var _ runtime.Runtime = (*Runtime)(nil)

// New makes a Runtime.
func New(cfg Config) (*Runtime, error) {
	if cfg.Host == nil || cfg.Images == nil {
		return nil, errors.New("wasm runtime: config: Host and Images are needed")
	}
	cfg.Log = cmp.Or(cfg.Log, slog.Default()).With("part", "runtime")
	return &Runtime{cfg: cfg, modules: map[registry.Digest]*loaded{}}, nil
}

// Image implements runtime.Runtime.
func (r *Runtime) Image(ctx context.Context, name string) (runtime.Image, error) {
	img, err := r.cfg.Images.Resolve(ctx, name)
	if err != nil {
		return runtime.Image{}, named(err)
	}
	return describe(name, img)
}

// Pull implements runtime.Runtime. A name without a registry host is looked for
// in the local store before the image store is asked to find it elsewhere.
func (r *Runtime) Pull(ctx context.Context, name string, auth runtime.Credentials) (runtime.Image, error) {
	ref, err := registry.ParseReference(name)
	if err != nil {
		return runtime.Image{}, named(err)
	}
	if ref.Local() {
		if img, err := r.Image(ctx, name); !errors.Is(err, runtime.ErrNoImage) {
			return img, err
		}
	}
	img, err := r.cfg.Images.Pull(ctx, name, registry.RemoteOptions{Username: auth.Username, Password: auth.Password})
	if ref.Local() && errors.Is(err, registry.ErrNotFound) {
		err = fmt.Errorf("%w; build it with `copepod build`, or name the registry", err)
	}
	if err != nil {
		return runtime.Image{}, named(err)
	}
	return describe(name, img)
}

// named puts an image store's errors in the words of the seam.
func named(err error) error {
	if _, bad := errors.AsType[*registry.ReferenceError](err); bad {
		return fmt.Errorf("%w: %w", runtime.ErrImageName, err)
	}
	if errors.Is(err, registry.ErrNotFound) {
		return fmt.Errorf("%w: %w", runtime.ErrNoImage, err)
	}
	return err
}

func describe(name string, img registry.Image) (runtime.Image, error) {
	ref, err := registry.ParseReference(name)
	if err != nil {
		return runtime.Image{}, named(err)
	}
	return runtime.Image{Name: name, ID: ref.Name() + "@" + string(img.Digest), Size: img.Size, Local: ref.Local()}, nil
}

// Create implements runtime.Runtime: the module is compiled, or found compiled.
func (r *Runtime) Create(ctx context.Context, spec runtime.Spec) (runtime.Container, error) {
	ref, err := registry.ParseReference(spec.Image.ID)
	if err != nil || ref.Digest == "" {
		return nil, fmt.Errorf("image %q: want NAME@sha256:…, as Image and Pull give it", spec.Image.ID)
	}
	m, err := r.acquire(ctx, ref.Digest)
	if err != nil {
		return nil, fmt.Errorf("image %s: %w", spec.Image.Name, err)
	}
	return &container{rt: r, id: newID(), program: program(spec, ref), module: m, never: make(chan struct{})}, nil
}

// program puts a Spec in the terms of wasmrt. A module has one entry point, so a
// command only names the program: argv[0].
func program(spec runtime.Spec, ref registry.Reference) wasmrt.Program {
	args := append([]string{}, spec.Command...)
	if len(args) == 0 {
		args = []string{path.Base(ref.Repository)}
	}
	p := wasmrt.Program{
		Name:        spec.Namespace + "/" + spec.Pod + "/" + spec.Container,
		Args:        append(args, spec.Args...),
		Env:         spec.Env,
		Stdout:      spec.Stdout,
		Stderr:      spec.Stderr,
		MemoryLimit: spec.MemoryLimit,
		CPUMilli:    spec.CPUMilli,
		CPUWeight:   spec.CPUWeight,
	}
	if spec.Network != nil {
		p.Network = spec.Network
	}
	if spec.WorkingDir != "" { // WASI has no working directory; Go and others begin in PWD
		p.Env = append(append([]string{}, p.Env...), "PWD="+spec.WorkingDir)
	}
	for _, m := range spec.Mounts {
		p.Mounts = append(p.Mounts, wasmrt.Mount{Guest: m.Guest, Host: m.Host, ReadOnly: m.ReadOnly, Quota: m.Quota})
	}
	for _, l := range spec.Listeners {
		p.Listeners = append(p.Listeners, wasmrt.Listener{Name: l.Name, Listener: l.Listener})
	}
	return p
}

// newID names a run as a container engine would: 32 hexadecimal digits.
func newID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails: crypto/rand
	return fmt.Sprintf("wasm://%x", b)
}
