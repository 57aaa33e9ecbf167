// Package vnet is the pod network of one node, in memory: every pod has an
// address of its own and a port space of its own, and a connection between two
// pods, or from the node to a pod, is a pair of bounded buffers. No kernel
// socket, no privilege, no packet. It knows addresses, ports, names and byte
// streams; it never learns what a pod or a Service is: a Router tells it where
// virtual addresses and names lead, and a Remote carries what is for pods of other
// nodes.
//
//	n := vnet.New(vnet.Config{Router: proxy})
//	pod, err := n.Attach(netip.MustParseAddr("10.42.0.7"))
//	ln, err := pod.Listen(ctx, "tcp", ":8080")          // what the guest serves
//	conn, err := n.Dial(ctx, netip.MustParseAddrPort("10.42.0.7:8080"))
package vnet

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"syscall"
)

// Errors that a dial or a listen ends with; they wrap the errno that a guest
// sees, so errors.Is(err, syscall.ECONNREFUSED) works as on kernel sockets.
var (
	ErrRefused    = fmt.Errorf("nobody listens there: %w", syscall.ECONNREFUSED)
	ErrPortInUse  = fmt.Errorf("the port is taken: %w", syscall.EADDRINUSE)
	ErrDenied     = fmt.Errorf("the pod may not reach that address: %w", syscall.EACCES)
	ErrNoNetwork  = fmt.Errorf("only tcp is carried: %w", syscall.EPROTONOSUPPORT)
	ErrUnroutable = fmt.Errorf("no route to that address: %w", syscall.EHOSTUNREACH)
)

// Router knows the addresses and names that stand for others: Services.
type Router interface {
	// Route replaces a virtual address by the address of a pod that answers for
	// it. ok is false for an address that is not virtual; an error says that it
	// is, and that nobody answers. done, if any, is called when the connection
	// to that pod has ended.
	Route(to netip.AddrPort) (pod netip.AddrPort, done func(), ok bool, err error)
	// Lookup resolves a full name; ok is false for names that it does not know.
	Lookup(host string) (addrs []netip.Addr, ok bool)
}

// Config configures a Net; the zero value makes a network of pods alone.
type Config struct {
	Router  Router         // nil: no Services
	Outside Outside        // nil: pods reach nothing outside
	Remote  Remote         // nil: there are no other nodes
	Inside  []netip.Prefix // the cluster's own ranges: what nobody answers there never goes outside
}

// Net is the network of one node.
type Net struct {
	cfg Config

	mu   sync.RWMutex // guards what follows
	pods map[netip.Addr]*Stack
}

// New makes a network without pods.
func New(cfg Config) *Net {
	return &Net{cfg: cfg, pods: map[netip.Addr]*Stack{}}
}

// Attach gives a pod its place on the network. The address must be free. search
// are the domains in which the pod's short names are looked up, first to last,
// as resolv.conf(5) has it.
func (n *Net) Attach(ip netip.Addr, search ...string) (*Stack, error) {
	if !ip.Is4() {
		return nil, fmt.Errorf("pod address %s: want IPv4", ip)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.pods[ip] != nil {
		return nil, fmt.Errorf("pod address %s: %w", ip, syscall.EADDRINUSE)
	}
	s := &Stack{net: n, ip: ip, search: search, ports: map[uint16]*Listener{}}
	n.pods[ip] = s
	return s, nil
}

// Dial connects the node itself to a pod's port or to a virtual address.
func (n *Net) Dial(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
	return n.dial(ctx, netip.Addr{}, to)
}

// route follows a virtual address to a pod's, past those that were tried. done
// may be nil.
func (n *Net) route(to netip.AddrPort, tried []netip.AddrPort) (pod netip.AddrPort, done func(), virtual bool, err error) {
	if n.cfg.Router == nil {
		return to, nil, false, nil
	}
	if r, ok := n.cfg.Router.(Alternatives); ok && len(tried) > 0 {
		pod, done, virtual, err = r.RouteAgain(to, tried)
	} else {
		pod, done, virtual, err = n.cfg.Router.Route(to)
	}
	if err != nil {
		return to, nil, true, &net.OpError{Op: "dial", Net: "tcp", Addr: net.TCPAddrFromAddrPort(to), Err: errors.Join(err, ErrRefused)}
	}
	return pod, done, virtual, nil
}

// inside says whether the address is the cluster's, answered or not.
func (n *Net) inside(to netip.Addr) bool {
	if n.stack(to) != nil {
		return true
	}
	for _, p := range n.cfg.Inside {
		if p.Contains(to) {
			return true
		}
	}
	return false
}

func (n *Net) stack(ip netip.Addr) *Stack {
	n.mu.RLock()
	defer n.mu.RUnlock()
	return n.pods[ip]
}
