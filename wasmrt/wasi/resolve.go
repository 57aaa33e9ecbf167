package wasi

import (
	"context"
	"encoding/binary"
	"net/netip"
	"strconv"
	"strings"
)

// Layout of WasmEdge's addrinfo and sockaddr.
const (
	infoSize      = 28
	infoFamily    = 2
	infoKind      = 3
	infoProtocol  = 4
	infoAddrLen   = 8
	infoAddr      = 12
	infoNameLen   = 20
	infoNext      = 24
	sockaddrSize  = 12
	sockaddrLen   = 4
	sockaddrData  = 8
	maxHostname   = 255
	maxResults    = 64
	flagPassive   = 1
	protocolTCP   = 1
	protocolUDP   = 2
	shownAddrSize = 16
)

// edgeResolve is getaddrinfo. The guest brings a linked list of empty results;
// the ones that are used are filled in, and their number told.
func edgeResolve(s *System, f frame) errno {
	node, e := f.hostname(0)
	if e != success {
		return e
	}
	service, e := f.hostname(2)
	if e != success {
		return e
	}
	hint, ok := f.mem.view(f.u32(4), infoSize)
	if !ok {
		return errFault
	}
	first, ok := f.mem.u32(f.u32(5))
	if !ok {
		return errFault
	}
	switch {
	case s.outside == nil:
		return errNameFailed
	case node == "" && service == "":
		return errNameUnknown
	case hint[infoFamily] > familyV6:
		return errNameFamily
	case f.u32(6) == 0:
		return errNameMemory
	}
	port, e := servicePort(service)
	if e != success {
		return e
	}
	q := question{node: node, family: hint[infoFamily], passive: hint[0]&flagPassive != 0}
	addrs, e := s.lookup(q)
	if e != success {
		return e
	}
	room := min(f.u32(6), maxResults)
	n, e := f.mem.putResults(first, room, addrs, port, hint)
	if e != success {
		return e
	}
	return f.mem.putU32(f.u32(7), n)
}

// hostname reads a string that may end in a zero byte.
func (f frame) hostname(i int) (string, errno) {
	text, e := f.path(i)
	if e != success {
		return "", e
	}
	text, _, _ = strings.Cut(text, "\x00")
	if len(text) > maxHostname {
		return "", errNameUnknown
	}
	return text, success
}

// services are the names that guests use without /etc/services.
var services = map[string]uint16{"": 0, "http": 80, "https": 443, "domain": 53, "dns": 53}

func servicePort(service string) (uint16, errno) {
	if port, ok := services[service]; ok {
		return port, success
	}
	n, err := strconv.ParseUint(service, 10, 16)
	if err != nil {
		return 0, errNameService
	}
	return uint16(n), success
}

// question is what the guest asks for.
type question struct {
	node    string
	family  byte
	passive bool // for listening: no name is every address
}

func (q question) wants(a netip.Addr) bool {
	return q.family == familyAny || q.family == familyV4 && a.Is4() || q.family == familyV6 && a.Is6()
}

func (s *System) lookup(q question) ([]netip.Addr, errno) {
	found := []netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.IPv6Loopback()}
	if q.node == "" && q.passive {
		found = []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()}
	}
	if ip, err := netip.ParseAddr(q.node); err == nil {
		found = []netip.Addr{ip}
	} else if q.node != "" {
		found, err = blocking(s, func(ctx context.Context) ([]netip.Addr, error) {
			return s.outside.network.Resolve(ctx, q.node)
		})
		if err != nil {
			return nil, errNameUnknown
		}
	}
	var fit []netip.Addr
	for _, a := range found {
		if a = a.Unmap(); q.wants(a) {
			fit = append(fit, a)
		}
	}
	if len(fit) == 0 {
		return nil, errNameUnknown
	}
	return fit, success
}

// putResults fills the guest's list from the front and cuts it after the last.
func (m memory) putResults(at, room uint32, addrs []netip.Addr, port uint16, hint []byte) (uint32, errno) {
	kind := hint[infoKind]
	if kind == socketAny {
		kind = socketStream
	}
	protocol := byte(protocolTCP)
	if kind == socketDatagram {
		protocol = protocolUDP
	}
	n := uint32(0)
	for _, a := range addrs {
		if n == room || at == 0 {
			break
		}
		info, ok := m.view(at, infoSize)
		if !ok {
			return 0, errFault
		}
		if e := m.putSockaddr(binary.LittleEndian.Uint32(info[infoAddr:]), netip.AddrPortFrom(a, port)); e != success {
			return 0, e
		}
		info[infoFamily], info[infoKind], info[infoProtocol] = familyOf(a), kind, protocol
		binary.LittleEndian.PutUint32(info[infoAddrLen:], shownAddrSize)
		binary.LittleEndian.PutUint32(info[infoNameLen:], 0)
		n++
		at = binary.LittleEndian.Uint32(info[infoNext:])
		if n == room || int(n) == len(addrs) {
			binary.LittleEndian.PutUint32(info[infoNext:], 0)
		}
	}
	return n, success
}

func familyOf(a netip.Addr) byte {
	if a.Is4() {
		return familyV4
	}
	return familyV6
}

// putSockaddr writes the address as the data of a sockaddr_in or sockaddr_in6
// would have it: the port, big-endian, and the address (after the flow label).
func (m memory) putSockaddr(ptr uint32, a netip.AddrPort) errno {
	head, ok := m.view(ptr, sockaddrSize)
	if !ok {
		return errFault
	}
	var data []byte
	data = binary.BigEndian.AppendUint16(data, a.Port())
	if a.Addr().Is6() {
		data = append(data, 0, 0, 0, 0)
	}
	data = append(data, a.Addr().AsSlice()...)
	if a.Addr().Is6() {
		data = append(data, 0, 0, 0, 0)
	}
	room := binary.LittleEndian.Uint32(head[sockaddrLen:])
	if a.Addr().Is6() {
		// Guests announce room for an IPv4 address and bring room for either.
		room = max(room, uint32(len(data)))
	}
	b, ok := m.view(binary.LittleEndian.Uint32(head[sockaddrData:]), room)
	if !ok {
		return errFault
	}
	if len(b) < len(data) {
		return errNameMemory
	}
	head[0] = familyOf(a.Addr())
	copy(b, data)
	binary.LittleEndian.PutUint32(head[sockaddrLen:], uint32(len(data)))
	return success
}
