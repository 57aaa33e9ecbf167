package wasmrt

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"runtime/debug"
	"sync"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/experimental"

	"copepod/wasmrt/memory"
	"copepod/wasmrt/rewrite"
	"copepod/wasmrt/wasi"
)

// Clone is an instance that begins each use with its Image. It is for one use at
// a time, on one goroutine; Close is for any.
type Clone struct {
	image   *Image
	mod     api.Module
	memory  *memory.Allocator
	meter   *meter
	globals []api.MutableGlobal // in the order of Image.names
	base    context.Context     // of all uses

	// A function has a stack of its own, which stays as large as it ever grew; so
	// they are made anew now and then.
	functions map[string]api.Function
	uses      int // since then

	// Of the use under way.
	guest   context.Context // of the guest's calls
	quiet   func() bool     // lets go of the use's context
	spoiled bool            // the guest ended in a way that is not put back

	mu     sync.Mutex   // guards what follows
	system *wasi.System // nil between uses
	busy   bool         // from Begin to the end of End
	closed bool
	freed  bool
}

// Use is what the guest sees in one use, beyond what it has in all.
type Use struct {
	Args, Env      []string // nil: those of the image's Program
	Stdin          io.Reader
	Stdout, Stderr io.Writer // nil: those of the image's Program
}

// Clone makes an instance that begins with the image. The ctx bounds the time
// that takes. It fails with a *MemoryError where the clones together would be
// past the limit on memory.
func (i *Image) Clone(ctx context.Context) (*Clone, error) {
	i.mu.Lock()
	c := i.first
	i.first = nil
	i.mu.Unlock()
	if c != nil {
		return c, nil
	}
	c, err := i.clone(ctx)
	if err != nil {
		return nil, fmt.Errorf("clone of %s: %w", i.cfg.Program.Name, err)
	}
	return c, nil
}

func (i *Image) clone(ctx context.Context) (*Clone, error) {
	p := &i.cfg.Program
	c := &Clone{image: i, memory: memory.NewWithin(i.budget, p.MemoryLimit), meter: newMeter(0, i.share.newTurn())}
	c.meter.limit = i.quota
	c.base = context.WithValue(context.Background(), meterKey{}, c.meter)
	if least := i.module.info.MinMemory; least > c.memory.Limit() {
		return nil, &MemoryError{Need: least, Limit: c.memory.Limit()}
	}
	if err := i.register(c); err != nil {
		return nil, err
	}
	err := c.begin(ctx, Use{}, i.cfg.Context)
	if err == nil {
		if err = c.ready(); err != nil {
			c.spoiled = true
		}
		if !c.settle(c.finish()) && err == nil {
			err = cmp.Or(ctx.Err(), errImageClosed)
		}
	}
	if err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// ready instantiates the module and brings it to where the image is, or takes
// the image if there is none.
func (c *Clone) ready() error {
	i := c.image
	if err := c.run(c.instantiate); err != nil {
		if i.memory != nil && c.memory.Refused() || c.mod == nil && c.memory.Refused() {
			return &MemoryError{Need: i.Size(), Limit: c.memory.Limit()}
		}
		return &ExitError{c.outcome(err)}
	}
	c.meter.find(c.mod)
	c.meter.fuel.Set(c.meter.refill)
	if i.memory != nil {
		return c.adopt()
	}
	for _, name := range i.cfg.Init {
		f := c.mod.ExportedFunction(name)
		if f == nil {
			continue
		}
		if _, exit := c.call(f, nil); exit != nil && exit.Reason != Completed {
			return &ExitError{*exit}
		}
	}
	return i.capture(c)
}

func (c *Clone) instantiate() error {
	ctx := experimental.WithMemoryAllocator(c.guest, c.memory)
	config := wazero.NewModuleConfig().WithName("").WithStartFunctions().WithRandSource(rand.Reader)
	mod, err := c.image.module.rt.InstantiateModule(ctx, c.image.module.code, config)
	c.mod = mod
	return err
}

// adopt makes a fresh instance what the image is.
func (c *Clone) adopt() error {
	i := c.image
	if more := i.memory.Size() - c.memory.Size(); more > 0 {
		if _, ok := c.mod.Memory().Grow(uint32(more / memory.PageSize)); !ok {
			return &MemoryError{Need: i.memory.Size(), Limit: c.memory.Limit()}
		}
	}
	c.find(i.names)
	c.reset()
	return c.memory.Adopt(i.memory)
}

// find looks the mutable globals up.
func (c *Clone) find(names []string) {
	c.globals = make([]api.MutableGlobal, len(names))
	for n, name := range names {
		c.globals[n] = c.mod.ExportedGlobal(name).(api.MutableGlobal)
	}
}

func (c *Clone) reset() {
	for n, g := range c.globals {
		g.Set(c.image.globals[n])
	}
}

// Begin starts a use. The guest is killed when ctx ends; host adds to the
// context of its calls what host modules look for there, and may be nil. End has
// to follow, even after an error.
func (c *Clone) Begin(ctx context.Context, u Use, host func(context.Context) context.Context) error {
	if err := c.begin(ctx, u, host); err != nil {
		c.spoiled = true
		return fmt.Errorf("use of %s: %w", c.image.cfg.Program.Name, err)
	}
	return nil
}

func (c *Clone) begin(ctx context.Context, u Use, host func(context.Context) context.Context) error {
	p := &c.image.cfg.Program
	if u.Args == nil {
		u.Args = p.Args
	}
	if u.Env == nil {
		u.Env = p.Env
	}
	if u.Stdout == nil {
		u.Stdout = p.Stdout
	}
	if u.Stderr == nil {
		u.Stderr = p.Stderr
	}
	system, err := wasi.New(wasi.Config{
		Args: u.Args, Env: u.Env, Stdin: u.Stdin, Stdout: c.meter.output(u.Stdout), Stderr: c.meter.output(u.Stderr),
		Preopens: c.image.mounts, Network: p.Network, Clock: c.meter, Started: c.image.started,
		Terminal: p.Terminal, Trace: c.meter.output(p.Trace), Descriptors: c.image.host.files,
	})
	if err != nil {
		return err
	}
	c.mu.Lock()
	closed := c.closed
	if !closed {
		c.system, c.busy = system, true
	}
	c.mu.Unlock()
	if closed {
		system.Close()
		return errImageClosed
	}
	c.meter.system, c.meter.broken = system, true
	c.guest = c.base
	if host != nil {
		c.guest = host(c.guest)
	}
	c.guest = system.Context(c.guest)
	if ctx.Done() != nil {
		c.quiet = context.AfterFunc(ctx, system.Interrupt)
	}
	c.uses++
	return nil
}

// Meter is to be told when a host module makes the guest wait.
func (c *Clone) Meter() wasi.Meter { return c.meter }

// Call calls a function that the module exports, with parameters that fit. The
// Exit is nil if it returned; else the guest ended in it, and the use is over.
func (c *Clone) Call(name string, params ...uint64) ([]uint64, *Exit) {
	f := c.function(name)
	if f == nil {
		return nil, &Exit{Code: TrapCode, Reason: Trap, Message: "it exports no function " + shown(name)}
	}
	return c.call(f, params)
}

// functionUses is after how many uses a clone's functions are made anew.
const functionUses = 100

func (c *Clone) function(name string) api.Function {
	if c.functions == nil || c.uses > functionUses {
		c.functions, c.uses = map[string]api.Function{}, 0
	}
	f, ok := c.functions[name]
	if !ok {
		f = c.mod.ExportedFunction(name)
		c.functions[name] = f
	}
	return f
}

func (c *Clone) call(f api.Function, params []uint64) (results []uint64, exit *Exit) {
	err := c.run(func() (err error) {
		results, err = f.Call(c.guest, params...)
		if depth := c.mod.ExportedGlobal(rewrite.DepthGlobal); err != nil && depth != nil && int64(depth.Get()) > callStack {
			err = &overflowError{err}
		}
		return err
	})
	if err == nil {
		return results, nil
	}
	e := c.outcome(err)
	if !c.system.Exited() || c.system.Interrupted() {
		c.spoiled = true
	}
	return nil, &e
}

// run runs the guest on the account of its meter. A panic here is wazero's or
// ours; it ends the guest and not the host.
func (c *Clone) run(guest func() error) (err error) {
	defer func() {
		c.meter.Park()
		p := recover()
		if left, ok := p.(error); ok && c.system.Interrupted() {
			err = left // the way out of a wait, outside of any call
		} else if p != nil {
			if !c.memory.Refused() { // no room for the memory that it begins with: wazero has no other way to say so
				c.image.host.log.Error("guest call panicked", "program", c.image.cfg.Program.Name, "panic", p, "stack", string(debug.Stack()))
			}
			err = errors.New("the host could not run it")
		}
	}()
	c.meter.Resume()
	return guest()
}

// outcome tells what ended the guest.
func (c *Clone) outcome(err error) Exit {
	i := Instance{host: c.image.host, module: c.image.module, name: c.image.cfg.Program.Name, system: c.system, memory: c.memory}
	return i.outcome(err)
}

// End ends a use and puts the clone back to the image. It reports whether it can
// be used again; if not, it is closed.
func (c *Clone) End() bool { return c.settle(c.finish() && c.rewind()) }

// settle ends what begin began.
func (c *Clone) settle(well bool) bool {
	c.mu.Lock()
	c.busy = false
	well = well && !c.closed
	c.mu.Unlock()
	if !well {
		c.Close()
	}
	return well
}

// finish frees what the use held, and reports whether the guest was left well.
func (c *Clone) finish() bool {
	if c.quiet != nil {
		c.quiet()
		c.quiet = nil
	}
	c.mu.Lock()
	system, well := c.system, !c.closed && !c.spoiled
	c.system = nil
	c.mu.Unlock()
	if system == nil {
		return false
	}
	well = well && !system.Interrupted()
	system.Close()
	c.guest, c.meter.system = nil, nil
	return well
}

func (c *Clone) rewind() bool {
	if c.image.memory == nil {
		return false
	}
	if _, err := c.memory.Rewind(); err != nil {
		if !errors.Is(err, memory.ErrGrown) {
			c.image.host.log.Error("guest not rewound", "program", c.image.cfg.Program.Name, "err", err)
		}
		return false
	}
	c.reset()
	c.image.host.counters.rewound.Add(1)
	return true
}

// interrupt ends the use under way, and lets none begin. It reports whether the
// caller is to free the clone.
func (c *Clone) interrupt() (free bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	if c.system != nil {
		c.system.Interrupt()
	}
	free = !c.busy && !c.freed
	c.freed = c.freed || free
	return free
}

// Close ends the use under way and frees the clone: now, or when that has ended.
// It may be called again.
func (c *Clone) Close() {
	if !c.interrupt() {
		return // End frees it, or somebody has
	}
	if c.mod != nil {
		if err := c.mod.Close(context.Background()); err != nil {
			c.image.host.log.Error("instance not closed", "program", c.image.cfg.Program.Name, "err", err)
		}
	}
	c.memory.Free() // no call runs any more, so the addresses may go
	c.image.forget(c)
}
