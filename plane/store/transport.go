package store

import (
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// Transport is a stream between members. The store trusts whoever it accepts:
// authenticate both sides in it.
type Transport interface {
	net.Listener
	// Dial connects to the Advertise address of another member, and fails
	// if somebody else answers there.
	Dial(member, address string, timeout time.Duration) (net.Conn, error)
}

const (
	transportTimeout = 5 * time.Second
	transportPool    = 3 // connections kept to each other member
)

// stream adapts Transport to Raft, and remembers whom it accepted: Raft leaves
// them open when it stops.
type stream struct {
	Transport
	advertise net.Addr

	mu       sync.Mutex // guards what follows
	accepted map[*acceptedConn]struct{}
}

func (s *stream) Dial(address raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	member, at, ok := strings.Cut(string(address), toMember)
	if !ok {
		return nil, fmt.Errorf("dial %s: no member is named", address)
	}
	return s.Transport.Dial(member, at, timeout)
}

func (s *stream) Addr() net.Addr { return s.advertise }

func (s *stream) Accept() (net.Conn, error) {
	conn, err := s.Transport.Accept()
	if err != nil {
		return nil, err
	}
	c := &acceptedConn{Conn: conn, stream: s}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.accepted[c] = struct{}{}
	return c, nil
}

func (s *stream) hangUp() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.accepted {
		c.Conn.Close()
	}
}

type acceptedConn struct {
	net.Conn
	stream *stream
}

func (c *acceptedConn) Close() error {
	c.stream.mu.Lock()
	defer c.stream.mu.Unlock()
	delete(c.stream.accepted, c)
	return c.Conn.Close()
}

// advertised is an address that was given as text.
type advertised string

func (advertised) Network() string  { return "copepod" }
func (a advertised) String() string { return string(a) }

// transport is how Raft reaches others, this member's address there, and what
// ends all connections.
func (s *Store) transport() (t raft.Transport, self raft.ServerAddress, hangUp func()) {
	if s.cfg.Transport == nil {
		addr, t := raft.NewInmemTransport(raft.ServerAddress(s.cfg.NodeID))
		return t, addr, func() {}
	}
	st := &stream{Transport: s.cfg.Transport, advertise: s.cfg.Transport.Addr(), accepted: map[*acceptedConn]struct{}{}}
	if s.cfg.Advertise != "" {
		st.advertise = advertised(s.cfg.Advertise)
	}
	n := raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
		Stream:                  st,
		MaxPool:                 transportPool,
		Timeout:                 transportTimeout,
		Logger:                  newRaftLog(s.log),
		MsgpackUseNewTimeFormat: true,
	})
	return named{n, s.away}, n.LocalAddr(), func() {
		n.Close()
		n.CloseStreams()
		st.hangUp()
	}
}

// toMember stands between the member and its address on their way through
// Raft's transport, which hands only an address to Dial.
const toMember = "\x00"

// named tells Dial which member Raft means.
type named struct {
	*raft.NetworkTransport
	away *patience
}

func at(id raft.ServerID, target raft.ServerAddress) raft.ServerAddress {
	return raft.ServerAddress(id) + toMember + target
}

func (n named) AppendEntriesPipeline(id raft.ServerID, target raft.ServerAddress) (raft.AppendPipeline, error) {
	return n.NetworkTransport.AppendEntriesPipeline(id, at(id, target))
}

func (n named) AppendEntries(id raft.ServerID, target raft.ServerAddress, req *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	return n.away.append(id, req, resp, func() error {
		return n.NetworkTransport.AppendEntries(id, at(id, target), req, resp)
	})
}

func (n named) RequestVote(id raft.ServerID, target raft.ServerAddress, req *raft.RequestVoteRequest, resp *raft.RequestVoteResponse) error {
	return n.NetworkTransport.RequestVote(id, at(id, target), req, resp)
}

func (n named) RequestPreVote(id raft.ServerID, target raft.ServerAddress, req *raft.RequestPreVoteRequest, resp *raft.RequestPreVoteResponse) error {
	return n.NetworkTransport.RequestPreVote(id, at(id, target), req, resp)
}

func (n named) InstallSnapshot(id raft.ServerID, target raft.ServerAddress, req *raft.InstallSnapshotRequest, resp *raft.InstallSnapshotResponse, data io.Reader) error {
	return n.NetworkTransport.InstallSnapshot(id, at(id, target), req, resp, data)
}

func (n named) TimeoutNow(id raft.ServerID, target raft.ServerAddress, req *raft.TimeoutNowRequest, resp *raft.TimeoutNowResponse) error {
	return n.NetworkTransport.TimeoutNow(id, at(id, target), req, resp)
}
