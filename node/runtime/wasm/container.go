package wasm

import (
	"context"
	"errors"
	"io"
	"sync"

	"copepod/node/runtime"
	"copepod/wasmrt"
)

// container is one run of a module. It has no goroutine of its own: its end is
// the instance's, and what is left is freed by who asks for the Exit.
type container struct {
	rt      *Runtime
	id      string
	program wasmrt.Program
	module  *loaded
	never   chan struct{} // closed when it was killed before it started

	mu       sync.Mutex // guards what follows
	instance *wasmrt.Instance
	dead     bool // killed before it started, or it failed to
	freed    bool
	exit     runtime.Exit // set with freed
}

var (
	_ runtime.Container = (*container)(nil)
	_ runtime.Statser   = (*container)(nil)
)

// ID implements runtime.Container.
func (c *container) ID() string { return c.id }

var errUsed = errors.New("the container was started or killed before")

// Start implements runtime.Container.
func (c *container) Start(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.dead || c.instance != nil {
		return errUsed
	}
	i, err := c.rt.cfg.Host.Start(ctx, c.module.module, c.program)
	if err != nil {
		c.program.Listeners = nil // the host has closed them
		return err
	}
	c.instance = i
	return nil
}

// Stop implements runtime.Container.
func (c *container) Stop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.instance != nil {
		c.instance.Terminate()
	}
}

// Kill implements runtime.Container.
func (c *container) Kill() {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.instance != nil:
		c.instance.Kill()
	case !c.dead:
		c.dead = true
		for _, l := range c.program.Listeners {
			_ = l.Close()
		}
		c.free(runtime.Exit{Code: 137, Reason: runtime.Error})
		close(c.never)
	}
}

// Done implements runtime.Container.
func (c *container) Done() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.instance != nil {
		return c.instance.Done()
	}
	return c.never
}

// Exit implements runtime.Container. What a trap says goes to the program's
// standard error too, as a native program's last words would: that is where
// people look.
func (c *container) Exit() runtime.Exit {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.freed || c.instance == nil {
		return c.exit
	}
	e, err := c.instance.Wait(context.Background()) // it has ended
	if err != nil {
		return runtime.Exit{Code: 137, Reason: runtime.Error, Message: err.Error()}
	}
	if e.Reason == wasmrt.Trap && c.program.Stderr != nil {
		_, _ = io.WriteString(c.program.Stderr, e.Message+"\n")
	}
	c.free(exitOf(e))
	return c.exit
}

// free gives the module back. The caller holds c.mu.
func (c *container) free(e runtime.Exit) {
	c.freed, c.exit = true, e
	c.rt.release(c.module)
}

// Stats implements runtime.Statser.
func (c *container) Stats() runtime.Stats {
	c.mu.Lock()
	i := c.instance
	c.mu.Unlock()
	if i == nil {
		return runtime.Stats{}
	}
	s := i.Stats()
	return runtime.Stats{CPU: s.CPU, MemoryBytes: s.MemoryBytes}
}

// exitOf puts the end of an instance in the words of a container's status, where
// a plain exit code needs none.
func exitOf(e wasmrt.Exit) runtime.Exit {
	out := runtime.Exit{Code: int32(e.Code), Reason: runtime.Error} //nolint:gosec // shown as the guest gave it
	switch e.Reason {
	case wasmrt.Completed:
		out.Reason = runtime.Completed
	case wasmrt.OOMKilled:
		out.Reason, out.Message = runtime.OOMKilled, e.Message
	case wasmrt.Trap:
		out.Message = e.Message
	}
	return out
}
