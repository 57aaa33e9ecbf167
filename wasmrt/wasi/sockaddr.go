package wasi

import "net/netip"

// The addresses of a socket, in WasmEdge's two shapes.

func edgeLocal4(s *System, f frame) errno { return s.putSocketAddress(f, (*System).localAddress) }
func edgePeer4(s *System, f frame) errno  { return s.putSocketAddress(f, (*System).peerAddress) }
func edgeLocal(s *System, f frame) errno  { return s.putSocketAddress(f, (*System).localAddress) }
func edgePeer(s *System, f frame) errno   { return s.putSocketAddress(f, (*System).peerAddress) }

// putSocketAddress writes an address and its port. The older shape has an
// argument for the family between the two, and says 4 or 6 there.
func (s *System) putSocketAddress(f frame, which func(*System, *descriptor) (netip.AddrPort, errno)) errno {
	d, e := s.table.get(f.fd(0))
	if e != success {
		return e
	}
	a, e := which(s, d)
	if e != success {
		return e
	}
	if e := f.putAddress(1, a.Addr()); e != success {
		return e
	}
	port := 2
	if len(f.arg) == 4 {
		family := uint32(4)
		if a.Addr().Is6() {
			family = 6
		}
		if e := f.mem.putU32(f.u32(2), family); e != success {
			return e
		}
		port = 3
	}
	return f.mem.putU32(f.u32(port), uint32(a.Port()))
}

func (s *System) localAddress(d *descriptor) (netip.AddrPort, errno) {
	switch on := d.file.(type) {
	case *connection:
		return known(addrOf(on.LocalAddr()))
	case *listening:
		return known(addrOf(on.Addr()))
	case *datagrams:
		return known(addrOf(on.LocalAddr()))
	case *unborn:
		if on.bound != nil {
			return known(addrOf(on.bound.Addr()))
		}
		return on.anyAddress(), success
	case *dialing:
		return netip.AddrPortFrom(netip.IPv4Unspecified(), 0), success
	}
	return netip.AddrPort{}, errNotSocket
}

func (s *System) peerAddress(d *descriptor) (netip.AddrPort, errno) {
	switch on := d.file.(type) {
	case *connection:
		return known(addrOf(on.RemoteAddr()))
	case *datagrams:
		if on.peer.IsValid() {
			return on.peer, success
		}
		return netip.AddrPort{}, errNotConnected
	}
	return netip.AddrPort{}, misused(d)
}

// known refuses an address that is none, such as a memory pipe's.
func known(a netip.AddrPort) (netip.AddrPort, errno) {
	if !a.IsValid() {
		return a, errAddrNotAvail
	}
	return a, success
}
