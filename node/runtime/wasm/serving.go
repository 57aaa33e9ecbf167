package wasm

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"

	"copepod/node/runtime"
	"copepod/wasmrt"
	"copepod/wasmrt/serve"
)

var _ runtime.Handlers = (*Runtime)(nil)

// Handler implements runtime.Handlers: "wasm-cgi" and "wasm-http" answer requests
// with the image instead of running it, on the ports that the container declares,
// or on 8080.
func (r *Runtime) Handler(name string) (runtime.Runtime, bool) {
	mode := serve.Mode(name)
	if mode != serve.CGI && mode != serve.HTTP {
		return nil, false
	}
	return serving{r, mode}, true
}

// serving is the Runtime of images that answer requests.
type serving struct {
	*Runtime
	mode serve.Mode
}

// defaultPort is where a container listens that declares no port.
const defaultPort = 8080

// Create implements runtime.Runtime.
func (s serving) Create(ctx context.Context, spec runtime.Spec) (runtime.Container, error) {
	made, err := s.Runtime.Create(ctx, spec)
	if err != nil {
		return nil, err
	}
	c := made.(*container)
	if err := serve.Check(c.module.module.Info(), s.mode); err != nil {
		s.release(c.module)
		return nil, fmt.Errorf("image %s: %w", spec.Image.Name, err)
	}
	ctx, stop := context.WithCancel(context.Background())
	return &server{container: c, mode: s.mode, network: spec.Network, stopping: ctx, stop: stop, done: make(chan struct{})}, nil
}

// server is a container that answers requests. Its goroutine is there from Start
// to Done.
type server struct {
	*container // what it was created with; never started
	mode       serve.Mode
	network    runtime.Network
	stopping   context.Context // ends with Stop
	stop       context.CancelFunc
	done       chan struct{}

	state   sync.Mutex // guards what follows
	started bool
	killed  bool
	serves  *serve.Server // once it is initialised
	ended   runtime.Exit  // set before done is closed
	last    runtime.Stats
}

var (
	_ runtime.Container = (*server)(nil)
	_ runtime.Statser   = (*server)(nil)
)

// Start implements runtime.Container. The module is initialised after it has
// returned; who connects meanwhile waits.
func (s *server) Start(ctx context.Context) error {
	s.state.Lock()
	defer s.state.Unlock()
	if s.started || s.killed {
		return errUsed
	}
	listeners, err := s.listen(ctx)
	if err != nil {
		return err
	}
	program := s.program
	program.Listeners = nil
	held, err := hold(program.Mounts)
	if err != nil {
		for _, l := range listeners {
			_ = l.Close()
		}
		return err
	}
	program.Mounts = held.mounts
	s.started = true
	go func() {
		defer held.close()
		exit := s.run(program, listeners)
		s.state.Lock()
		s.ended = exit
		if s.serves != nil {
			s.last, s.serves = statsOf(s.serves), nil
		}
		s.state.Unlock()
		close(s.done)
	}()
	return nil
}

// listen is the ports that are open already, or else the default one.
func (s *server) listen(ctx context.Context) ([]net.Listener, error) {
	var list []net.Listener
	for _, l := range s.program.Listeners {
		list = append(list, l.Listener)
	}
	if len(list) > 0 {
		return list, nil
	}
	if s.network == nil {
		return nil, errors.New("it has no port to serve on, and no network to open one")
	}
	l, err := s.network.Listen(ctx, "tcp", net.JoinHostPort("", strconv.Itoa(defaultPort)))
	if err != nil {
		return nil, fmt.Errorf("the container declares no port, and the default cannot be opened: %w", err)
	}
	return []net.Listener{l}, nil
}

// run is the container's life, from initialisation to the last answer.
func (s *server) run(program wasmrt.Program, listeners []net.Listener) runtime.Exit {
	sv, err := serve.New(s.stopping, serve.Config{
		Host: s.rt.cfg.Host, Module: s.module.module, Mode: s.mode, Program: program, Log: s.rt.cfg.Log,
	})
	if err != nil {
		for _, l := range listeners {
			_ = l.Close()
		}
		return s.notServed(err)
	}
	s.state.Lock()
	s.serves = sv
	killed := s.killed
	s.state.Unlock()
	if killed {
		sv.Close()
	}
	err = sv.Run(s.stopping, listeners...)
	sv.Close()
	s.state.Lock()
	killed = s.killed
	s.state.Unlock()
	switch {
	case killed:
		return runtime.Exit{Code: 137, Reason: runtime.Error}
	case err != nil:
		return runtime.Exit{Code: 1, Reason: runtime.Error, Message: err.Error()}
	}
	return runtime.Exit{Reason: runtime.Completed}
}

// notServed is the end of a module that could not be initialised. What it says
// goes where people look: to the log and the status.
func (s *server) notServed(err error) runtime.Exit {
	exit := runtime.Exit{Code: 1, Reason: runtime.Error, Message: err.Error()}
	if guest, ok := errors.AsType[*wasmrt.ExitError](err); ok {
		exit = exitOf(guest.Exit)
		exit.Message = err.Error()
	}
	if s.stopping.Err() != nil {
		return exit // nobody asked for more
	}
	if s.program.Stderr != nil {
		_, _ = fmt.Fprintln(s.program.Stderr, err)
	}
	return exit
}

// Stop implements runtime.Container: no new requests; those under way go on.
func (s *server) Stop() { s.stop() }

// Kill implements runtime.Container.
func (s *server) Kill() {
	s.state.Lock()
	defer s.state.Unlock()
	s.stop()
	switch {
	case s.killed:
	case !s.started:
		for _, l := range s.program.Listeners {
			_ = l.Close()
		}
		s.ended = runtime.Exit{Code: 137, Reason: runtime.Error}
		s.give(s.ended)
		close(s.done)
	case s.serves != nil:
		s.serves.Close()
	}
	s.killed = true
}

// Done implements runtime.Container.
func (s *server) Done() <-chan struct{} { return s.done }

// Exit implements runtime.Container.
func (s *server) Exit() runtime.Exit {
	s.state.Lock()
	defer s.state.Unlock()
	s.give(s.ended)
	return s.ended
}

// give gives the module back, once.
func (s *server) give(exit runtime.Exit) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.freed {
		s.free(exit)
	}
}

// Stats implements runtime.Statser.
func (s *server) Stats() runtime.Stats {
	s.state.Lock()
	defer s.state.Unlock()
	if s.serves == nil {
		return s.last
	}
	return statsOf(s.serves)
}

func statsOf(s *serve.Server) runtime.Stats {
	st := s.Stats()
	return runtime.Stats{CPU: st.CPU, MemoryBytes: st.MemoryBytes}
}

// held are the mounts of a server, which opens them for each request: paths that
// are good only until Start returns are held open.
type held struct {
	mounts []wasmrt.Mount
	files  []*os.File
}

// descriptors is where an open file is found by its number.
const descriptors = "/proc/self/fd/"

func hold(mounts []wasmrt.Mount) (held, error) {
	h := held{mounts: append([]wasmrt.Mount{}, mounts...)}
	for i := range h.mounts {
		m := &h.mounts[i]
		if !strings.HasPrefix(m.Host, descriptors) {
			continue
		}
		f, err := os.Open(m.Host)
		if err != nil {
			h.close()
			return held{}, fmt.Errorf("mount %s: %w", m.Guest, err)
		}
		h.files = append(h.files, f)
		m.Host = descriptors + strconv.Itoa(int(f.Fd()))
	}
	return h, nil
}

func (h held) close() {
	for _, f := range h.files {
		_ = f.Close()
	}
}
