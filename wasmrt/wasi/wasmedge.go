package wasi

import (
	"encoding/binary"
	"net/netip"
)

// dialects are functions that share preview1's module, and sometimes a name,
// but come from WasmEdge, by name and then by shape: the types that a module
// imports them with tell which is meant.
// Source: WasmEdge, lib/host/wasi/wasimodule.cpp and wasifunc.cpp.
var dialects = map[string][]function{
	"sock_open":         {{params: "iii", call: edgeOpen}},
	"sock_bind":         {{params: "iii", call: edgeBind}},
	"sock_listen":       {{params: "ii", call: edgeListen}},
	"sock_accept":       {{params: "ii", call: edgeAccept}},
	"sock_connect":      {{params: "iii", call: edgeConnect}},
	"sock_recv_from":    {{params: "iiiiiii", call: edgeRecvFrom7}, {params: "iiiiiiii", call: edgeRecvFrom}},
	"sock_send_to":      {{params: "iiiiiii", call: edgeSendTo}},
	"sock_getsockopt":   {{params: "iiiii", call: edgeGetOption}},
	"sock_setsockopt":   {{params: "iiiii", call: edgeSetOption}},
	"sock_getlocaladdr": {{params: "iiii", call: edgeLocal4}, {params: "iii", call: edgeLocal}},
	"sock_getpeeraddr":  {{params: "iiii", call: edgePeer4}, {params: "iii", call: edgePeer}},
	"sock_getaddrinfo":  {{params: "iiiiiiii", call: edgeResolve}},

	"sock_open_v2":         {{params: "iii", call: edgeOpen}},
	"sock_bind_v2":         {{params: "iii", call: edgeBind}},
	"sock_listen_v2":       {{params: "ii", call: edgeListen}},
	"sock_accept_v2":       {{params: "iii", call: sockAccept}},
	"sock_connect_v2":      {{params: "iii", call: edgeConnect}},
	"sock_recv_v2":         {{params: "iiiiii", call: sockRecv}},
	"sock_recv_from_v2":    {{params: "iiiiiiii", call: edgeRecvFrom}},
	"sock_send_v2":         {{params: "iiiii", call: sockSend}},
	"sock_send_to_v2":      {{params: "iiiiiii", call: edgeSendTo}},
	"sock_getlocaladdr_v2": {{params: "iii", call: edgeLocal}},
	"sock_getpeeraddr_v2":  {{params: "iii", call: edgePeer}},
}

// WasmEdge's numbers.
const (
	familyAny = 0
	familyV4  = 1
	familyV6  = 2

	socketAny      = 0
	socketDatagram = 1
	socketStream   = 2

	storageSize = 128 // an address with its family in the first two bytes
)

func edgeOpen(s *System, f frame) errno {
	family, kind := f.u32(0), f.u32(1)
	switch {
	case s.outside == nil:
		return errNotSupported
	case family > familyV6:
		return errFamily
	case kind > socketStream:
		return errProtocol
	}
	u := &unborn{v6: family == familyV6, datagram: kind == socketDatagram}
	fd, e := s.table.add(&descriptor{file: u, rights: rightsOfSocket})
	if e != success {
		return e
	}
	return f.mem.putU32(f.u32(2), fd)
}

// unborn is a socket that the guest opened and did not connect.
func (s *System) unborn(fd uint32) (*descriptor, *unborn, errno) {
	d, e := s.table.get(fd)
	if e != success {
		return nil, nil, e
	}
	u, ok := d.file.(*unborn)
	if !ok {
		switch d.file.(type) {
		case *connection:
			return d, nil, errIsConnected
		case *dialing:
			return d, nil, errAlready
		case *listening, *datagrams:
			return d, nil, errInvalid
		}
		return d, nil, errNotSocket
	}
	return d, u, success
}

func edgeBind(s *System, f frame) errno {
	at, e := f.address(1, f.u32(2))
	if e != success {
		return e
	}
	d, u, e := s.unborn(f.fd(0))
	if e != success {
		return e
	}
	if u.datagram {
		return s.bindDatagrams(d, at)
	}
	if u.bound != nil {
		return errInvalid
	}
	l, err := s.outside.listen(at)
	if err != nil {
		return toErrno(err)
	}
	u.bound = l
	return success
}

func (s *System) bindDatagrams(d *descriptor, at netip.AddrPort) errno {
	n, ok := s.outside.network.(PacketNetwork)
	if !ok {
		return errNotSupported
	}
	c, err := n.ListenPacket(s.outside.ctx, "udp", at.String())
	if err != nil {
		return toErrno(err)
	}
	d.file = newDatagrams(c)
	return success
}

// anyAddress is where a socket is bound that was not told where.
func (u *unborn) anyAddress() netip.AddrPort {
	if u.v6 {
		return netip.AddrPortFrom(netip.IPv6Unspecified(), 0)
	}
	return netip.AddrPortFrom(netip.IPv4Unspecified(), 0)
}

func edgeListen(s *System, f frame) errno {
	d, u, e := s.unborn(f.fd(0))
	if e != success {
		return e
	}
	if u.datagram {
		return errNotSupported
	}
	if u.bound == nil {
		l, err := s.outside.listen(u.anyAddress())
		if err != nil {
			return toErrno(err)
		}
		u.bound = l
	}
	d.file = newListening(u.bound)
	return success
}

func edgeAccept(s *System, f frame) errno {
	fd, e := s.accept(f.fd(0), 0)
	if e != success {
		return e
	}
	return f.mem.putU32(f.u32(1), fd)
}

// edgeConnect dials. On a descriptor that does not block it begins, answers
// "in progress", and a further call (or the socket's error option) tells how it
// went, as connect(2).
func edgeConnect(s *System, f frame) errno {
	to, e := f.address(1, f.u32(2))
	if e != success {
		return e
	}
	d, u, e := s.unborn(f.fd(0))
	if d == nil {
		return e
	}
	if e == success {
		if u.datagram {
			if e := s.bindDatagrams(d, u.anyAddress()); e != success {
				return e
			}
		} else {
			u.close() // a source address of its own is not kept
			d.file = s.outside.dial(to)
		}
	}
	switch on := d.file.(type) {
	case *datagrams:
		on.peer = to
		return success
	case *dialing:
		for {
			e := on.settle(d)
			switch {
			case e != errAgain:
				return e
			case !d.blocking():
				return errInProgress
			case s.await(on, Write, d.patience[Write]):
				return errTimedOut
			}
		}
	}
	return e
}

// address is the {pointer, length} at argument i, with a port: four or sixteen
// bytes, or a storage that says which of the two follow.
func (f frame) address(i int, port uint32) (netip.AddrPort, errno) {
	b, e := f.addressBytes(i)
	if e != success {
		return netip.AddrPort{}, e
	}
	if len(b) == storageSize {
		switch binary.LittleEndian.Uint16(b) {
		case familyV4:
			b = b[2:6]
		case familyV6:
			b = b[2:18]
		default:
			return netip.AddrPort{}, errFamily
		}
	}
	ip, ok := netip.AddrFromSlice(b)
	if !ok || port > 1<<16-1 {
		return netip.AddrPort{}, errInvalid
	}
	return netip.AddrPortFrom(ip.Unmap(), uint16(port)), success
}

func (f frame) addressBytes(i int) ([]byte, errno) {
	at, ok := f.mem.view(f.u32(i), 8)
	if !ok {
		return nil, errFault
	}
	b, ok := f.mem.view(binary.LittleEndian.Uint32(at), binary.LittleEndian.Uint32(at[4:]))
	if !ok {
		return nil, errFault
	}
	return b, success
}

// putAddress writes the address into the guest's buffer: a bare one if it is
// four or sixteen bytes long, else a storage.
func (f frame) putAddress(i int, a netip.Addr) errno {
	b, e := f.addressBytes(i)
	if e != success {
		return e
	}
	if len(b) == storageSize {
		clear(b)
		family := uint16(familyV4)
		if a.Is6() {
			family = familyV6
		}
		binary.LittleEndian.PutUint16(b, family)
		b = b[2:]
	}
	raw := a.AsSlice()
	if len(b) < len(raw) {
		return errInvalid
	}
	copy(b, raw)
	return success
}

func edgeRecvFrom7(s *System, f frame) errno { return s.receiveFrom(f, 0, 5, 6) }

func edgeRecvFrom(s *System, f frame) errno { return s.receiveFrom(f, 5, 6, 7) }

// receiveFrom is sock_recv_from; port, count and flags are the numbers of the
// arguments that point to where those go. A port of 0 is none.
func (s *System) receiveFrom(f frame, port, count, flags int) errno {
	d, e := s.table.get(f.fd(0))
	if e != success {
		return e
	}
	bufs, e := f.mem.vectors(s.vectors[:0], f.u32(1), f.u32(2))
	if e != success {
		return e
	}
	s.vectors = bufs[:0]
	var n uint32
	var cut uint16
	var from netip.AddrPort
	switch on := d.file.(type) {
	case *datagrams:
		n, cut, from, e = s.receiveDatagram(d, on, bufs, f.u32(4)&recvPeek != 0)
	case *connection:
		from = addrOf(on.RemoteAddr())
		n, cut, e = s.receive(d, bufs, f.u32(4))
	default:
		e = misused(d)
	}
	if e != success {
		return e
	}
	if e := f.putAddress(3, from.Addr()); e != success {
		return e
	}
	if port != 0 {
		if e := f.mem.putU32(f.u32(port), uint32(from.Port())); e != success {
			return e
		}
	}
	if e := f.mem.putU32(f.u32(count), n); e != success {
		return e
	}
	return f.mem.putU16(f.u32(flags), cut)
}

func edgeSendTo(s *System, f frame) errno {
	to, e := f.address(3, f.u32(4))
	if e != success {
		return e
	}
	d, u, e := s.unborn(f.fd(0))
	if d == nil {
		return e
	}
	if u != nil && u.datagram {
		if e := s.bindDatagrams(d, u.anyAddress()); e != success {
			return e
		}
	}
	bufs, e := f.mem.vectors(s.vectors[:0], f.u32(1), f.u32(2))
	if e != success {
		return e
	}
	s.vectors = bufs[:0]
	on, ok := d.file.(*datagrams)
	if !ok {
		return misused(d)
	}
	n, e := on.send(bufs, to)
	if e != success {
		return e
	}
	return f.mem.putU32(f.u32(6), n)
}
