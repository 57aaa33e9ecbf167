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
)

// Config shapes a Host. The zero value works: no disk cache, default logger.
type Config struct {
	CacheDir       string       // compiled code is kept here (0700); empty keeps none
	Log            *slog.Logger // nil: slog.Default
	CompileWorkers int          // threads for one compilation; 0: GOMAXPROCS
	MaxModuleBytes int          // larger modules are refused; 0: 128 MiB
}

// Host compiles modules and runs instances of them. Its methods are safe from
// any goroutine.
type Host struct {
	cfg      Config
	log      *slog.Logger
	compiler chan struct{} // one compilation at a time: each may take all workers
	counters counters
	work     sync.WaitGroup // instances and compilations under way

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
	Started     uint64        // instances ever started
	Exits       ExitCounts    // instances that ended, by reason
	Compiled    uint64        // modules compiled from scratch
	CacheHits   uint64        // modules loaded from the disk cache
	CacheBroken uint64        // disk cache entries thrown away as damaged
	Refused     uint64        // modules that Load refused
	CompileTime time.Duration // spent compiling or loading, in all
}

// ExitCounts are instances that ended, by reason.
type ExitCounts struct{ Completed, Error, OOMKilled, Killed, Trap uint64 }

type counters struct {
	started, compiled, cacheHits, cacheBroken, refused atomic.Uint64
	compileTime                                        atomic.Int64
	exits                                              [Trap + 1]atomic.Uint64
}

// ErrClosed is returned by a Host after Close.
var ErrClosed = errors.New("wasm host is closed")

// New checks cfg and makes the cache directory. Close releases what it holds.
func New(_ context.Context, cfg Config) (*Host, error) {
	if cfg.CompileWorkers < 0 {
		return nil, fmt.Errorf("wasmrt: config: CompileWorkers %d is negative", cfg.CompileWorkers)
	}
	if cfg.MaxModuleBytes < 0 {
		return nil, fmt.Errorf("wasmrt: config: MaxModuleBytes %d is negative", cfg.MaxModuleBytes)
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
	return &Host{
		cfg:       cfg,
		log:       cmp.Or(cfg.Log, slog.Default()),
		compiler:  make(chan struct{}, 1),
		modules:   map[digest]*compiled{},
		instances: map[*Instance]struct{}{},
	}, nil
}

// Close kills every instance, waits for the last to end, and frees all
// modules. The ctx bounds the wait only; what is still running goes on ending.
func (h *Host) Close(ctx context.Context) error {
	h.mu.Lock()
	h.closed = true
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
		CompileTime: time.Duration(c.compileTime.Load()),
		Exits: ExitCounts{
			Completed: c.exits[Completed].Load(),
			Error:     c.exits[Error].Load(),
			OOMKilled: c.exits[OOMKilled].Load(),
			Killed:    c.exits[Killed].Load(),
			Trap:      c.exits[Trap].Load(),
		},
	}
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
