package store

import (
	"context"
	"encoding/binary"
	"fmt"
	"time"

	"copepod/plane/store/mvcc"

	"github.com/hashicorp/raft"
)

// Limits of a transaction, so that one caller cannot occupy the log.
const (
	maxKey   = 4 << 10
	maxOps   = 16 << 10
	maxTxn   = 16 << 20 // encoded
	maxEntry = 1 << 20  // where a batch is cut
)

// BatchResult is the outcome of one transaction of Batch.
type BatchResult struct {
	Result Result
	Err    error
}

// Txn executes the operations, on different keys, all or none, as one
// revision. It returns when the result is durable on a majority and visible
// in Snapshot here.
//
// The error is *ConflictError when an expectation was not met, ErrInvalid,
// ErrNotLeader, ErrUnavailable, or that of ctx; after the last two the
// transaction may yet happen. With a Forwarder any member takes it: it goes to
// whoever leads, again if need be, happens once, and is visible here when it
// is answered.
func (s *Store) Txn(ctx context.Context, ops ...Op) (Result, error) {
	enc, err := encode(ops)
	if err != nil {
		return Result{}, err
	}
	p := newProposal(enc)
	if err := s.propose(ctx, p); err != nil {
		return Result{}, err
	}
	replies, err := s.await(ctx, p)
	if err != nil {
		return Result{}, err
	}
	return replies[0].Result, replies[0].Err
}

// Batch executes independent transactions in order, with as few log entries
// as they fit in. Each has its own revision and its own result; the errors
// are those of Txn.
func (s *Store) Batch(ctx context.Context, txns []Txn) []BatchResult {
	results := make([]BatchResult, len(txns))
	var ps []*proposal
	var at [][]int // the indexes of the transactions of each proposal
	for i, t := range txns {
		enc, err := encode(t)
		if err != nil {
			results[i].Err = err
			continue
		}
		last := len(ps) - 1
		if last < 0 || ps[last].size+len(enc) > maxEntry {
			ps, at = append(ps, newProposal()), append(at, nil)
			last++
		}
		ps[last].add(enc)
		at[last] = append(at[last], i)
	}
	for _, p := range ps {
		if err := s.propose(ctx, p); err != nil {
			p.answer(nil, err)
		}
	}
	for n, p := range ps {
		replies, err := s.await(ctx, p)
		for j, i := range at[n] {
			if err != nil {
				results[i].Err = err
				continue
			}
			results[i] = BatchResult(replies[j])
		}
	}
	return results
}

// encode validates a transaction and encodes it.
func encode(txn Txn) ([]byte, error) {
	size, err := validate(txn)
	if err != nil {
		return nil, err
	}
	return mvcc.AppendTxn(make([]byte, 0, size), txn), nil
}

// validate checks rules and limits; size is about that of the encoding.
func validate(txn Txn) (size int, err error) {
	if len(txn) == 0 || len(txn) > maxOps {
		return 0, fmt.Errorf("%w: %d operations: from 1 to %d are allowed", ErrInvalid, len(txn), maxOps)
	}
	size = 16
	for i := range txn {
		if err := validateOp(&txn[i]); err != nil {
			return 0, err
		}
		size += len(txn[i].Key) + len(txn[i].Value) + 32
	}
	if size > maxTxn {
		return 0, fmt.Errorf("%w: %d bytes: at most %d are allowed", ErrInvalid, size, maxTxn)
	}
	if len(txn) > 1 {
		seen := make(map[string]struct{}, len(txn))
		for i := range txn {
			seen[txn[i].Key] = struct{}{}
			if len(seen) <= i {
				return 0, fmt.Errorf("%w: key %q occurs twice", ErrInvalid, txn[i].Key)
			}
		}
	}
	return size, nil
}

func validateOp(op *Op) error {
	switch {
	case op.Key == "" || len(op.Key) > maxKey:
		return fmt.Errorf("%w: key of %d bytes: from 1 to %d are allowed", ErrInvalid, len(op.Key), maxKey)
	case op.Kind != Put && op.Kind != Delete && op.Kind != Check:
		return fmt.Errorf("%w: key %q: unknown kind %d of operation", ErrInvalid, op.Key, op.Kind)
	case op.Kind != Put && (len(op.Value) > 0 || op.TTL != 0):
		return fmt.Errorf("%w: key %q: only a put has a value and a TTL", ErrInvalid, op.Key)
	case op.TTL < 0:
		return fmt.Errorf("%w: key %q: TTL %v is negative", ErrInvalid, op.Key, op.TTL)
	}
	return nil
}

// Compact drops the events up to and including rev and the snapshots before
// it, on every member. ErrFutureRevision if rev has not happened,
// ErrCompacted if it was done before; otherwise the errors of Txn.
func (s *Store) Compact(ctx context.Context, rev Revision) error {
	_, err := s.atLeader(ctx, askCompact, binary.AppendUvarint(nil, uint64(rev)), func(ctx context.Context, r *raft.Raft) error {
		return s.compactHere(ctx, r, rev)
	})
	return err
}

func (s *Store) compactHere(ctx context.Context, r *raft.Raft, rev Revision) error {
	replies, err := s.apply(ctx, r, mvcc.EncodeCompact(time.Now(), rev))
	if err != nil {
		return err
	}
	return replies[0].Err
}

// apply puts one entry into the log by itself and waits for its replies.
func (s *Store) apply(ctx context.Context, r *raft.Raft, entry []byte) ([]mvcc.Reply, error) {
	f := r.ApplyLog(raft.Log{Data: entry}, 0)
	select {
	case <-settled(f):
		return s.outcome(f)
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-s.raftGone:
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, errStopped)
	}
}
