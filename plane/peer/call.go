package peer

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

const (
	// callsPerMember bounds the requests that are on their way to a member
	// at once; more wait.
	callsPerMember = 8
	// keepIdle is how long a connection is kept for the next request.
	keepIdle = time.Minute
)

// RemoteError is what the other member said instead of an answer.
type RemoteError struct{ Member, Reason string }

func (e *RemoteError) Error() string { return fmt.Sprintf("%s: %s", e.Member, e.Reason) }

// Call sends a request to a member and returns its answer, over a connection
// that is kept for the next one. It asks a second time when a connection that
// was kept turns out to be dead.
func (p *Peer) Call(ctx context.Context, member, address string, request []byte) ([]byte, error) {
	if len(request) > MaxFrame {
		return nil, fmt.Errorf("peer: call %s: %d bytes: at most %d are allowed", member, len(request), MaxFrame)
	}
	line, err := p.calls.line(member, address)
	if err != nil {
		return nil, fmt.Errorf("peer: call %s: %w", member, err)
	}
	select {
	case line.slots <- struct{}{}:
	case <-ctx.Done():
		return nil, fmt.Errorf("peer: call %s: %w", member, ctx.Err())
	}
	defer func() { <-line.slots }()
	for c := line.take(); c != nil; c = line.take() {
		response, err := p.exchange(ctx, line, c, request)
		if err == nil || ctx.Err() != nil || isRemote(err) {
			return response, err
		}
	}
	conn, err := p.dial(ctx, member, address, StoreProtocol)
	if err != nil {
		return nil, err
	}
	c, err := p.adopt(conn, member)
	if err != nil {
		return nil, err
	}
	return p.exchange(ctx, line, c, request)
}

func isRemote(err error) bool {
	var remote *RemoteError
	return errors.As(err, &remote)
}

// exchange sends one request and reads its answer. The connection goes back
// to its line if nothing is left on it.
func (p *Peer) exchange(ctx context.Context, l *line, c *memberConn, request []byte) ([]byte, error) {
	stop := context.AfterFunc(ctx, func() { c.SetDeadline(time.Unix(1, 0)) })
	kind, response, err := roundTrip(c, request)
	if !stop() || err != nil {
		c.Close()
	} else {
		l.put(c)
	}
	switch {
	case err != nil && ctx.Err() != nil:
		return nil, fmt.Errorf("peer: call %s: %w", c.member, ctx.Err())
	case err != nil:
		return nil, fmt.Errorf("peer: call %s: %w", c.member, err)
	case kind == kindFailure:
		return nil, &RemoteError{Member: c.member, Reason: string(response)}
	}
	return response, nil
}

func roundTrip(c *memberConn, request []byte) (kind byte, response []byte, err error) {
	if err := writeFrame(c, kindRequest, request); err != nil {
		return 0, nil, err
	}
	kind, size, err := readHeader(c)
	if err != nil {
		return 0, nil, err
	}
	if kind == kindRequest {
		return 0, nil, fmt.Errorf("%w: a request where an answer should be", errFrame)
	}
	response, err = readBody(c, size)
	return kind, response, err
}

// calls keeps the connections for requests, by member and address.
type calls struct {
	mu     sync.Mutex // guards what follows
	lines  map[[2]string]*line
	closed bool
}

func newCalls() *calls { return &calls{lines: map[[2]string]*line{}} }

// line is the connections to one member.
type line struct {
	slots chan struct{}

	mu     sync.Mutex // guards what follows
	idle   []idleConn // the latest used last
	closed bool
}

type idleConn struct {
	conn  *memberConn
	since time.Time
}

func (c *calls) line(member, address string) (*line, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, net.ErrClosed
	}
	key := [2]string{member, address}
	l := c.lines[key]
	if l == nil {
		c.forget(member)
		l = &line{slots: make(chan struct{}, callsPerMember)}
		c.lines[key] = l
	}
	return l, nil
}

// forget closes what leads to a member at an address where it is no more.
func (c *calls) forget(member string) {
	for key, l := range c.lines {
		if key[0] == member {
			l.close()
			delete(c.lines, key)
		}
	}
}

func (c *calls) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	for _, l := range c.lines {
		l.close()
	}
}

// take is a connection that was used a moment ago, or nil.
func (l *line) take() *memberConn {
	l.mu.Lock()
	defer l.mu.Unlock()
	for len(l.idle) > 0 {
		last := l.idle[len(l.idle)-1]
		l.idle = l.idle[:len(l.idle)-1]
		if time.Since(last.since) < keepIdle {
			return last.conn
		}
		last.conn.Close()
	}
	return nil
}

func (l *line) put(c *memberConn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		c.Close()
		return
	}
	l.idle = append(l.idle, idleConn{c, time.Now()})
}

func (l *line) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	for _, i := range l.idle {
		i.conn.Close()
	}
	l.idle = nil
}
