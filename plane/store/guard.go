package store

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"runtime"
	"syscall"
	"time"

	"github.com/hashicorp/raft"
)

// diskRetry is how often a full disk is tried again.
const diskRetry = 250 * time.Millisecond

// full says that a write found no room. It was refused as a whole, nothing
// that was written before is in doubt, and it may be tried again.
//
// Any other error may come from fsync. After that the kernel may have dropped
// the pages and call the next fsync a success, so nothing may be acknowledged
// until a new process has read what is really there.
func full(err error) bool {
	var p *fs.PathError
	if !errors.As(err, &p) || p.Op != "write" {
		return false
	}
	return errors.Is(p.Err, syscall.ENOSPC) || errors.Is(p.Err, syscall.EDQUOT) || errors.Is(p.Err, syscall.EFBIG)
}

// note tells health about an error of the disk.
func (h *health) note(err error, log *slog.Logger) {
	if full(err) {
		h.fail(fmt.Errorf("the disk is full: %w", err), log)
		return
	}
	if h.stuck() == nil {
		log.Error("writes are not acknowledged until a restart", "reason", err)
	}
	h.latch(fmt.Errorf("write the log: %w: check the disk, then restart", err))
}

// guardedLogs refuses to write after an error that leaves the disk in doubt.
type guardedLogs struct {
	raft.LogStore
	health  *health
	metrics *metrics
	log     *slog.Logger
}

func (g *guardedLogs) StoreLog(l *raft.Log) error { return g.StoreLogs([]*raft.Log{l}) }

func (g *guardedLogs) StoreLogs(logs []*raft.Log) error {
	if err := g.health.stuck(); err != nil {
		return err
	}
	start := time.Now()
	if err := g.LogStore.StoreLogs(logs); err != nil {
		g.health.note(err, g.log)
		return err
	}
	took := time.Since(start)
	g.metrics.persistSeconds.Observe(took.Seconds())
	g.metrics.fsync.add(took)
	g.health.clear(g.log)
	return nil
}

// guardedStable waits where Raft cannot go on: it panics when its term or its
// vote cannot be written. A member whose disk is full takes no part until the
// disk has room, and one whose disk is in doubt until it is restarted.
type guardedStable struct {
	raft.StableStore
	health   *health
	released <-chan struct{}
	log      *slog.Logger
}

func (g *guardedStable) Set(key, val []byte) error {
	return g.until(func() error { return g.StableStore.Set(key, val) })
}

func (g *guardedStable) SetUint64(key []byte, val uint64) error {
	return g.until(func() error { return g.StableStore.SetUint64(key, val) })
}

func (g *guardedStable) until(write func() error) error {
	for {
		if g.health.stuck() == nil {
			err := write()
			if err == nil {
				return nil
			}
			g.health.note(err, g.log)
		}
		select {
		case <-time.After(diskRetry):
		case <-g.released:
			// Raft is being stopped and this is one of its goroutines.
			// Neither answer is safe: an error makes it panic, success
			// would let it vote on what is not written. End it instead.
			runtime.Goexit()
		}
	}
}

func (d *disk) guardLogs(h *health, m *metrics, log *slog.Logger) raft.LogStore {
	return &guardedLogs{LogStore: d.logs, health: h, metrics: m, log: log}
}

func (d *disk) guardStable(h *health, log *slog.Logger) raft.StableStore {
	return &guardedStable{StableStore: d.stable, health: h, released: d.released, log: log}
}
