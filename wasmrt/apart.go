package wasmrt

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"strings"
	"time"

	"copepod/wasmrt/compile"
)

// compilingPrefix begins the names of directories that children write to.
const compilingPrefix = "compiling-"

// compilingKeep is how long such a directory may be found, at most, before its
// process must have ended without clearing up.
const compilingKeep = time.Hour

// apart compiles the rewritten code in a child process, and loads what that
// made. The result becomes the disk cache's entry, sealed by us. A disk that
// cannot be written costs the cache, not the module.
func (h *Host) apart(ctx context.Context, c *compiled, code []byte, disk diskCache) error {
	if disk.dir == "" {
		return h.apartIn(ctx, c, code, os.TempDir(), disk)
	}
	err := h.apartIn(ctx, c, code, h.cfg.CacheDir, disk)
	if err == nil || ctx.Err() != nil || faulty(err) || errors.Is(err, errOtherVersion) {
		return err
	}
	h.log.Warn("compile cache not written", "dir", disk.dir, "reason", err)
	return h.apartIn(ctx, c, code, os.TempDir(), diskCache{})
}

// apartIn is apart with one place for the child to write to.
func (h *Host) apartIn(ctx context.Context, c *compiled, code []byte, parent string, disk diskCache) error {
	dir, err := os.MkdirTemp(parent, compilingPrefix+"*") // 0700
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := h.child(len(code)).Compile(ctx, code, dir); err != nil {
		return h.told(c, err)
	}
	made := diskCache{dir: dir}
	cache, err := made.open()
	if err != nil {
		return err
	}
	if err := h.loaded(ctx, c, code, cache); err != nil || disk.dir == "" {
		return err
	}
	if err := made.publish(code, disk); err != nil {
		h.log.Warn("compile cache not written", "dir", disk.dir, "reason", err)
	}
	return nil
}

// child is the compiler for a module of that many bytes. Small modules get less
// time: nobody's should take long, and a bomb is small as a rule.
func (h *Host) child(size int) compile.Child {
	const (
		least  = 15 * time.Second
		perMiB = 4 * time.Second
	)
	return compile.Child{
		Command: h.cfg.Compiler,
		Memory:  h.cfg.CompileMemory,
		Time:    min(h.cfg.CompileTime, least+time.Duration(size>>20)*perMiB),
		Workers: h.cfg.CompileWorkers,
	}
}

// told puts what became of the child in our terms. What cost much, and would
// again, is remembered.
func (h *Host) told(c *compiled, err error) error {
	if bad, ok := errors.AsType[*compile.InvalidError](err); ok {
		return &MalformedError{Offset: Unknown, Reason: bad.Reason}
	}
	refused := &UnsupportedError{}
	if past, ok := errors.AsType[*compile.LimitError](err); ok {
		h.counters.stopped.Add(1)
		refused.Feature = "a module that takes more than " + past.Limit + " to compile"
		refused.Advice = "build it optimised and without what it does not use, or split it; a very large function is the usual reason"
	} else if crash, ok := errors.AsType[*compile.CrashError](err); ok {
		h.log.Error("compiler failed", "module", c.key.String(), "reason", crash.Reason)
		refused.Feature, refused.Advice = "code that the compiler cannot take", crash.Reason
	} else {
		return err
	}
	h.refusals.add(c.key, refused, time.Now())
	return refused
}

// faulty tells whether it is the module that is to blame.
func faulty(err error) bool {
	_, unsupported := errors.AsType[*UnsupportedError](err)
	_, malformed := errors.AsType[*MalformedError](err)
	return unsupported || malformed
}

// publish seals the entry and moves it to where it is looked for.
func (d diskCache) publish(code []byte, to diskCache) error {
	if err := d.seal(code); err != nil {
		return err
	}
	to.remove() // nobody loads it: it was missing or damaged, or another process was faster
	return os.Rename(d.dir, to.dir)
}

// abandoned tells whether the directory was left behind by a process that ended
// while it compiled.
func abandoned(e fs.DirEntry) bool {
	info, err := e.Info()
	return err == nil && strings.HasPrefix(e.Name(), compilingPrefix) && time.Since(info.ModTime()) > compilingKeep
}
