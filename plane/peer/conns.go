package peer

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"time"
)

var errTooMany = errors.New("too many connections")

// memberConn is a connection in the table: one that another has opened, or
// one that we have made. Its Conn is a *tls.Conn after the handshake.
type memberConn struct {
	net.Conn
	peer   *Peer
	ours   bool   // we made it: it counts towards no limit
	from   string // IP address; set while the handshake lasts
	member string // set after it
	cert   *x509.Certificate
}

func (c *memberConn) Close() error {
	c.peer.mu.Lock()
	c.peer.conns.remove(c)
	conn := c.Conn
	c.peer.mu.Unlock()
	return conn.Close()
}

// connTable is all connections and what they count towards.
type connTable struct {
	all         map[*memberConn]struct{}
	accepted    int
	handshaking map[string]int           // by IP address
	members     map[string][]*memberConn // accepted, by member, the oldest first
	closed      bool
}

func newConnTable() connTable {
	return connTable{all: map[*memberConn]struct{}{}, handshaking: map[string]int{}, members: map[string][]*memberConn{}}
}

func (t *connTable) authenticated() []*memberConn {
	var open []*memberConn
	for c := range t.all {
		if c.member != "" {
			open = append(open, c)
		}
	}
	return open
}

func (t *connTable) remove(c *memberConn) {
	if _, ok := t.all[c]; !ok {
		return
	}
	delete(t.all, c)
	if c.ours {
		return
	}
	t.accepted--
	t.leaveHandshake(c)
	if c.member == "" {
		return
	}
	theirs := t.members[c.member]
	for i, other := range theirs {
		if other == c {
			theirs = append(theirs[:i:i], theirs[i+1:]...)
			break
		}
	}
	if t.members[c.member] = theirs; len(theirs) == 0 {
		delete(t.members, c.member)
	}
}

func (t *connTable) leaveHandshake(c *memberConn) {
	if c.from == "" {
		return
	}
	if t.handshaking[c.from]--; t.handshaking[c.from] == 0 {
		delete(t.handshaking, c.from)
	}
	c.from = ""
}

// admit enters a connection of a stranger into the table, if there is room.
func (p *Peer) admit(conn net.Conn) (*memberConn, error) {
	from, _, err := net.SplitHostPort(conn.RemoteAddr().String())
	if err != nil {
		from = conn.RemoteAddr().String()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	t := &p.conns
	switch {
	case t.closed:
		return nil, net.ErrClosed
	case t.accepted >= p.cfg.MaxConns:
		return nil, fmt.Errorf("%w: %d are open", errTooMany, t.accepted)
	case t.handshaking[from] >= handshakesPerAddress:
		return nil, fmt.Errorf("%w: %d handshakes of %s are unfinished", errTooMany, t.handshaking[from], from)
	}
	c := &memberConn{Conn: conn, peer: p, from: from}
	t.all[c] = struct{}{}
	t.accepted++
	t.handshaking[from]++
	return c, nil
}

// identify moves a connection from its address to its member. One too many
// takes the place of the member's oldest, which may be what a crash left
// behind: nobody but the member itself is harmed.
func (p *Peer) identify(c *memberConn, conn *tls.Conn, member string) error {
	p.mu.Lock()
	t := &p.conns
	if _, ok := t.all[c]; !ok || t.closed {
		p.mu.Unlock()
		return net.ErrClosed
	}
	t.leaveHandshake(c)
	var oldest *memberConn
	if theirs := t.members[member]; len(theirs) >= p.cfg.MaxConnsPerMember {
		oldest = theirs[0]
	}
	c.Conn, c.member = conn, member
	t.members[member] = append(t.members[member], c)
	p.mu.Unlock()
	if oldest != nil {
		p.refused(reasonLimit, oldest.RemoteAddr(), fmt.Errorf("%w: member %s has %d open, its oldest ends", errTooMany, member, p.cfg.MaxConnsPerMember))
		oldest.Close()
	}
	return nil
}

// adopt enters a connection that we made, so that it ends with its
// certificate, and with Run.
func (p *Peer) adopt(conn *tls.Conn, member string) (*memberConn, error) {
	c := &memberConn{Conn: conn, peer: p, ours: true, member: member, cert: conn.ConnectionState().PeerCertificates[0]}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.conns.closed {
		conn.Close()
		return nil, fmt.Errorf("peer: dial %s: %w", member, net.ErrClosed)
	}
	p.conns.all[c] = struct{}{}
	return c, nil
}

// closeAll ends every connection and lets no other begin. A TLS connection
// would first tell the other end, and wait for it to listen.
func (p *Peer) closeAll() {
	p.mu.Lock()
	p.conns.closed = true
	all := make(map[*memberConn]net.Conn, len(p.conns.all))
	for c := range p.conns.all {
		all[c] = c.Conn
	}
	p.mu.Unlock()
	for c, conn := range all {
		conn.SetDeadline(time.Now().Add(100 * time.Millisecond))
		c.Close()
	}
}
