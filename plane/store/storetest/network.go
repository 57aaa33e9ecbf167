package storetest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"copepod/plane/store"
)

// Network carries stores of one process to each other, in memory, and can be
// cut. It works in a synctest bubble.
type Network struct {
	mu      sync.Mutex // guards what follows
	members map[string]*member
	cut     map[string]bool // isolated addresses
	conns   map[*conn]struct{}
	stores  map[string]*store.Store
}

// NewNetwork returns a network without members.
func NewNetwork() *Network {
	return &Network{members: map[string]*member{}, cut: map[string]bool{}, conns: map[*conn]struct{}{}, stores: map[string]*store.Store{}}
}

// Join gives an address of the network to a store. The same address may join
// again once the store before it has stopped.
func (n *Network) Join(address string) store.Transport {
	n.mu.Lock()
	defer n.mu.Unlock()
	m := &member{network: n, address: address, incoming: make(chan net.Conn), closed: make(chan struct{})}
	n.members[address] = m
	return m
}

// Isolate cuts an address off from all others, connections included.
func (n *Network) Isolate(address string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.cut[address] = true
	for c := range n.conns {
		if c.from == address || c.to == address {
			c.Conn.Close()
		}
	}
}

// Heal lets everybody reach everybody again.
func (n *Network) Heal() {
	n.mu.Lock()
	defer n.mu.Unlock()
	clear(n.cut)
}

func (n *Network) route(from, to string) (*member, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	m := n.members[to]
	if m == nil || n.cut[from] || n.cut[to] {
		return nil, fmt.Errorf("dial %s: %w", to, errors.New("no route"))
	}
	return m, nil
}

// member is one address. It implements store.Transport and is its own
// net.Addr.
type member struct {
	network  *Network
	address  string
	incoming chan net.Conn
	closed   chan struct{}
	once     sync.Once
}

func (m *member) Network() string { return "memory" }
func (m *member) String() string  { return m.address }
func (m *member) Addr() net.Addr  { return m }

func (m *member) Accept() (net.Conn, error) {
	select {
	case c := <-m.incoming:
		return c, nil
	case <-m.closed:
		return nil, net.ErrClosed
	}
}

func (m *member) Close() error {
	m.once.Do(func() { close(m.closed) })
	return nil
}

func (m *member) Dial(_, address string, timeout time.Duration) (net.Conn, error) {
	to, err := m.network.route(m.address, address)
	if err != nil {
		return nil, err
	}
	near, far := net.Pipe()
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	select {
	case to.incoming <- far:
		return m.network.track(&conn{Conn: near, network: m.network, from: m.address, to: address})
	case <-to.closed:
		return nil, fmt.Errorf("dial %s: %w", address, net.ErrClosed)
	case <-timer.C:
		return nil, fmt.Errorf("dial %s: nobody accepts", address)
	}
}

// track remembers a connection until it is closed, unless it was cut already.
func (n *Network) track(c *conn) (net.Conn, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.cut[c.from] || n.cut[c.to] {
		c.Conn.Close()
		return nil, fmt.Errorf("dial %s: %w", c.to, net.ErrClosed)
	}
	n.conns[c] = struct{}{}
	return c, nil
}

// conn is the end of the one who dialled.
type conn struct {
	net.Conn
	network  *Network
	from, to string
}

func (c *conn) Close() error {
	c.network.mu.Lock()
	defer c.network.mu.Unlock()
	delete(c.network.conns, c)
	return c.Conn.Close()
}

// Forwarder carries requests from an address to the stores of the network.
func (n *Network) Forwarder(from string) store.Forwarder { return forwarder{n, from} }

// Serve lets a store answer the requests that come to an address.
func (n *Network) Serve(address string, st *store.Store) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.stores[address] = st
}

type forwarder struct {
	network *Network
	from    string
}

// Call loses the answer when the network was cut meanwhile.
func (f forwarder) Call(ctx context.Context, member, address string, request []byte) ([]byte, error) {
	st, err := f.target(address)
	if err != nil {
		return nil, err
	}
	if st.NodeID() != member {
		return nil, fmt.Errorf("dial %s: it is %s, not %s", address, st.NodeID(), member)
	}
	answer, err := st.Serve(ctx, f.from, request)
	if err != nil {
		return nil, err
	}
	if _, err := f.target(address); err != nil {
		return nil, fmt.Errorf("the answer is lost: %w", err)
	}
	return answer, nil
}

func (f forwarder) target(address string) (*store.Store, error) {
	n := f.network
	n.mu.Lock()
	defer n.mu.Unlock()
	st := n.stores[address]
	if st == nil || n.cut[f.from] || n.cut[address] {
		return nil, fmt.Errorf("dial %s: %w", address, errors.New("no route"))
	}
	return st, nil
}
