package wasmrt

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/experimental"
	"github.com/tetratelabs/wazero/sys"

	"copepod/wasmrt/memory"
	"copepod/wasmrt/rewrite"
	"copepod/wasmrt/wasi"
)

// Instance is one run of a module. Its methods are safe from any goroutine.
type Instance struct {
	host   *Host
	module *compiled
	name   string
	system *wasi.System
	memory *memory.Allocator
	meter  *meter
	done   chan struct{}
	exit   Exit  // set before done is closed
	peak   Stats // set before done is closed
}

// Stats is what an instance uses now.
type Stats struct {
	MemoryBytes int64         // linear memory
	CPU         time.Duration // processor time since the start
}

// Start runs the module's _start. It returns once the guest has a goroutine;
// what goes wrong from there on is the Exit. The ctx is for Start alone: only
// Kill, Host.Close, or the guest itself ends an instance. Start fails with an
// *UnsupportedError for a module without _start, and a *MemoryError for one
// whose initial memory is past the limit.
func (h *Host) Start(ctx context.Context, m *Module, p Program) (*Instance, error) {
	i, err := h.prepare(ctx, m, p)
	if err != nil {
		for _, l := range p.Listeners {
			l.Close()
		}
		return nil, fmt.Errorf("start %s: %w", cmp.Or(p.Name, "program"), err)
	}
	guest := context.WithoutCancel(ctx)
	guest = context.WithValue(guest, meterKey{}, i.meter)
	guest = experimental.WithMemoryAllocator(guest, i.memory)
	h.counters.started.Add(1)
	go func() {
		defer h.work.Done()
		i.run(i.system.Context(guest))
	}()
	return i, nil
}

// prepare checks and opens all that the instance needs, and registers it.
func (h *Host) prepare(ctx context.Context, m *Module, p Program) (*Instance, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	info := m.Info()
	if !info.Command() {
		feature := "no function exported as _start"
		if info.Reactor() {
			feature = "a reactor (it exports _initialize and no _start)"
		}
		return nil, &UnsupportedError{Feature: feature, Advice: "a program has a main function that is compiled to _start"}
	}
	i := &Instance{
		host:   h,
		module: m.shared,
		name:   p.Name,
		memory: memory.New(p.MemoryLimit),
		meter:  newMeter(p.CPUMilli, h.fair.newTurn(p.CPUWeight)),
		done:   make(chan struct{}),
	}
	if info.MinMemory > i.memory.Limit() {
		return nil, &MemoryError{Need: info.MinMemory, Limit: i.memory.Limit()}
	}
	system, err := wasi.New(wasi.Config{
		Args: p.Args, Env: p.Env,
		Stdin: p.Stdin, Stdout: i.meter.output(p.Stdout), Stderr: i.meter.output(p.Stderr),
		Listeners: p.Listeners, Mounts: p.Mounts, Network: p.Network,
		Terminal: p.Terminal, Trace: i.meter.output(p.Trace),
		Clock: i.meter, Descriptors: h.files,
	})
	if err != nil {
		return nil, err
	}
	i.system, i.meter.system = system, system
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed || m.closed.Load() {
		system.Close()
		if h.closed {
			return nil, ErrClosed
		}
		return nil, errors.New("the module is closed")
	}
	m.shared.refs++
	h.work.Add(1)
	h.instances[i] = struct{}{}
	return i, nil
}

// run is the guest's goroutine, from the first instruction to the last file
// closed.
func (i *Instance) run(ctx context.Context) {
	err := i.call(ctx)
	i.meter.finish()
	i.peak = Stats{MemoryBytes: i.memory.Size(), CPU: i.meter.total()}
	i.exit = i.outcome(err)
	i.system.Close()
	i.memory.Free() // no call runs any more, so the addresses may go
	h := i.host
	h.counters.exits[i.exit.Reason].Add(1)
	h.mu.Lock()
	delete(h.instances, i)
	h.mu.Unlock()
	if err := h.release(i.module); err != nil {
		h.log.Error("module not freed", "program", i.name, "err", err)
	}
	close(i.done)
}

// call instantiates the module and runs it. A panic here is wazero's or ours;
// it ends the guest and not the host.
func (i *Instance) call(ctx context.Context) (err error) {
	defer func() {
		switch p := recover().(type) {
		case nil:
		case *sys.ExitError: // killed before it had its first turn
			err = p
		default:
			i.host.log.Error("guest call panicked", "program", i.name, "panic", p, "stack", string(debug.Stack()))
			err = errors.New("the host could not run it")
		}
	}()
	i.meter.begin()
	// The source of randomness is named only because wazero would seed one of
	// its own for each instance, which costs more than the rest of the start.
	config := wazero.NewModuleConfig().WithName("").WithStartFunctions().WithRandSource(rand.Reader)
	mod, err := i.module.rt.InstantiateModule(ctx, i.module.code, config)
	if err != nil {
		return err
	}
	defer mod.Close(ctx)
	_, err = mod.ExportedFunction("_start").Call(ctx)
	if depth := mod.ExportedGlobal(rewrite.DepthGlobal); err != nil && depth != nil && int64(depth.Get()) > callStack {
		err = &overflowError{err}
	}
	return err
}

// overflowError is the trap of a guest whose calls were nested too deep.
type overflowError struct{ trap error }

func (e *overflowError) Error() string {
	return strings.Replace(e.trap.Error(), "unreachable", fmt.Sprintf("stack overflow: its calls took more than %d bytes", callStack), 1)
}

func (e *overflowError) Unwrap() error { return e.trap }

// outcome tells what ended the guest from what its call returned.
func (i *Instance) outcome(err error) Exit {
	exit, exited := errors.AsType[*sys.ExitError](err)
	switch {
	case err == nil:
		return Exit{Reason: Completed}
	case exited && !i.system.Exited():
		return Exit{Code: wasi.InterruptedCode, Reason: Killed, Message: "killed"}
	case exited && exit.ExitCode() == 0:
		return Exit{Reason: Completed}
	case i.memory.Refused():
		return Exit{Code: wasi.InterruptedCode, Reason: OOMKilled, Message: fmt.Sprintf(
			"out of memory: it asked for more than its limit of %d bytes", i.memory.Limit())}
	case exited:
		return Exit{Code: exit.ExitCode(), Reason: Error, Message: fmt.Sprintf("exit code %d", exit.ExitCode())}
	}
	return Exit{Code: TrapCode, Reason: Trap, Message: i.trapMessage(err)}
}

// maxTrapMessage bounds a text that holds names of the guest's choosing.
const maxTrapMessage = 16 << 10

// trapMessage is the trap and the wasm stack. A fault of our own says so, and
// keeps the host's stack for the host's log.
func (i *Instance) trapMessage(err error) string {
	message := namedLines(err.Error(), i.module.lines)
	if _, ours := errors.AsType[runtime.Error](err); ours {
		i.host.log.Error("host function panicked", "program", i.name, "err", err)
		message, _, _ = strings.Cut(message, "\n\n")
	}
	if len(message) > maxTrapMessage {
		message = strings.ToValidUTF8(message[:maxTrapMessage], "") + "\n…"
	}
	return message
}

// Done is closed when the instance has ended and everything it held is free.
func (i *Instance) Done() <-chan struct{} { return i.done }

// Wait returns how the instance ended, or ctx's error if that comes first.
func (i *Instance) Wait(ctx context.Context) (Exit, error) {
	select {
	case <-i.done:
		return i.exit, nil
	case <-ctx.Done():
		return Exit{}, ctx.Err()
	}
}

// Kill ends the guest: at once if it waits in a call to the host, else at its
// next call or its next tick, which is some milliseconds at most. It does not
// wait for that.
func (i *Instance) Kill() { i.system.Interrupt() }

// Terminate asks the guest to end: its listeners close, and its standard input
// is at the end. Guests have no signals; one that does not care goes on until
// Kill.
func (i *Instance) Terminate() { i.system.Terminate() }

// Stats is what the instance uses now, or used when it ended.
func (i *Instance) Stats() Stats {
	select {
	case <-i.done:
		return i.peak
	default:
		return Stats{MemoryBytes: i.memory.Size(), CPU: i.meter.total()}
	}
}
