// Package wasmrt runs WebAssembly modules. It knows bytes, arguments, sockets,
// limits and exit codes; it has never heard of pods, images or registries.
//
//	host, err := wasmrt.New(ctx, wasmrt.Config{CacheDir: dir})
//	module, err := host.Load(ctx, code)            // compiled once, shared
//	instance, err := host.Start(ctx, module, wasmrt.Program{Args: args})
//	exit, err := instance.Wait(ctx)
//
// A guest is hostile until proven otherwise: it sees what its Program names and
// nothing else, it holds no more memory than its limit, and it can be killed
// wherever it is.
package wasmrt

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"copepod/wasmrt/wasi"
)

// Config shapes a Host. The zero value works: no disk cache, default logger.
type Config struct {
	CacheDir       string       // compiled code is kept here (0700); empty keeps none
	Log            *slog.Logger // nil: slog.Default
	CompileWorkers int          // threads for one compilation; 0: GOMAXPROCS
	MaxModuleBytes int          // larger modules are refused; 0: 128 MiB

	// Compiler is a command line that leads to compile.Main, as compile.Self
	// makes it: modules are compiled in child processes, within limits, and none
	// can end this process or take all its memory. Without it they are compiled
	// here, which only trusted modules should be.
	Compiler      []string
	CompileMemory int64         // bytes that one child may take; 0: 1 GiB
	CompileTime   time.Duration // of the processor that one child may take; 0: 2 minutes; small modules get less

	// Descriptors is how many of this process's file descriptors all guests may
	// hold among them; none may hold more than what is then left. 0: three
	// quarters of what the system lets the process have.
	Descriptors int64
}

// Host compiles modules and runs instances of them. Its methods are safe from
// any goroutine.
type Host struct {
	cfg      Config
	log      *slog.Logger
	compiles queue // for machine code to be made
	loads    queue // for machine code to be read from disk
	refusals refusals
	fair     *fair // whose turn it is to run
	files    *wasi.Budget
	counters counters
	work     sync.WaitGroup  // instances and compilations under way
	life     context.Context // ends with Close; compilations live no longer
	end      context.CancelFunc

	mu        sync.Mutex // guards what follows
	closed    bool
	modules   map[digest]*compiled
	instances map[*Instance]struct{}
	images    map[*Image]struct{}
}

// HostStats counts what a Host did since New, and what it holds now.
type HostStats struct {
	Instances   int64         // running now
	Modules     int64         // compiled and held now
	MemoryBytes int64         // linear memory of all running instances
	Descriptors int64         // of this process that guests hold, as what they can become at most
	Started     uint64        // instances ever started
	Exits       ExitCounts    // instances that ended, by reason
	Compiled    uint64        // modules compiled from scratch
	CacheHits   uint64        // modules loaded from the disk cache
	CacheBroken uint64        // disk cache entries thrown away as damaged
	Refused     uint64        // modules that Load refused
	Stopped     uint64        // compilations that ran into a limit
	Rewound     uint64        // uses of clones after which they were put back
	CompileTime time.Duration // spent compiling or loading, in all
}

// ExitCounts are instances that ended, by reason.
type ExitCounts struct{ Completed, Error, OOMKilled, Killed, Trap uint64 }

type counters struct {
	started, compiled, cacheHits, cacheBroken, refused, stopped, rewound atomic.Uint64
	compileTime                                                          atomic.Int64
	exits                                                                [Trap + 1]atomic.Uint64
}

// ErrClosed is returned by a Host after Close.
var ErrClosed = errors.New("wasm host is closed")

// New checks cfg and makes the cache directory. Close releases what it holds.
func New(ctx context.Context, cfg Config) (*Host, error) {
	if cfg.CompileWorkers < 0 {
		return nil, fmt.Errorf("wasmrt: config: CompileWorkers %d is negative", cfg.CompileWorkers)
	}
	if cfg.MaxModuleBytes < 0 {
		return nil, fmt.Errorf("wasmrt: config: MaxModuleBytes %d is negative", cfg.MaxModuleBytes)
	}
	if cfg.Descriptors < 0 {
		return nil, fmt.Errorf("wasmrt: config: Descriptors %d is negative", cfg.Descriptors)
	}
	if cfg.CompileMemory < 0 || cfg.CompileTime < 0 {
		return nil, fmt.Errorf("wasmrt: config: a negative limit: CompileMemory %d, CompileTime %v", cfg.CompileMemory, cfg.CompileTime)
	}
	cfg.CompileMemory = cmp.Or(cfg.CompileMemory, 1<<30)
	cfg.CompileTime = cmp.Or(cfg.CompileTime, 2*time.Minute)
	if cfg.Descriptors == 0 {
		cfg.Descriptors = descriptorLimit() / 4 * 3
	}
	cfg.CompileWorkers = cmp.Or(cfg.CompileWorkers, runtime.GOMAXPROCS(0))
	cfg.MaxModuleBytes = cmp.Or(cfg.MaxModuleBytes, 128<<20)
	if cfg.CacheDir != "" {
		if err := os.MkdirAll(cfg.CacheDir, 0o700); err != nil {
			return nil, fmt.Errorf("wasmrt: cache: %w", err)
		}
		if err := prune(cfg.CacheDir, time.Now().Add(-cacheKeep)); err != nil {
			return nil, fmt.Errorf("wasmrt: cache: %w", err)
		}
	}
	atOnce := 1 // in this process: each may take all workers
	if len(cfg.Compiler) > 0 {
		atOnce = 2
	}
	life, end := context.WithCancel(context.WithoutCancel(ctx))
	return &Host{
		cfg:       cfg,
		log:       cmp.Or(cfg.Log, slog.Default()),
		compiles:  newQueue(atOnce),
		fair:      newFair(runtime.GOMAXPROCS(0)),
		loads:     newQueue(runtime.GOMAXPROCS(0)),
		files:     wasi.NewBudget(cfg.Descriptors),
		life:      life,
		end:       end,
		modules:   map[digest]*compiled{},
		instances: map[*Instance]struct{}{},
	}, nil
}

// Close kills every instance and compiler, waits for the last to end, and frees all
// modules. The ctx bounds the wait only; what is still running goes on ending.
func (h *Host) Close(ctx context.Context) error {
	h.mu.Lock()
	h.closed = true
	h.end()
	for i := range h.instances {
		i.Kill()
	}
	for i := range h.images {
		i.stop()
	}
	h.mu.Unlock()
	idle := make(chan struct{})
	go func() { h.work.Wait(); close(idle) }()
	select {
	case <-idle:
	case <-ctx.Done():
		return fmt.Errorf("wasmrt: close: %w", ctx.Err())
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	var errs []error
	for key, c := range h.modules {
		errs = append(errs, c.free(ctx))
		delete(h.modules, key)
	}
	return errors.Join(errs...)
}

// Stats is a snapshot of the host's counters.
func (h *Host) Stats() HostStats {
	c := &h.counters
	st := HostStats{
		Started:     c.started.Load(),
		Compiled:    c.compiled.Load(),
		CacheHits:   c.cacheHits.Load(),
		CacheBroken: c.cacheBroken.Load(),
		Refused:     c.refused.Load(),
		Stopped:     c.stopped.Load(),
		Rewound:     c.rewound.Load(),
		CompileTime: time.Duration(c.compileTime.Load()),
		Exits: ExitCounts{
			Completed: c.exits[Completed].Load(),
			Error:     c.exits[Error].Load(),
			OOMKilled: c.exits[OOMKilled].Load(),
			Killed:    c.exits[Killed].Load(),
			Trap:      c.exits[Trap].Load(),
		},
	}
	st.Descriptors = h.files.Used()
	h.mu.Lock()
	defer h.mu.Unlock()
	st.Instances, st.Modules = int64(len(h.instances)), int64(len(h.modules))
	for i := range h.instances {
		st.MemoryBytes += i.memory.Size()
	}
	for i := range h.images {
		clones, bytes := i.held()
		st.Instances, st.MemoryBytes = st.Instances+clones, st.MemoryBytes+bytes
	}
	return st
}
