package store

import (
	"log/slog"
	"sync"
)

// health is why the store does not acknowledge writes.
type health struct {
	mu      sync.Mutex // guards what follows
	problem error      // passes when the next write succeeds
	latched error      // stays until the process restarts
}

func (h *health) err() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.latched != nil {
		return h.latched
	}
	return h.problem
}

// stuck is the latched error.
func (h *health) stuck() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.latched
}

// fail notes a problem that may pass.
func (h *health) fail(err error, log *slog.Logger) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.problem == nil && h.latched == nil {
		log.Error("writes are not acknowledged until the disk takes them again", "reason", err)
	}
	h.problem = err
}

// latch notes a problem that only a restart can clear. The first one counts.
func (h *health) latch(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.latched == nil {
		h.latched = err
	}
}

// clear notes that a write has succeeded.
func (h *health) clear(log *slog.Logger) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.problem != nil {
		log.Warn("the disk takes writes again")
	}
	h.problem = nil
}
