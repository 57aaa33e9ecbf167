package store

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"copepod/plane/store/mvcc"

	"github.com/hashicorp/raft"
)

// Forwarder carries requests to the stores of other members, where Serve
// answers them. It authenticates both sides. A request may be delivered twice.
type Forwarder interface {
	Call(ctx context.Context, member, address string, request []byte) ([]byte, error)
}

// A request is: byte version, byte kind, and what the kind needs. An answer
// is: byte version, byte code, and text or what was asked for.
const (
	askVersion = 1

	askPropose = 1 // a group as mvcc.AppendGroup makes it → nothing
	askRead    = 2 // uvarint revision of the asker → uvarint revision to wait for
	askStatus  = 3 // → JSON of Report
	askCompact = 4 // uvarint revision → nothing
	askChange  = 5 // JSON of change → nothing

	answerOK          = 0
	answerNotLeader   = 1 // JSON of NotLeaderError
	answerUnavailable = 2
	answerInvalid     = 3
	answerCompacted   = 4
	answerFuture      = 5
	answerNewer       = 6
)

// maxGroup bounds a group of another member: an entry that was full before the
// last transaction was added, and its head.
const maxGroup = maxEntry + maxTxn + 1024

// Serve answers a request that another member's Forwarder carried here. Its
// own errors are those of requests that cannot be read.
func (s *Store) Serve(ctx context.Context, member string, request []byte) ([]byte, error) {
	if len(request) < 2 {
		return nil, fmt.Errorf("store: request of %d bytes: %w", len(request), ErrCorrupt)
	}
	if request[0] != askVersion {
		return []byte{askVersion, answerNewer}, nil
	}
	payload, err := s.serve(ctx, request[1], request[2:])
	if err != nil {
		return encodeError(err), nil
	}
	return append([]byte{askVersion, answerOK}, payload...), nil
}

func (s *Store) serve(ctx context.Context, kind byte, body []byte) ([]byte, error) {
	r := s.raft.Load()
	if r == nil {
		return nil, fmt.Errorf("%w: it has not started", ErrUnavailable)
	}
	switch kind {
	case askPropose:
		return nil, s.serveGroup(ctx, body)
	case askRead:
		known, n := binary.Uvarint(body)
		if n <= 0 {
			return nil, fmt.Errorf("%w: read request ends early", ErrInvalid)
		}
		rev, err := s.readHere(ctx, r)
		if err == nil && Revision(known) < rev {
			s.nudge(r)
		}
		return binary.AppendUvarint(nil, uint64(rev)), err
	case askStatus:
		return s.report(r)
	case askCompact:
		rev, n := binary.Uvarint(body)
		if n <= 0 {
			return nil, fmt.Errorf("%w: compact request ends early", ErrInvalid)
		}
		return nil, s.compactHere(ctx, r, Revision(rev))
	case askChange:
		return nil, s.serveChange(ctx, r, body)
	}
	return nil, fmt.Errorf("%w: unknown request %d", ErrNewerFormat, kind)
}

// serveGroup puts a group of another member into the log. It is checked as if
// it were our own: what cannot be applied would end every member.
func (s *Store) serveGroup(ctx context.Context, group []byte) error {
	if len(group) > maxGroup {
		return fmt.Errorf("%w: group of %d bytes: at most %d are allowed", ErrInvalid, len(group), maxGroup)
	}
	_, txns, err := mvcc.ReadGroup(group)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	for _, t := range txns {
		if _, err := validate(t); err != nil {
			return err
		}
	}
	p := newProposal()
	p.group, p.size = group, len(group)
	if err := s.propose(ctx, p); err != nil {
		return err
	}
	_, err = s.await(ctx, p)
	return err
}

// ask asks the leader.
func (s *Store) ask(ctx context.Context, kind byte, body []byte) ([]byte, error) {
	id, address := s.Leader()
	if s.cfg.Forwarder == nil || id == "" || id == s.cfg.NodeID {
		return nil, s.applyError(raft.ErrNotLeader)
	}
	return s.askMember(ctx, id, address, kind, body)
}

func (s *Store) askMember(ctx context.Context, id, address string, kind byte, body []byte) ([]byte, error) {
	answer, err := s.cfg.Forwarder.Call(ctx, id, address, append([]byte{askVersion, kind}, body...))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	if len(answer) < 2 || answer[0] != askVersion {
		return nil, fmt.Errorf("%w: %s answers in a way that this version does not know", ErrUnavailable, id)
	}
	return answer[2:], decodeError(answer[1], id, answer[2:])
}

// remoteError keeps the words of another member and what they mean here.
type remoteError struct {
	text string
	is   error
}

func (e *remoteError) Error() string { return e.text }
func (e *remoteError) Unwrap() error { return e.is }

func encodeError(err error) []byte {
	code := byte(answerUnavailable)
	text := []byte(err.Error())
	var not *NotLeaderError
	switch {
	case errors.As(err, &not):
		code, text = answerNotLeader, binary.AppendUvarint(nil, uint64(len(not.ID)))
		text = append(append(text, not.ID...), not.Address...)
	case errors.Is(err, ErrInvalid):
		code = answerInvalid
	case errors.Is(err, ErrCompacted):
		code = answerCompacted
	case errors.Is(err, ErrFutureRevision):
		code = answerFuture
	case errors.Is(err, ErrNewerFormat):
		code = answerNewer
	}
	return append([]byte{askVersion, code}, text...)
}

func decodeError(code byte, from string, text []byte) error {
	switch code {
	case answerOK:
		return nil
	case answerNotLeader:
		n, head := binary.Uvarint(text)
		if head <= 0 || n > uint64(len(text)-head) {
			return &NotLeaderError{}
		}
		return &NotLeaderError{ID: string(text[head : head+int(n)]), Address: string(text[head+int(n):])}
	case answerInvalid:
		return &remoteError{string(text), ErrInvalid}
	case answerCompacted:
		return &remoteError{string(text), ErrCompacted}
	case answerFuture:
		return &remoteError{string(text), ErrFutureRevision}
	case answerNewer:
		return fmt.Errorf("%w: %s runs another version that does not know this request: upgrade the older one", ErrUnavailable, from)
	}
	return &remoteError{fmt.Sprintf("%s: %s", from, text), ErrUnavailable}
}

// atLeader does something here if this member leads, else asks the leader for
// it, and tries again while nobody leads: until ctx or patience ends.
func (s *Store) atLeader(ctx context.Context, kind byte, body []byte, here func(context.Context, *raft.Raft) error) ([]byte, error) {
	if err := s.usable(ctx); err != nil {
		return nil, err
	}
	r := s.raft.Load()
	if !s.mayForward(r) {
		return nil, here(ctx, r)
	}
	deadline := time.NewTimer(retryFor)
	defer deadline.Stop()
	for {
		changed := s.leaders.next()
		answer, err := []byte(nil), error(nil)
		actx, cancel := context.WithTimeout(ctx, attemptFor)
		if r.State() == raft.Leader {
			err = here(actx, r)
		} else {
			answer, err = s.ask(actx, kind, body)
		}
		cancel()
		if err == nil || !retriable(err) {
			return answer, err
		}
		select {
		case <-changed:
		case <-time.After(retryPause):
		case <-deadline.C:
			return nil, s.gaveUp(err)
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-s.stopped:
			return nil, fmt.Errorf("%w: %w", ErrUnavailable, errStopped)
		}
	}
}

func retriable(err error) bool {
	return errors.Is(err, ErrUnavailable) || errors.Is(err, ErrNotLeader) || errors.Is(err, context.DeadlineExceeded)
}
