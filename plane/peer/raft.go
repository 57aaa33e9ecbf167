package peer

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"
)

// Transport is a stream between members, as package store wants it.
type Transport interface {
	net.Listener
	Dial(member, address string, timeout time.Duration) (net.Conn, error)
}

// Raft carries Raft between members. Its Close leaves the port open: requests
// are answered until Run ends.
func (p *Peer) Raft() Transport { return p.raft }

// answerTimeout bounds how long an answer of ours waits for its reader.
const answerTimeout = 10 * time.Second

type raftTransport struct {
	peer     *Peer
	incoming chan net.Conn
	closed   chan struct{}
	once     sync.Once
}

func newRaftTransport(p *Peer) *raftTransport {
	return &raftTransport{peer: p, incoming: make(chan net.Conn), closed: make(chan struct{})}
}

func (t *raftTransport) Addr() net.Addr { return t.peer.Addr() }

func (t *raftTransport) Close() error {
	t.once.Do(func() { close(t.closed) })
	return nil
}

func (t *raftTransport) Accept() (net.Conn, error) {
	select {
	case c := <-t.incoming:
		return c, nil
	case <-t.closed:
		return nil, net.ErrClosed
	}
}

// offer hands a stream to Raft, if it takes it in time.
func (t *raftTransport) offer(ctx context.Context, c *memberConn, patience time.Duration) {
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case t.incoming <- answering{c}:
		return
	case <-t.closed:
	case <-ctx.Done():
	case <-timer.C:
		t.peer.refused(reasonTimeout, c.RemoteAddr(), errors.New("raft does not accept yet"))
	}
	c.Close()
}

func (t *raftTransport) Dial(member, address string, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	conn, err := t.peer.dial(ctx, member, address, RaftProtocol)
	if err != nil {
		return nil, err
	}
	c, err := t.peer.adopt(conn, member)
	if err != nil {
		return nil, err
	}
	return c, nil
}

// answering is a stream on which Raft answers: without deadlines of its own, so
// that a member which does not read would hold a goroutine for ever.
type answering struct{ *memberConn }

func (a answering) Write(b []byte) (int, error) {
	if err := a.SetWriteDeadline(time.Now().Add(answerTimeout)); err != nil {
		return 0, err
	}
	return a.memberConn.Write(b)
}
