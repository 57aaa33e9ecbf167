package wasmrt

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/experimental"

	"copepod/wasmrt/compile"
	"copepod/wasmrt/rewrite"
	"copepod/wasmrt/serve/httpwasm"
	"copepod/wasmrt/wasi"
)

// digest is the SHA-256 of a module as it was handed over.
type digest [sha256.Size]byte

func (d digest) String() string { return hex.EncodeToString(d[:]) }

// Module is a compiled module, shared by every Load of the same bytes. It
// stays compiled until each of them is closed and no instance runs.
type Module struct {
	shared *compiled
	host   *Host
	closed atomic.Bool
}

// Info is what the module said of itself before it was rewritten.
func (m *Module) Info() ModuleInfo { return m.shared.info }

// Close gives the module back. Instances that run keep what they need.
func (m *Module) Close() error {
	if m.closed.Swap(true) {
		return nil
	}
	return m.host.release(m.shared)
}

// compiled is one module in machine code. Each has a runtime of its own, so
// that freeing it frees everything that its bytes made us hold.
type compiled struct {
	key   digest
	info  ModuleInfo
	ready chan struct{} // closed once what follows is set
	err   error
	rt    wazero.Runtime
	cache wazero.CompilationCache
	code  wazero.CompiledModule
	lines []byte // packed, for the messages of traps; nil: none
	freed sync.Once
	refs  int // guarded by Host.mu: Modules, instances, and the compilation
}

// free closes the runtime, once.
func (c *compiled) free(ctx context.Context) (err error) {
	c.freed.Do(func() {
		if c.rt != nil {
			err = errors.Join(c.rt.Close(ctx), c.cache.Close(ctx))
		}
	})
	return err
}

// Load compiles code, or finds it compiled already, in memory or on disk. It
// fails with a *MalformedError or *UnsupportedError for a module that cannot
// run here. Loads of one module share one compilation; the ctx bounds the wait
// for it. The code must not change meanwhile, even if the wait is cut short.
func (h *Host) Load(ctx context.Context, code []byte) (*Module, error) {
	key := digest(sha256.Sum256(code))
	h.mu.Lock()
	if h.closed {
		h.mu.Unlock()
		return nil, ErrClosed
	}
	c := h.modules[key]
	if c == nil {
		c = &compiled{key: key, ready: make(chan struct{}), refs: 1}
		h.modules[key] = c
		h.work.Go(func() {
			defer close(c.ready)
			h.compile(h.life, c, code) // others may wait for it even if this caller leaves
			h.release(c)
		})
	}
	c.refs++
	h.mu.Unlock()
	m := &Module{shared: c, host: h}
	select {
	case <-c.ready:
	case <-ctx.Done():
		m.Close()
		return nil, fmt.Errorf("load module: %w", ctx.Err())
	}
	if c.err != nil {
		m.Close()
		return nil, c.err
	}
	return m, nil
}

// release drops one reference, and frees the module with the last.
func (h *Host) release(c *compiled) error {
	h.mu.Lock()
	c.refs--
	last := c.refs == 0
	if last && h.modules[c.key] == c {
		delete(h.modules, c.key)
	}
	h.mu.Unlock()
	if !last {
		return nil
	}
	return c.free(context.Background())
}

// compile fills c.
func (h *Host) compile(ctx context.Context, c *compiled, code []byte) {
	c.err = h.build(ctx, c, code)
	if c.err == nil {
		return
	}
	if ctx.Err() != nil {
		c.err = ErrClosed // nothing else ends the context
	}
	h.counters.refused.Add(1)
	h.mu.Lock()
	if h.modules[c.key] == c {
		delete(h.modules, c.key) // the next Load tries anew
	}
	h.mu.Unlock()
}

// build is check, rewrite, compile. What the compiler is given was checked and
// bounded first; a panic of the compiler is the module's fault, not the host's.
// What is on disk already does not wait for what is to be compiled.
func (h *Host) build(ctx context.Context, c *compiled, code []byte) (err error) {
	defer func() {
		if p := recover(); p != nil {
			h.log.Error("compiler panicked", "module", c.key.String(), "panic", p)
			err = &UnsupportedError{Feature: "code that the compiler cannot take", Advice: fmt.Sprint(p)}
		}
	}()
	if len(code) > h.cfg.MaxModuleBytes {
		return &UnsupportedError{
			Feature: fmt.Sprintf("a module of %d bytes", len(code)),
			Advice:  fmt.Sprintf("at most %d are allowed", h.cfg.MaxModuleBytes),
		}
	}
	var disk diskCache
	if h.cfg.CacheDir != "" {
		disk.dir = filepath.Join(h.cfg.CacheDir, fmt.Sprintf("%s-%d", c.key, rewrite.Version))
	}
	if found, err := h.ready(ctx, c, code, disk); found || err != nil {
		return err
	}
	if err := h.refusals.find(c.key, time.Now()); err != nil {
		return err
	}
	leave, err := h.compiles.enter(ctx, len(code))
	if err != nil {
		return err
	}
	defer leave()
	defer h.clock(time.Now())
	if code, err = metered(code); err != nil {
		return err
	}
	h.counters.compiled.Add(1)
	switch {
	case len(h.cfg.Compiler) > 0:
		return h.apart(ctx, c, code, disk)
	case disk.dir == "":
		return h.machineCode(ctx, c, code, wazero.NewCompilationCache())
	}
	return h.here(ctx, c, code, disk)
}

func (h *Host) clock(began time.Time) { h.counters.compileTime.Add(int64(time.Since(began))) }

// ready checks the module, and loads it if the disk cache has it. An entry that
// is damaged is thrown away.
func (h *Host) ready(ctx context.Context, c *compiled, code []byte, disk diskCache) (found bool, err error) {
	leave, err := h.loads.enter(ctx, 0)
	if err != nil {
		return false, err
	}
	defer leave()
	defer h.clock(time.Now())
	if c.info, err = Inspect(code); err != nil || disk.dir == "" {
		return false, err
	}
	ready, err := disk.load()
	if err != nil {
		h.counters.cacheBroken.Add(1)
		h.log.Warn("compile cache entry thrown away", "dir", disk.dir, "reason", err)
	}
	if ready == nil {
		return false, nil
	}
	if cache, err := disk.open(); err == nil && h.loaded(ctx, c, ready, cache) == nil {
		h.counters.cacheHits.Add(1)
		return true, nil
	}
	disk.remove()
	return false, nil
}

// here compiles in this process, into the disk cache. A disk that cannot be
// written costs the cache, not the module.
func (h *Host) here(ctx context.Context, c *compiled, code []byte, disk diskCache) error {
	cache, err := disk.open()
	if err == nil {
		err = h.machineCode(ctx, c, code, cache)
	}
	if err == nil {
		err = disk.seal(code)
	}
	if err == nil {
		return nil
	}
	disk.remove()
	if c.rt == nil { // the disk or the module: without the disk we know
		if err := h.machineCode(ctx, c, code, wazero.NewCompilationCache()); err != nil {
			return err
		}
	}
	h.log.Warn("compile cache not written", "dir", disk.dir, "reason", err)
	return nil
}

// machineCode compiles, into a fresh runtime and the cache.
func (h *Host) machineCode(ctx context.Context, c *compiled, code []byte, cache wazero.CompilationCache) error {
	return h.into(ctx, ctx, c, code, cache)
}

var errOtherVersion = errors.New("the machine code is of another version than this program, or for another processor")

// loaded is machineCode where the cache has the result. If it has not, nothing is
// compiled: a compilation whose context has ended stops before its first function.
func (h *Host) loaded(ctx context.Context, c *compiled, code []byte, cache wazero.CompilationCache) error {
	ended, cancel := context.WithCancel(ctx)
	cancel()
	err := h.into(ctx, ended, c, code, cache)
	if bad, ok := errors.AsType[*MalformedError](err); ok && bad.Reason == context.Canceled.Error() {
		return errOtherVersion
	}
	return err
}

// into compiles within the second context, with all else in the first.
func (h *Host) into(ctx, compiling context.Context, c *compiled, code []byte, cache wazero.CompilationCache) error {
	rt := compile.NewRuntime(ctx, cache)
	defer func() {
		if c.rt == nil { // an error, or a panic on its way to build
			rt.Close(ctx)
			cache.Close(ctx)
		}
	}()
	if err := wasi.Instantiate(ctx, rt, c.info.functions()); err != nil {
		return err
	}
	if err := httpwasm.Instantiate(ctx, rt, c.info.functions()); err != nil {
		return err
	}
	if err := instantiateMeter(ctx, rt); err != nil {
		return err
	}
	workers := max(h.cfg.CompileWorkers, 2) // a single one would not look at the context
	compiled, err := rt.CompileModule(experimental.WithCompilationWorkers(compiling, workers), code)
	if err != nil {
		return &MalformedError{Offset: Unknown, Reason: err.Error()}
	}
	c.rt, c.cache, c.code = rt, cache, compiled
	c.lines = linesOf(compiled)
	return nil
}

// functions are the module's imports of functions.
func (m ModuleInfo) functions() []wasi.Import {
	var list []wasi.Import
	for _, i := range m.Imports {
		if i.Kind == api.ExternTypeFunc {
			list = append(list, i.function())
		}
	}
	return list
}

// callStack is how much of the host's memory a guest's calls may take, in bytes:
// a recursion without end took 160 MiB outside its memory limit. It is thirty
// times what wasmtime gives a guest by default.
const callStack = 16 << 20

// metered is the rewriter, with its errors in our terms.
func metered(code []byte) ([]byte, error) {
	limits := rewrite.Limits{CallStack: callStack}
	var out []byte
	var moves []rewrite.Move
	var err error
	if lineSections(code)[debugLine] != nil {
		if out, moves, err = rewrite.RewriteMoves(code, limits); err == nil {
			out = withLines(code, withoutCustom(out), moves)
		}
	} else if out, err = rewrite.Rewrite(code, limits); err == nil {
		out = withoutCustom(out)
	}
	if bad, ok := errors.AsType[*rewrite.Error](err); ok {
		return nil, &MalformedError{Offset: bad.Offset, Reason: bad.Reason}
	}
	if lacks, ok := errors.AsType[*rewrite.UnsupportedFeatureError](err); ok {
		return nil, &UnsupportedError{Feature: lacks.Feature, Advice: lacks.Advice}
	}
	return out, err
}
