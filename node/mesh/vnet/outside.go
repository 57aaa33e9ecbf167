package vnet

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"time"
)

// Outside carries what leaves the pod network.
type Outside interface {
	Dial(ctx context.Context, to netip.AddrPort) (net.Conn, error)
	Resolve(ctx context.Context, host string) ([]netip.Addr, error)
}

// Egress is the Outside of a node that lets pods reach other machines but
// neither the machine they run on nor the link it is on: no loopback, no
// link-local (where clouds keep machine credentials), no multicast, none of the
// node's own addresses. The zero value works.
type Egress struct {
	Timeout time.Duration // for a connection to be made; 0 = 10 s
}

// Dial connects to an address outside, if pods may reach it.
func (e Egress) Dial(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
	d := net.Dialer{
		Timeout: e.Timeout,
		Control: func(_, address string, _ syscall.RawConn) error {
			ap, err := netip.ParseAddrPort(address)
			if err != nil {
				return err
			}
			return permitted(ap.Addr())
		},
	}
	if d.Timeout <= 0 {
		d.Timeout = 10 * time.Second
	}
	return d.DialContext(ctx, "tcp", to.String())
}

// Resolve asks the node's resolver, and leaves out what pods may not reach.
func (e Egress) Resolve(ctx context.Context, host string) ([]netip.Addr, error) {
	found, err := net.DefaultResolver.LookupNetIP(ctx, "ip4", host)
	if err != nil {
		return nil, err
	}
	var addrs []netip.Addr
	for _, a := range found {
		if a = a.Unmap(); permitted(a) == nil {
			addrs = append(addrs, a)
		}
	}
	if len(addrs) == 0 {
		return nil, &net.DNSError{Err: "no address that pods may reach", Name: host, IsNotFound: true}
	}
	return addrs, nil
}

// permitted refuses the addresses that mean this machine or its link.
func permitted(a netip.Addr) error {
	a = a.Unmap()
	if a.IsLoopback() || a.IsUnspecified() || a.IsLinkLocalUnicast() || a.IsMulticast() || a == netip.AddrFrom4([4]byte{255, 255, 255, 255}) {
		return fmt.Errorf("%s: %w", a, ErrDenied)
	}
	own, err := net.InterfaceAddrs()
	if err != nil {
		return fmt.Errorf("%s: the node's own addresses are unknown: %w", a, ErrDenied)
	}
	for _, o := range own {
		if n, ok := o.(*net.IPNet); ok && n.IP.Equal(net.IP(a.AsSlice())) {
			return fmt.Errorf("%s is the node itself: %w", a, ErrDenied)
		}
	}
	return nil
}
