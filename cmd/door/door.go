// Package door bounds how many connections strangers hold at a port. A caller is a
// stranger until the server says that it has proven who it is; when there are too
// many strangers, the address that has the most of them loses its oldest. So a
// flood ends its own connections, not those of others, and takes no more than its
// share of the process's descriptors. It knows addresses and connections; it never
// learns how callers prove themselves.
//
//	l := door.New(listener, door.Config{Strangers: 1024})
//	conn, err := l.Accept()
//	l.Know(conn.RemoteAddr().String()) // it has shown a certificate
package door

import (
	"cmp"
	"container/list"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// Config configures a Listener.
type Config struct {
	Strangers int          // connections of those who have proven nothing; 0: 1024
	Log       *slog.Logger // nil: slog.Default()
}

// tellEvery is the pause between two lines of the log, so that strangers cannot
// fill it.
const tellEvery = 10 * time.Second

// Listener is a net.Listener of TCP with bounds.
type Listener struct {
	net.Listener
	cfg  Config
	shed atomic.Uint64

	mu        sync.Mutex // guards what follows
	strangers map[netip.AddrPort]*list.Element
	sources   map[netip.Prefix]*list.List // of *conn, the oldest first
	told      time.Time
}

// New bounds a listener, which it owns from now on.
func New(l net.Listener, cfg Config) *Listener {
	cfg.Strangers = cmp.Or(cfg.Strangers, 1024)
	cfg.Log = cmp.Or(cfg.Log, slog.Default())
	return &Listener{Listener: l, cfg: cfg, strangers: map[netip.AddrPort]*list.Element{}, sources: map[netip.Prefix]*list.List{}}
}

// Shed is how many connections were closed to make room.
func (l *Listener) Shed() uint64 { return l.shed.Load() }

// Accept takes the next connection. What does not come over TCP is not bounded.
func (l *Listener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	tcp, ok := c.(*net.TCPConn)
	if !ok {
		return c, nil
	}
	guest := &conn{TCPConn: tcp, door: l}
	if from, ok := c.RemoteAddr().(*net.TCPAddr); ok {
		guest.from = from.AddrPort()
	}
	if out := l.enter(guest); out != nil {
		_ = out.TCPConn.Close()
		l.shed.Add(1)
	}
	return guest, nil
}

// Know says that the caller at the other end of a connection (its RemoteAddr) is
// no stranger any more.
func (l *Listener) Know(remote string) {
	if from, err := netip.ParseAddrPort(remote); err == nil {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.forget(from)
	}
}

// enter notes a stranger, and picks who has to go for it.
func (l *Listener) enter(c *conn) (out *conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	source := network(c.from)
	theirs := l.sources[source]
	if theirs == nil {
		theirs = list.New()
		l.sources[source] = theirs
	}
	l.strangers[c.from] = theirs.PushBack(c)
	if len(l.strangers) <= l.cfg.Strangers {
		return nil
	}
	busiest := theirs
	for _, s := range l.sources {
		if s.Len() > busiest.Len() {
			busiest = s
		}
	}
	out = busiest.Front().Value.(*conn)
	l.forget(out.from)
	if now := time.Now(); now.Sub(l.told) > tellEvery {
		l.told = now
		l.cfg.Log.Warn("too many connections whose callers prove nothing: those of the busiest address are closed",
			"port", l.Addr().String(), "from", network(out.from).String(), "open", l.cfg.Strangers)
	}
	return out
}

// forget takes a connection out of the strangers. The caller holds the lock.
func (l *Listener) forget(from netip.AddrPort) {
	e, ok := l.strangers[from]
	if !ok {
		return
	}
	delete(l.strangers, from)
	source := network(from)
	if theirs := l.sources[source]; theirs != nil {
		if theirs.Remove(e); theirs.Len() == 0 {
			delete(l.sources, source)
		}
	}
}

// network is what counts as one source: an address; of IPv6, the network that one
// customer has.
func network(from netip.AddrPort) netip.Prefix {
	a := from.Addr().Unmap().WithZone("")
	bits := 32
	if a.Is6() {
		bits = 64
	}
	p, _ := a.Prefix(bits) // of no address: the zero prefix, which all such share
	return p
}

// conn is a TCP connection that is forgotten when it closes.
type conn struct {
	*net.TCPConn
	door *Listener
	from netip.AddrPort
}

func (c *conn) Close() error {
	c.door.mu.Lock()
	if e, ok := c.door.strangers[c.from]; ok && e.Value == c { // the port may be another's by now
		c.door.forget(c.from)
	}
	c.door.mu.Unlock()
	return c.TCPConn.Close()
}
