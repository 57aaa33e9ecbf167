// Package runtimetest holds what every runtime must do, as a suite that each
// implementation runs, and a fake runtime that does real work: its images are
// Go functions, which read their environment, serve their listeners and write
// their output as a guest would. It knows only the seam; it never learns which
// runtime it tests.
//
//	rt := runtimetest.NewFake(map[string]runtimetest.Guest{"hello:v1": hello})
//	runtimetest.Run(t, runtimetest.Subject{Runtime: rt, Image: runtimetest.GuestImage})
package runtimetest

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"copepod/node/runtime"
)

// Guest is a program: it returns its exit code. ctx ends when it is killed;
// Process.Stopping is closed when it is asked to stop.
type Guest func(ctx context.Context, p Process) int

// Process is what a guest sees.
type Process struct {
	runtime.Spec
	Argv     []string
	Stopping <-chan struct{}
}

// Getenv is the value of an environment variable, or "".
func (p Process) Getenv(name string) string {
	for _, kv := range p.Env {
		if v, ok := strings.CutPrefix(kv, name+"="); ok {
			return v
		}
	}
	return ""
}

// Fake is a runtime whose images are functions.
type Fake struct {
	CreateFunc func(runtime.Spec) error // when set, may refuse
	StartFunc  func(runtime.Spec) error // when set, may refuse
	PullFunc   func(ctx context.Context, name string) error

	Pulls, Creates, Starts atomic.Int64

	mu     sync.Mutex // guards what follows
	local  map[string]Guest
	remote map[string]Guest
}

// NewFake makes a runtime that has these images on its machine.
func NewFake(images map[string]Guest) *Fake {
	return &Fake{local: images, remote: map[string]Guest{}}
}

// Publish makes an image that has to be pulled first.
func (f *Fake) Publish(name string, g Guest) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.remote[name] = g
}

// Image finds an image on this machine.
func (f *Fake) Image(_ context.Context, name string) (runtime.Image, error) {
	if name == "" || strings.ContainsAny(name, " ?") {
		return runtime.Image{}, fmt.Errorf("%q: %w", name, runtime.ErrImageName)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.local[name] == nil {
		return runtime.Image{}, fmt.Errorf("%s: %w", name, runtime.ErrNoImage)
	}
	return describe(name), nil
}

// Pull copies a published image to this machine.
func (f *Fake) Pull(ctx context.Context, name string, _ runtime.Credentials) (runtime.Image, error) {
	f.Pulls.Add(1)
	if f.PullFunc != nil {
		if err := f.PullFunc(ctx, name); err != nil {
			return runtime.Image{}, err
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if g := f.remote[name]; g != nil {
		f.local[name] = g
	}
	if f.local[name] == nil {
		return runtime.Image{}, fmt.Errorf("%s: %w", name, runtime.ErrNoImage)
	}
	return describe(name), nil
}

func describe(name string) runtime.Image {
	return runtime.Image{Name: name, ID: fmt.Sprintf("%s@sha256:%x", name, sha256.Sum256([]byte(name))), Size: int64(len(name))}
}

// Create readies a guest.
func (f *Fake) Create(_ context.Context, spec runtime.Spec) (runtime.Container, error) {
	n := f.Creates.Add(1)
	if f.CreateFunc != nil {
		if err := f.CreateFunc(spec); err != nil {
			return nil, err
		}
	}
	f.mu.Lock()
	guest := f.local[spec.Image.Name]
	f.mu.Unlock()
	if guest == nil {
		return nil, fmt.Errorf("%s: %w", spec.Image.Name, runtime.ErrNoImage)
	}
	if spec.Stdout == nil {
		spec.Stdout = io.Discard
	}
	if spec.Stderr == nil {
		spec.Stderr = io.Discard
	}
	c := &container{
		fake: f, guest: guest, spec: spec, id: fmt.Sprintf("fake://%d", n),
		stopping: make(chan struct{}), killed: make(chan struct{}), done: make(chan struct{}),
	}
	return c, nil
}

type container struct {
	fake  *Fake
	guest Guest
	spec  runtime.Spec
	id    string

	stopping, killed, done chan struct{}

	mu      sync.Mutex // guards what follows
	started bool
	ended   bool
	exit    runtime.Exit
}

func (c *container) ID() string { return c.id }

func (c *container) Start(ctx context.Context) error {
	if c.fake.StartFunc != nil {
		if err := c.fake.StartFunc(c.spec); err != nil {
			return err
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended {
		return context.Canceled
	}
	c.started = true
	c.fake.Starts.Add(1)
	go c.run(context.WithoutCancel(ctx))
	return nil
}

// run is the guest's goroutine. A killed guest is left behind, as a guest in an
// endless loop would be: what it does then is seen by nobody.
func (c *container) run(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	code := make(chan int, 1)
	go func() {
		argv := append(append([]string{}, c.spec.Command...), c.spec.Args...)
		code <- c.guest(ctx, Process{Spec: c.spec, Argv: argv, Stopping: c.stopping})
	}()
	select {
	case n := <-code:
		reason := runtime.Completed
		if n != 0 {
			reason = runtime.Error
		}
		c.end(runtime.Exit{Code: int32(n), Reason: reason})
	case <-c.killed:
		c.end(runtime.Exit{Code: 137, Reason: runtime.Error})
	}
}

func (c *container) end(exit runtime.Exit) {
	c.mu.Lock()
	c.exit, c.ended = exit, true
	c.mu.Unlock()
	close(c.done)
}

func (c *container) Stop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	select {
	case <-c.stopping:
		return
	default:
	}
	close(c.stopping)
	for _, l := range c.spec.Listeners {
		_ = l.Close()
	}
}

func (c *container) Kill() {
	c.mu.Lock()
	defer c.mu.Unlock()
	select {
	case <-c.killed:
		return
	default:
	}
	close(c.killed)
	if !c.started {
		c.exit, c.ended = runtime.Exit{Code: 137, Reason: runtime.Error}, true
		close(c.done)
	}
}

func (c *container) Done() <-chan struct{} { return c.done }

func (c *container) Exit() runtime.Exit {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.exit
}

// Stats pretends that the guest used a millisecond and holds a page of memory.
func (c *container) Stats() runtime.Stats {
	return runtime.Stats{CPU: time.Millisecond, MemoryBytes: 65536}
}

// Exec knows two commands, true and false.
func (c *container) Exec(_ context.Context, argv []string, output io.Writer) (int, error) {
	switch argv[0] {
	case "true":
		return 0, nil
	case "false":
		_, _ = io.WriteString(output, "no\n")
		return 1, nil
	}
	return 0, fmt.Errorf("exec %s: no such command", argv[0])
}
