package wasmrt

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/experimental"

	"copepod/wasmrt/memory"
	"copepod/wasmrt/rewrite"
	"copepod/wasmrt/wasi"
)

// Image is a module that stands ready for work: it was initialised, and each use
// of it begins where that left off. Uses happen on clones:
//
//	image, err := host.Image(ctx, module, wasmrt.ImageConfig{Program: p, Init: []string{"_initialize"}})
//	clone, err := image.Clone(ctx)                   // a millisecond, or less
//	err = clone.Begin(ctx, wasmrt.Use{Env: env})     // microseconds
//	results, exit := clone.Call("handle_request")
//	again := clone.End()                             // put back to the image
//
// A clone starts with the image's memory and globals, and goes back to them after
// a use. Descriptors are each use's own: what the initialisation opened is closed
// before the first. What it learnt of chance it keeps, so uses that draw on a
// generator seeded then all draw the same; random_get gives each its own.
//
// A module that changes tables, drops segments, or keeps references or vectors in
// globals cannot be put back. Its clones are initialised each, and used once.
type Image struct {
	host    *Host
	module  *compiled
	cfg     ImageConfig
	started time.Time // where the guests' monotonic clock begins
	budget  *memory.Budget
	quota   *quota
	share   *share // of the processor
	mounts  *wasi.Preopens

	// Where clones begin; memory is nil if the module cannot be put back.
	memory  *memory.Image
	globals []uint64 // in the order of names
	names   []string

	mu     sync.Mutex // guards what follows
	closed bool
	first  *Clone // ready since the image was taken
	clones map[*Clone]struct{}
	spent  time.Duration // processor time of clones that are gone
}

// ImageConfig says how a module is made ready.
type ImageConfig struct {
	// Program is what the guest sees while it initialises, and the limits on all
	// clones together. It has no Listeners, and Stdin is not read.
	Program Program
	// Init names the functions that are called first, as far as the module exports
	// them. One that ends in exit code 0 has returned.
	Init []string
	// Context adds to the context what host modules look for there while the guest
	// initialises; may be nil.
	Context func(context.Context) context.Context
}

var errImageClosed = errors.New("the image is closed")

// ExitError is an initialisation that ended the guest.
type ExitError struct{ Exit Exit }

func (e *ExitError) Error() string { return e.Exit.Reason.String() + ": " + e.Exit.Message }

// Image initialises the module and keeps what it then is. The ctx bounds the
// initialisation. It fails with an *ExitError if that ended the guest, and with a
// *MemoryError for a module whose memory is past the limit.
func (h *Host) Image(ctx context.Context, m *Module, cfg ImageConfig) (*Image, error) {
	i := &Image{
		host: h, module: m.shared, cfg: cfg, started: time.Now(),
		quota:  &quota{milli: cfg.Program.CPUMilli},
		share:  h.fair.newShare(cfg.Program.CPUWeight),
		clones: map[*Clone]struct{}{},
	}
	if cfg.Program.MemoryLimit > 0 {
		i.budget = memory.NewBudget(cfg.Program.MemoryLimit)
	}
	if err := h.keep(m, i); err != nil {
		return nil, fmt.Errorf("image of %s: %w", cfg.Program.Name, err)
	}
	c, err := i.begin(ctx)
	if err != nil {
		i.Close()
		return nil, fmt.Errorf("image of %s: %w", cfg.Program.Name, err)
	}
	i.mu.Lock()
	i.first = c
	i.mu.Unlock()
	return i, nil
}

// begin opens what all clones have in common, and makes the first.
func (i *Image) begin(ctx context.Context) (*Clone, error) {
	var err error
	if i.mounts, err = wasi.OpenMounts(i.cfg.Program.Mounts, i.host.files); err != nil {
		return nil, err
	}
	return i.clone(ctx)
}

// keep registers an image with the host.
func (h *Host) keep(m *Module, i *Image) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.closed:
		return ErrClosed
	case m.closed.Load():
		return errors.New("the module is closed")
	case h.images == nil:
		h.images = map[*Image]struct{}{}
	}
	h.images[i] = struct{}{}
	m.shared.refs++
	h.work.Add(1)
	return nil
}

// Rewindable reports whether clones can be used more than once.
func (i *Image) Rewindable() bool { return i.memory != nil }

// Size is the memory of the guest when a use begins, in bytes.
func (i *Image) Size() int64 {
	if i.memory == nil {
		return i.module.info.MinMemory
	}
	return i.memory.Size()
}

// Function is the type of a function that the module exports.
func (i *Image) Function(name string) (params, results []api.ValueType, ok bool) {
	f, ok := i.module.code.ExportedFunctions()[name]
	if !ok {
		return nil, nil, false
	}
	return f.ParamTypes(), f.ResultTypes(), true
}

// Stats is what all clones use now, and the processor time that all have used.
func (i *Image) Stats() Stats {
	i.mu.Lock()
	defer i.mu.Unlock()
	s := Stats{CPU: i.spent}
	for c := range i.clones {
		s.MemoryBytes += c.memory.Size()
		s.CPU += c.meter.total()
	}
	return s
}

// Close ends every use and frees the image, once the last clone is free. It does
// not wait. It may be called again.
func (i *Image) Close() { i.stop() }

// stop is Close, with or without Host.mu held.
func (i *Image) stop() {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.closed {
		return
	}
	i.closed = true
	go i.sweep() // the host's work counts the image until it is free
}

// sweep ends every use, frees the clones that nobody uses, and the image with the
// last.
func (i *Image) sweep() {
	i.mu.Lock()
	var all []*Clone
	for c := range i.clones {
		all = append(all, c)
	}
	i.mu.Unlock()
	for _, c := range all {
		c.Close()
	}
	i.mu.Lock()
	none := len(i.clones) == 0 && i.clones != nil
	if none {
		i.clones = nil // who comes next does not free it again
	}
	i.mu.Unlock()
	if none {
		i.free()
	}
}

// held is what the host counts.
func (i *Image) held() (clones, bytes int64) {
	i.mu.Lock()
	defer i.mu.Unlock()
	for c := range i.clones {
		bytes += c.memory.Size()
	}
	return int64(len(i.clones)), bytes
}

// free is called once, when no clone is left of an image that is closed.
func (i *Image) free() {
	h := i.host
	if i.memory != nil {
		if err := i.memory.Close(); err != nil {
			h.log.Error("memory image not freed", "program", i.cfg.Program.Name, "err", err)
		}
	}
	if i.mounts != nil {
		if err := i.mounts.Close(); err != nil {
			h.log.Error("mounts not closed", "program", i.cfg.Program.Name, "err", err)
		}
	}
	h.mu.Lock()
	delete(h.images, i)
	h.mu.Unlock()
	if err := h.release(i.module); err != nil {
		h.log.Error("module not freed", "program", i.cfg.Program.Name, "err", err)
	}
	h.work.Done()
}

// forget takes a clone off the list, and frees the image with the last.
func (i *Image) forget(c *Clone) {
	i.mu.Lock()
	_, mine := i.clones[c]
	delete(i.clones, c)
	if mine {
		i.spent += c.meter.total()
	}
	last := mine && i.closed && len(i.clones) == 0
	if last {
		i.clones = nil
	}
	i.mu.Unlock()
	if last {
		i.free()
	}
}

// register puts a clone on the list.
func (i *Image) register(c *Clone) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.closed {
		return errImageClosed
	}
	i.clones[c] = struct{}{}
	return nil
}

// capture makes the clone's state the one that all begin with, if the module can
// be put back to it.
func (i *Image) capture(c *Clone) error {
	if c.mod.ExportedGlobal(rewrite.RewindGlobal) == nil {
		return nil
	}
	taken, err := c.memory.Image()
	if err != nil {
		return err
	}
	i.names = []string{rewrite.DepthGlobal}
	if inside, ok := c.mod.(experimental.InternalModule); ok {
		for n := range inside.NumGlobal() {
			i.names = append(i.names, rewrite.GlobalPrefix+strconv.Itoa(n))
		}
	}
	i.names = slices.DeleteFunc(i.names, func(name string) bool { return c.mod.ExportedGlobal(name) == nil })
	c.find(i.names)
	for _, g := range c.globals {
		i.globals = append(i.globals, g.Get())
	}
	i.memory = taken
	return c.memory.Adopt(taken)
}
