// Package serve answers HTTP requests with a WebAssembly module, each request in
// a sandbox that nobody has used before. It knows requests, instances and how many
// of them there may be; it never learns what a pod is.
//
//	server, err := serve.New(ctx, serve.Config{Host: host, Module: module, Mode: serve.HTTP, Program: p})
//	err = server.Run(ctx, listener) // until ctx ends; then it drains
//
// # Modes
//
// In mode CGI a request is a run of the program: the request in the environment
// and on standard input, as RFC 3875 has it, the response on standard output.
//
// In mode HTTP the module exports handle_request and handle_response of the
// http-wasm handler ABI. It may be a library (_initialize), a program whose main
// returns (_start), or neither.
//
// # Nothing is left behind
//
// Every request begins where the initialisation ended, whatever other requests
// did: an instance that served one is put back, or replaced where that cannot be
// (its memory grew, it trapped, it was stopped, it keeps state that is neither
// memory nor a number: see wasmrt.Image). Descriptors and clocks are new for each
// request; what the module wrote to mounts and peers it has written.
//
// # Limits
//
// The memory and the processor time that Program allows are for all instances
// together. Instances are made as requests come, up to Limits.Instances, and given
// up when they are idle; the next requests wait in a queue, and past its length
// or patience they are refused with 503 and Retry-After. A request that takes too
// long gets 504, a body that is too long 413, a trap 500 and a line with the
// WebAssembly stack on Program.Stderr. Bodies stream both ways; what a guest
// writes is sent within FlushAfter.
package serve

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tetratelabs/wazero/api"

	"copepod/wasmrt"
	"copepod/wasmrt/serve/httpwasm"
)

// Mode is how a module takes requests.
type Mode string

// The modes.
const (
	CGI  Mode = "wasm-cgi"
	HTTP Mode = "wasm-http"
)

// Config configures a Server. Host, Module and Mode are required.
type Config struct {
	Host   *wasmrt.Host
	Module *wasmrt.Module // the Server uses it until it is closed, and does not close it
	Mode   Mode

	// Program is what each request sees, and the limits on all of them together.
	// Listeners and Stdin are not used.
	Program wasmrt.Program

	Limits Limits
	Log    *slog.Logger // nil: slog.Default
}

// Limits bound what clients and guests can make a Server hold. A zero field has
// the default.
type Limits struct {
	Instances    int           // at once; 64, or as many as fit the memory limit
	Queue        int           // requests that wait for one; 256
	QueueTime    time.Duration // that a request waits; 10 s
	Idle         time.Duration // that an instance stays without work; 30 s
	InitTime     time.Duration // for the initialisation; 60 s
	HeaderTime   time.Duration // for a client to send the head of a request; 10 s
	RequestTime  time.Duration // for a request, bodies included; 60 s
	KeepAlive    time.Duration // that a connection stays without a request; 2 min
	HeaderBytes  int           // 64 KiB
	RequestBody  int64         // bytes; 32 MiB
	ResponseBody int64         // bytes; 1 GiB
	FlushAfter   time.Duration // that a part of a response waits for more; 10 ms
}

func (l Limits) withDefaults() Limits {
	l.Instances = cmp.Or(l.Instances, 64)
	l.Queue = cmp.Or(l.Queue, 256)
	l.QueueTime = cmp.Or(l.QueueTime, 10*time.Second)
	l.Idle = cmp.Or(l.Idle, 30*time.Second)
	l.InitTime = cmp.Or(l.InitTime, time.Minute)
	l.HeaderTime = cmp.Or(l.HeaderTime, 10*time.Second)
	l.RequestTime = cmp.Or(l.RequestTime, time.Minute)
	l.KeepAlive = cmp.Or(l.KeepAlive, 2*time.Minute)
	l.HeaderBytes = cmp.Or(l.HeaderBytes, 64<<10)
	l.RequestBody = cmp.Or(l.RequestBody, 32<<20)
	l.ResponseBody = cmp.Or(l.ResponseBody, 1<<30)
	l.FlushAfter = cmp.Or(l.FlushAfter, 10*time.Millisecond)
	return l
}

// Server answers requests with one module. It is an http.Handler.
type Server struct {
	cfg    Config
	log    *slog.Logger
	image  *wasmrt.Image
	pool   *pool
	setup  *httpwasm.Setup // in mode HTTP
	second bool            // the module exports handle_response
	counts counters

	active sync.RWMutex    // held for reading by each request
	life   context.Context // ends with Close
	end    context.CancelFunc
}

type counters struct{ requests, refused, trapped, late atomic.Uint64 }

// Stats is what a Server did since New, and what it holds now.
type Stats struct {
	Requests  uint64 // taken
	Refused   uint64 // of these, for want of an instance
	Trapped   uint64 // of these, that ended in a trap or out of memory
	Late      uint64 // of these, that took too long
	Instances int    // idle ones included
	Idle      int
	Waiting   int // requests

	CPU         time.Duration // of all instances, since New
	MemoryBytes int64         // linear memory of all instances
}

// New initialises the module; the ctx bounds that too. It fails with a
// *wasmrt.UnsupportedError for a module that is not of the mode, and with a
// *wasmrt.ExitError if the initialisation ended the guest. Close frees what it
// holds.
func New(ctx context.Context, cfg Config) (*Server, error) {
	if cfg.Host == nil || cfg.Module == nil {
		return nil, errors.New("serve: config: Host and Module are needed")
	}
	cfg.Limits = cfg.Limits.withDefaults()
	// Instances write at the same time, and readers of logs expect whole writes.
	lines := &sync.Mutex{}
	cfg.Program.Stdout = locked(lines, cfg.Program.Stdout)
	cfg.Program.Stderr = locked(lines, cfg.Program.Stderr)
	s := &Server{cfg: cfg, log: cmp.Or(cfg.Log, slog.Default())}
	s.life, s.end = context.WithCancel(context.Background())
	image := wasmrt.ImageConfig{Program: cfg.Program}
	if err := Check(cfg.Module.Info(), cfg.Mode); err != nil {
		return nil, fmt.Errorf("serve: %w", err)
	}
	if cfg.Mode == HTTP {
		s.second = exports(cfg.Module.Info(), handleResponse)
		s.setup = httpwasm.NewSetup(httpwasm.Config{Log: s.say})
		image.Context = s.setup.Context
		image.Init = []string{"_initialize", "_start"} // a module has one of them at most
	}
	ctx, cancel := context.WithTimeout(ctx, cfg.Limits.InitTime)
	defer cancel()
	var err error
	if s.image, err = cfg.Host.Image(ctx, cfg.Module, image); err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = fmt.Errorf("%w (%w; %v are allowed)", err, cause, cfg.Limits.InitTime)
		}
		return nil, fmt.Errorf("serve: %w", err)
	}
	if s.cfg.Mode == HTTP {
		if err := s.fits(); err != nil {
			s.image.Close()
			return nil, err
		}
	}
	s.pool = newPool(s.image, cfg.Limits, cfg.Program.MemoryLimit)
	return s, nil
}

const (
	handleRequest  = "handle_request"
	handleResponse = "handle_response"
)

// Check tells whether a module can be served in a mode, as far as that shows
// before it is started. It fails with a *wasmrt.UnsupportedError that says what
// is missing.
func Check(info wasmrt.ModuleInfo, mode Mode) error {
	switch {
	case mode != CGI && mode != HTTP:
		return fmt.Errorf("mode %q: want %s or %s", mode, CGI, HTTP)
	case mode == CGI && !info.Command():
		return &wasmrt.UnsupportedError{
			Feature: "no function exported as _start",
			Advice:  "a CGI program has a main function; for a module that exports " + handleRequest + " choose " + string(HTTP),
		}
	case mode == HTTP && !exports(info, handleRequest):
		return &wasmrt.UnsupportedError{
			Feature: "no function exported as " + handleRequest,
			Advice:  "export it as the http-wasm handler ABI has it; for a program that reads its request from the environment choose " + string(CGI),
		}
	}
	return nil
}

func exports(info wasmrt.ModuleInfo, name string) bool {
	return slices.Contains(info.Exports, wasmrt.Export{Name: name, Kind: api.ExternTypeFunc})
}

// fits checks the types of what the ABI calls.
func (s *Server) fits() error {
	params, results, _ := s.image.Function(handleRequest)
	if len(params) != 0 || !slices.Equal(results, []api.ValueType{api.ValueTypeI64}) {
		return &wasmrt.UnsupportedError{Feature: handleRequest + " of another type than () -> i64", Advice: "declare it as the http-wasm handler ABI has it"}
	}
	params, results, _ = s.image.Function(handleResponse)
	if s.second && (len(results) != 0 || !slices.Equal(params, []api.ValueType{api.ValueTypeI32, api.ValueTypeI32})) {
		return &wasmrt.UnsupportedError{Feature: handleResponse + " of another type than (i32, i32) -> ()", Advice: "declare it as the http-wasm handler ABI has it"}
	}
	return nil
}

// Stats is a snapshot.
func (s *Server) Stats() Stats {
	used := s.image.Stats()
	st := Stats{
		Requests: s.counts.requests.Load(), Refused: s.counts.refused.Load(),
		Trapped: s.counts.trapped.Load(), Late: s.counts.late.Load(),
		CPU: used.CPU, MemoryBytes: used.MemoryBytes,
	}
	s.pool.mu.Lock()
	defer s.pool.mu.Unlock()
	st.Instances, st.Idle, st.Waiting = s.pool.total, len(s.pool.idle), s.pool.waiting.Len()
	return st
}

// Close ends every request and frees the instances. It does not wait for
// requests; Run does.
func (s *Server) Close() {
	s.end()
	s.pool.close()
	s.image.Close()
}

// say puts a message of a guest, or about one, where its output goes.
func (s *Server) say(level httpwasm.Level, message string) {
	if s.cfg.Program.Stderr != nil {
		_, _ = fmt.Fprintf(s.cfg.Program.Stderr, "%s: %s\n", level, message)
	}
}

// lockedWriter is a writer for many.
type lockedWriter struct {
	mu *sync.Mutex
	w  io.Writer
}

func locked(mu *sync.Mutex, w io.Writer) io.Writer {
	if w == nil {
		return nil
	}
	return lockedWriter{mu, w}
}

func (l lockedWriter) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(p)
}

var _ http.Handler = (*Server)(nil)
