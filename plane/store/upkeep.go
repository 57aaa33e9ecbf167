package store

import (
	"context"
	"errors"
	"time"

	"copepod/plane/store/mvcc"

	"github.com/hashicorp/raft"
)

const (
	// upkeepEvery bounds how late an expired key is deleted.
	upkeepEvery = time.Second
	// expireAtOnce bounds the keys that one entry deletes.
	expireAtOnce = 1000
	// Bounds of the entries that stay behind a snapshot, see keepTrailing.
	minTrailing = 128
	maxTrailing = 16 << 10
	// retrySnapshot is the pause after a snapshot that could not be written.
	retrySnapshot = 10 * time.Second
)

// expire has the leader delete keys whose deadline has passed: through the
// log, so that every member deletes them at the same revision.
func (s *Store) expire(ctx context.Context, r *raft.Raft) {
	tick := time.NewTicker(upkeepEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		snap := s.machine.snapshot()
		s.past.forget(snap)
		for now := time.Now(); s.Leading() && snap.Due(now.UnixMilli()); snap = s.machine.snapshot() {
			replies, err := s.apply(ctx, r, mvcc.EncodeExpire(now, expireAtOnce))
			if err != nil {
				s.log.Debug("keys are not expired now", "reason", err)
				break
			}
			s.metrics.expired.Add(float64(len(replies[0].Result.Ops)))
		}
	}
}

// compactLog writes a snapshot and cuts the log when the log has grown beyond
// its limit, or half of the state if that is more: so the work of snapshots
// stays in proportion to the work of writing.
func (s *Store) compactLog(ctx context.Context, r *raft.Raft) {
	s.setLogLimit()
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.machine.tooLong:
		}
		start := time.Now()
		s.keepTrailing(r)
		err := r.Snapshot().Error()
		if errors.Is(err, raft.ErrNothingNewToSnapshot) || errors.Is(err, raft.ErrRaftShutdown) {
			continue
		}
		s.setLogLimit()
		if err == nil {
			s.metrics.snapshotSeconds.Observe(time.Since(start).Seconds())
			s.log.Debug("log cut behind a snapshot", "took", time.Since(start))
			continue
		}
		s.metrics.snapshotErrors.Inc()
		s.log.Warn("snapshot is not written, the log grows", "reason", err)
		select {
		case <-ctx.Done():
			return
		case <-time.After(retrySnapshot):
		}
	}
}

func (s *Store) setLogLimit() {
	s.machine.maxBytes.Store(max(s.cfg.LogBytes, s.machine.snapshot().Bytes()/2))
}

// keepTrailing leaves half of LogBytes behind the next snapshot, so that a
// member that was away for a moment needs only that; Raft wants it as a number
// of entries, which have the size that they had lately.
func (s *Store) keepTrailing(r *raft.Raft) {
	entries, bytes := s.machine.entries.Load(), s.machine.logged.Load()
	if entries == 0 || bytes == 0 {
		return
	}
	rc := r.ReloadableConfig()
	rc.TrailingLogs = uint64(min(max(s.cfg.LogBytes/2*entries/bytes, minTrailing), maxTrailing))
	if err := r.ReloadConfig(rc); err != nil {
		s.log.Warn("trailing log is not adjusted", "reason", err)
	}
}
