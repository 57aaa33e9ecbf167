package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/bytecodealliance/wasmtime-go/v39"
	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/imports/wasi_snapshot_preview1"
	"github.com/tetratelabs/wazero/sys"

	"copepod-bench-wasmtime/harness"
	"copepod/wasmrt"
)

// program is a compiled module that one engine runs from its beginning.
type program interface {
	// run runs it to its end, with what it prints in the file at stdout, or
	// nowhere if that is empty.
	run(stdout string, args ...string) (exit uint32, err error)
	close() error
}

// engine compiles programs.
type engine struct {
	name string
	load func(ctx context.Context, code []byte) (program, error)
}

func engines(lab *harness.Lab) []engine {
	return []engine{
		{"wazero", loadWazero},
		{"copepod", func(ctx context.Context, code []byte) (program, error) { return loadCopepod(ctx, lab.Host, code) }},
		{"wasmtime", func(_ context.Context, code []byte) (program, error) { return loadWasmtime(code, false) }},
		{"wasmtime + epoch", func(_ context.Context, code []byte) (program, error) { return loadWasmtime(code, true) }},
	}
}

// open opens what a program prints to.
func open(stdout string) (io.WriteCloser, error) {
	if stdout == "" {
		return nowhere{io.Discard}, nil
	}
	return os.Create(stdout)
}

type nowhere struct{ io.Writer }

func (nowhere) Close() error { return nil }

// plain is wazero as it comes: nothing can end its guests.
type plain struct {
	rt   wazero.Runtime
	code wazero.CompiledModule
	ctx  context.Context // of the guest's calls
}

func loadWazero(ctx context.Context, code []byte) (program, error) {
	p := &plain{rt: wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfigCompiler()), ctx: ctx}
	_, err := wasi_snapshot_preview1.Instantiate(ctx, p.rt)
	if err == nil {
		p.code, err = p.rt.CompileModule(ctx, code)
	}
	if err != nil {
		return nil, errors.Join(err, p.close())
	}
	return p, nil
}

func (p *plain) close() error { return p.rt.Close(context.WithoutCancel(p.ctx)) }

func (p *plain) run(stdout string, args ...string) (uint32, error) {
	out, err := open(stdout)
	if err != nil {
		return 0, err
	}
	defer out.Close()
	config := wazero.NewModuleConfig().WithName("").WithArgs(args...).WithStdout(out).WithSysWalltime().WithSysNanotime()
	mod, err := p.rt.InstantiateModule(p.ctx, p.code, config)
	if exit, ok := errors.AsType[*sys.ExitError](err); ok {
		return exit.ExitCode(), nil
	}
	if err != nil {
		return 0, err
	}
	return 0, mod.Close(p.ctx)
}

// ours is package wasmrt, as a node runs pods.
type ours struct {
	host   *wasmrt.Host
	module *wasmrt.Module
	ctx    context.Context // of the starts
}

func loadCopepod(ctx context.Context, host *wasmrt.Host, code []byte) (program, error) {
	m, err := host.Load(ctx, code)
	if err != nil {
		return nil, err
	}
	return &ours{host: host, module: m, ctx: ctx}, nil
}

func (o *ours) close() error { return o.module.Close() }

func (o *ours) run(stdout string, args ...string) (uint32, error) {
	out, err := open(stdout)
	if err != nil {
		return 0, err
	}
	defer out.Close()
	i, err := o.host.Start(o.ctx, o.module, wasmrt.Program{Args: args, Stdout: out})
	if err != nil {
		return 0, err
	}
	exit, err := i.Wait(o.ctx)
	if err != nil {
		return 0, err
	}
	if exit.Reason != wasmrt.Completed && exit.Reason != wasmrt.Error {
		return 0, fmt.Errorf("%v: %s", exit.Reason, exit.Message)
	}
	return uint32(exit.Code), nil
}

// other is wasmtime.
type other struct {
	engine *wasmtime.Engine
	module *wasmtime.Module
	linker *wasmtime.Linker
	epoch  bool
	end    func() // of the epochs
}

// epoch is how often wasmtime's guests could be interrupted. They need to be told
// from outside, and the Go binding can end them but not let others run in between.
const epoch = 10 * time.Millisecond

func loadWasmtime(code []byte, interruptible bool) (program, error) {
	config := wasmtime.NewConfig()
	config.SetEpochInterruption(interruptible)
	w := &other{engine: wasmtime.NewEngineWithConfig(config), epoch: interruptible, end: func() {}}
	var err error
	if w.module, err = wasmtime.NewModule(w.engine, code); err != nil {
		w.engine.Close()
		return nil, err
	}
	w.linker = wasmtime.NewLinker(w.engine)
	if err := w.linker.DefineWasi(); err != nil {
		return nil, errors.Join(err, w.close())
	}
	if interruptible {
		w.count()
	}
	return w, nil
}

// count begins a new epoch now and then, until w.end.
func (w *other) count() {
	stop := make(chan struct{})
	var counter sync.WaitGroup
	counter.Go(func() {
		tick := time.NewTicker(epoch)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				w.engine.IncrementEpoch()
			case <-stop:
				return
			}
		}
	})
	w.end = func() { close(stop); counter.Wait() }
}

func (w *other) close() error {
	w.end()
	w.linker.Close()
	w.module.Close()
	w.engine.Close()
	return nil
}

func (w *other) run(stdout string, args ...string) (uint32, error) {
	store, instance, err := w.instantiate(stdout, args...)
	if err != nil {
		return 0, err
	}
	defer store.Close()
	_, err = instance.GetFunc(store, "_start").Call(store)
	if e, ok := errors.AsType[*wasmtime.Error](err); ok {
		if code, exited := e.ExitStatus(); exited {
			return uint32(code), nil
		}
	}
	return 0, err
}

// instantiate makes an instance; whoever closes the store frees it.
func (w *other) instantiate(stdout string, args ...string) (*wasmtime.Store, *wasmtime.Instance, error) {
	config := wasmtime.NewWasiConfig()
	config.SetArgv(args)
	if stdout != "" {
		if err := config.SetStdoutFile(stdout); err != nil {
			config.Close()
			return nil, nil, err
		}
	}
	store := wasmtime.NewStore(w.engine)
	store.SetWasi(config)
	if w.epoch {
		store.SetEpochDeadline(1 << 40) // never reached, looked at all the same
	}
	instance, err := w.linker.Instantiate(store, w.module)
	if err != nil {
		store.Close()
		return nil, nil, err
	}
	return store, instance, nil
}
