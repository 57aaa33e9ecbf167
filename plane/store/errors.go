package store

import (
	"errors"
	"fmt"

	"copepod/plane/store/mvcc"

	"github.com/hashicorp/raft"
)

var (
	// ErrCompacted: the revision is no longer kept. Take a Snapshot and go
	// on from its revision.
	ErrCompacted = mvcc.ErrCompacted
	// ErrFutureRevision: the revision has not happened here.
	ErrFutureRevision = mvcc.ErrFutureRevision
	// ErrCorrupt: bytes on disk are not those that were written.
	ErrCorrupt = mvcc.ErrCorrupt
	// ErrNewerFormat: the data directory was written by a newer version.
	ErrNewerFormat = mvcc.ErrNewerFormat
	// ErrNotLeader: another member leads, nothing happened; see
	// *NotLeaderError for which.
	ErrNotLeader = errors.New("not the leader")
	// ErrUnavailable: the write was not acknowledged, for the reason that is
	// wrapped. Unless that is ErrNotLeader it may still come to be: read
	// before writing again, or use expectations.
	ErrUnavailable = errors.New("store unavailable")
	// ErrInvalid: the transaction breaks a rule or a limit and was not tried.
	ErrInvalid = errors.New("invalid transaction")

	errStopped = errors.New("it has stopped")
)

// NotLeaderError says who leads, as far as this member knows; both fields are
// empty while nobody does. It is an ErrNotLeader.
type NotLeaderError struct{ ID, Address string }

func (e *NotLeaderError) Error() string {
	if e.ID == "" {
		return "not the leader: no leader is known"
	}
	return fmt.Sprintf("not the leader: %s at %s leads", e.ID, e.Address)
}

// Unwrap makes it an ErrNotLeader.
func (e *NotLeaderError) Unwrap() error { return ErrNotLeader }

// OwnedError says that another process works on the data directory.
type OwnedError struct {
	Dir string
	PID int // 0 when it cannot be told
}

func (e *OwnedError) Error() string {
	if e.PID == 0 {
		return fmt.Sprintf("data directory %s is owned by another process: stop it or choose another directory", e.Dir)
	}
	return fmt.Sprintf("data directory %s is owned by process %d: stop it or choose another directory", e.Dir, e.PID)
}

// applyError translates what Raft says about an entry that it did not apply.
func (s *Store) applyError(err error) error {
	if errors.Is(err, raft.ErrNotLeader) || errors.Is(err, raft.ErrLeadershipTransferInProgress) {
		if bad := s.health.err(); bad != nil {
			return fmt.Errorf("%w: %w", ErrUnavailable, bad)
		}
		id, addr := s.Leader()
		if id == s.cfg.NodeID { // it is on its way to be, or from it
			id, addr = "", ""
		}
		return &NotLeaderError{ID: id, Address: addr}
	}
	if errors.Is(err, raft.ErrRaftShutdown) {
		err = errStopped
	}
	return fmt.Errorf("%w: %w", ErrUnavailable, err)
}
