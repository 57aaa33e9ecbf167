package vnet

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"syscall"
)

// Stack is one pod's end of the network: its address, its ports, its loopback.
// It is what a guest's sockets stand on.
type Stack struct {
	net    *Net
	ip     netip.Addr
	search []string

	mu        sync.Mutex // guards what follows
	ports     map[uint16]*Listener
	packets   map[uint16]*PacketConn
	conns     map[*conn]struct{} // accepted and dialled: cut when the pod goes
	ephemeral uint16
	closed    bool
}

// Limits of one pod.
const (
	maxPorts = 256
	maxConns = 16384
	backlog  = 1024 // connections that wait to be accepted, as net.core.somaxconn has it
)

// Addr is the pod's address.
func (s *Stack) Addr() netip.Addr { return s.ip }

// Listen opens a port of the pod. addr is "HOST:PORT"; the host must be empty,
// unspecified, loopback or the pod's own; port 0 takes a free one.
func (s *Stack) Listen(_ context.Context, network, addr string) (net.Listener, error) {
	port, err := s.listenPort(network, addr)
	if err != nil {
		return nil, &net.OpError{Op: "listen", Net: network, Err: err}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed:
		return nil, &net.OpError{Op: "listen", Net: network, Err: net.ErrClosed}
	case len(s.ports) >= maxPorts:
		return nil, &net.OpError{Op: "listen", Net: network, Err: fmt.Errorf("the pod has %d open ports: %w", maxPorts, syscall.EMFILE)}
	}
	if port == 0 {
		port = s.freePort()
	}
	if s.ports[port] != nil {
		return nil, &net.OpError{Op: "listen", Net: network, Err: fmt.Errorf("port %d: %w", port, ErrPortInUse)}
	}
	l := newListener(s, netip.AddrPortFrom(s.ip, port))
	s.ports[port] = l
	return l, nil
}

func (s *Stack) listenPort(network, addr string) (uint16, error) {
	if network != "tcp" && network != "tcp4" {
		return 0, ErrNoNetwork
	}
	host, service, err := net.SplitHostPort(addr)
	if err != nil {
		return 0, err
	}
	port, err := strconv.ParseUint(service, 10, 16)
	if err != nil {
		return 0, fmt.Errorf("port %q: want 0 to 65535", service)
	}
	if host == "" || host == "localhost" {
		return uint16(port), nil
	}
	ip, err := netip.ParseAddr(host)
	if err != nil {
		return 0, err
	}
	if ip = ip.Unmap(); ip != s.ip && !ip.IsLoopback() && !ip.IsUnspecified() {
		return 0, fmt.Errorf("%s is not the pod's address: %w", ip, syscall.EADDRNOTAVAIL)
	}
	return uint16(port), nil
}

// freePort picks from the dynamic ports of RFC 6335. The caller holds s.mu.
func (s *Stack) freePort() uint16 {
	for {
		s.ephemeral++
		if p := 49152 + s.ephemeral%16384; s.ports[p] == nil {
			return p
		}
	}
}

// Dial connects the pod to another pod, a Service, its own loopback, or, where
// the node allows it, the world outside. addr is "HOST:PORT"; names are resolved
// as Resolve does.
func (s *Stack) Dial(ctx context.Context, network, addr string) (net.Conn, error) {
	if network != "tcp" && network != "tcp4" {
		return nil, &net.OpError{Op: "dial", Net: network, Err: ErrNoNetwork}
	}
	host, service, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, &net.OpError{Op: "dial", Net: network, Err: err}
	}
	port, err := strconv.ParseUint(service, 10, 16)
	if err != nil {
		return nil, &net.OpError{Op: "dial", Net: network, Err: fmt.Errorf("port %q: want 1 to 65535", service)}
	}
	addrs, err := s.Resolve(ctx, host)
	if err != nil {
		return nil, &net.OpError{Op: "dial", Net: network, Err: err}
	}
	for _, ip := range addrs {
		var conn net.Conn
		if conn, err = s.dialIP(ctx, netip.AddrPortFrom(ip, uint16(port))); err == nil {
			return conn, nil
		}
	}
	return nil, err
}

func (s *Stack) dialIP(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
	if to.Addr().IsLoopback() || to.Addr().IsUnspecified() {
		to = netip.AddrPortFrom(s.ip, to.Port())
	}
	if s.net.inside(to.Addr()) {
		return s.net.dial(ctx, s.ip, to)
	}
	if s.net.cfg.Outside == nil {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Addr: net.TCPAddrFromAddrPort(to), Err: ErrUnroutable}
	}
	return s.net.cfg.Outside.Dial(ctx, to)
}

// Resolve finds the addresses of a host: a literal, "localhost", a cluster name
// by the Router, or a name outside.
func (s *Stack) Resolve(ctx context.Context, host string) ([]netip.Addr, error) {
	if host == "" || host == "localhost" {
		return []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1})}, nil
	}
	if ip, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{ip.Unmap()}, nil
	}
	if addrs, ok := s.lookup(host); ok {
		return addrs, nil
	}
	if s.net.cfg.Outside == nil {
		return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
	}
	return s.net.cfg.Outside.Resolve(ctx, host)
}

// lookup asks the Router for the name as it is and in each search domain.
func (s *Stack) lookup(host string) ([]netip.Addr, bool) {
	r := s.net.cfg.Router
	if r == nil {
		return nil, false
	}
	full := strings.TrimSuffix(host, ".")
	addrs, ok := r.Lookup(full)
	if ok || full != host {
		return addrs, ok
	}
	for _, domain := range s.search {
		if addrs, ok := r.Lookup(full + "." + domain); ok {
			return addrs, true
		}
	}
	return nil, false
}

// Close takes the pod off the network: its ports close and its connections are
// reset.
func (s *Stack) Close() error {
	s.net.mu.Lock()
	if s.net.pods[s.ip] == s {
		delete(s.net.pods, s.ip)
	}
	s.net.mu.Unlock()

	s.mu.Lock()
	s.closed = true
	ports, packets, conns := s.ports, s.packets, s.conns
	s.ports, s.packets, s.conns = nil, nil, nil
	s.mu.Unlock()
	for _, l := range ports {
		l.shut()
	}
	for _, c := range packets {
		c.shut()
	}
	for c := range conns {
		c.reset()
	}
	return nil
}

// connect makes a connection to one of this pod's listeners and returns the
// caller's end. from without a port gets one, and without an address is the node.
// done, if any, is told once when the caller's end closes.
func (s *Stack) connect(from netip.AddrPort, port uint16, done func()) (*conn, error) {
	s.mu.Lock()
	l := s.ports[port]
	if l == nil {
		s.mu.Unlock()
		return nil, ErrRefused
	}
	if len(s.conns) >= maxConns {
		s.mu.Unlock()
		return nil, fmt.Errorf("the pod has %d open connections: %w", maxConns, syscall.ECONNREFUSED)
	}
	if !from.Addr().IsValid() {
		from = netip.AddrPortFrom(netip.AddrFrom4([4]byte{169, 254, 0, 1}), from.Port()) // the node, as pods see it
	}
	if from.Port() == 0 {
		s.ephemeral++
		from = netip.AddrPortFrom(from.Addr(), 49152+s.ephemeral%16384)
	}
	near, far := newPair(from, l.addr)
	far.stack, near.done = s, done
	if s.conns == nil {
		s.conns = map[*conn]struct{}{}
	}
	s.conns[far] = struct{}{}
	s.mu.Unlock()
	if err := l.offer(far); err != nil {
		_ = far.Close()
		return nil, err
	}
	if caller := s.net.stack(from.Addr()); caller != nil {
		caller.adopt(near)
	}
	return near, nil
}

// adopt counts a dialled connection as the pod's, to be cut with it.
func (s *Stack) adopt(c *conn) {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		c.reset()
		return
	}
	if s.conns == nil {
		s.conns = map[*conn]struct{}{}
	}
	c.stack = s
	s.conns[c] = struct{}{}
	s.mu.Unlock()
}

func (s *Stack) forget(c *conn) {
	s.mu.Lock()
	delete(s.conns, c)
	s.mu.Unlock()
}
