package wasi

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"testing"

	"github.com/tetratelabs/wazero/api"
)

// hostNetwork is the host's own loopback, with one name.
type hostNetwork struct{}

func (hostNetwork) Listen(ctx context.Context, network, addr string) (net.Listener, error) {
	return (&net.ListenConfig{}).Listen(ctx, network, addr)
}

func (hostNetwork) ListenPacket(ctx context.Context, network, addr string) (net.PacketConn, error) {
	return (&net.ListenConfig{}).ListenPacket(ctx, network, addr)
}

func (hostNetwork) Dial(ctx context.Context, network, addr string) (net.Conn, error) {
	return (&net.Dialer{}).DialContext(ctx, network, addr)
}

func (hostNetwork) Resolve(_ context.Context, host string) ([]netip.Addr, error) {
	if host == "db" {
		return []netip.Addr{netip.MustParseAddr("10.1.2.3"), netip.MustParseAddr("fd00::1")}, nil
	}
	return nil, errors.New("no such host")
}

// addressArg puts the {pointer, length} of an address, bare or as a storage.
func (g *guest) addressArg(a netip.Addr, storage bool) uint64 {
	b := a.AsSlice()
	if storage {
		s := make([]byte, storageSize)
		binary.LittleEndian.PutUint16(s, uint16(familyOf(a)))
		copy(s[2:], b)
		b = s
	}
	v, _ := g.iovec([2]uint64{g.put(b), uint64(len(b))})
	return v
}

func (g *guest) openSocket(name string, family, kind uint64) uint64 {
	g.t.Helper()
	out := g.room(4)
	g.ok(name, family, kind, out)
	return g.u32(out)
}

var localhost = netip.MustParseAddr("127.0.0.1")

func TestGuestListensAndConnectsInBothVersions(t *testing.T) {
	for _, v := range []struct {
		name, suffix string
		storage      bool
		shapes       []string
		accept       func(g *guest, fd, out uint64) errno
		local        func(g *guest, fd uint64) (netip.Addr, uint64)
	}{
		{
			name: "v1", shapes: []string{"sock_open", "sock_bind", "sock_listen", "sock_accept/ii", "sock_connect", "sock_getlocaladdr/iiii"},
			accept: func(g *guest, fd, out uint64) errno { return g.call("sock_accept", fd, out) },
			local: func(g *guest, fd uint64) (netip.Addr, uint64) {
				addr, kind, port := g.addressArg(netip.IPv4Unspecified(), false), g.room(4), g.room(4)
				g.ok("sock_getlocaladdr", fd, addr, kind, port)
				if got := g.u32(kind); got != 4 {
					g.t.Errorf("family: got %d, want 4", got)
				}
				a, _ := netip.AddrFromSlice([]byte(g.bytes(g.u32(addr), 4)))
				return a, g.u32(port)
			},
		},
		{
			name: "v2", suffix: "_v2", storage: true,
			shapes: []string{"sock_open_v2", "sock_bind_v2", "sock_listen_v2", "sock_accept_v2", "sock_connect_v2", "sock_getlocaladdr_v2"},
			accept: func(g *guest, fd, out uint64) errno { return g.call("sock_accept_v2", fd, 0, out) },
			local: func(g *guest, fd uint64) (netip.Addr, uint64) {
				addr, port := g.addressArg(netip.IPv4Unspecified(), true), g.room(4)
				g.ok("sock_getlocaladdr_v2", fd, addr, port)
				a, _ := netip.AddrFromSlice([]byte(g.bytes(g.u32(addr)+2, 4)))
				return a, g.u32(port)
			},
		},
	} {
		t.Run(v.name, func(t *testing.T) {
			g := newGuest(t, Config{Network: hostNetwork{}}, v.shapes...)
			server := g.openSocket("sock_open"+v.suffix, familyV4, socketStream)
			at := g.addressArg(localhost, v.storage)
			g.ok("sock_bind"+v.suffix, server, at, 0)
			g.want(errInvalid, "sock_bind"+v.suffix, server, at, 0)
			g.ok("sock_listen"+v.suffix, server, 16)
			addr, port := v.local(g, server)
			if addr != localhost || port == 0 {
				t.Fatalf("local address: got %v:%d", addr, port)
			}
			client := g.openSocket("sock_open"+v.suffix, familyV4, socketStream)
			g.ok("sock_connect"+v.suffix, client, at, port)
			g.want(errIsConnected, "sock_connect"+v.suffix, client, at, port)
			out := g.room(4)
			if e := v.accept(g, server, out); e != success {
				t.Fatalf("accept: %v", e)
			}
			if n, e := g.write(client, "ping"); n != 4 || e != success {
				t.Errorf("write: got %d, %v", n, e)
			}
			if got, e := g.read(g.u32(out), 10); got != "ping" || e != success {
				t.Errorf("read: got %q, %v", got, e)
			}
		})
	}
}

func TestConnectThatDoesNotBlockTellsHowItWent(t *testing.T) {
	g := newGuest(t, Config{Network: hostNetwork{}}, "sock_open", "sock_connect", "sock_getsockopt", "sock_getpeeraddr/iiii")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	open := uint64(addrOf(l.Addr()).Port())
	at := g.addressArg(localhost, false)
	connect := func(port uint64) (uint64, errno) {
		fd := g.openSocket("sock_open", familyV4, socketStream)
		g.ok("fd_fdstat_set_flags", fd, uint64(flagNonblock))
		if e := g.call("sock_connect", fd, at, port); e != errInProgress && e != success {
			return fd, e
		}
		if fired, e := g.poll(subscribe(1, eventFdWrite, fd)); e != success || len(fired) != 1 {
			t.Errorf("poll: got %v, %v", fired, e)
		}
		value, size := g.room(4), g.put([]byte{4, 0, 0, 0})
		g.ok("sock_getsockopt", fd, levelSocket, optionError, value, size)
		return fd, errno(g.u32(value))
	}
	fd, e := connect(open)
	if e != success {
		t.Errorf("a listener: got %v", e)
	}
	addr, kind, port := g.addressArg(localhost, false), g.room(4), g.room(4)
	g.ok("sock_getpeeraddr", fd, addr, kind, port)
	if got := g.u32(port); got != open {
		t.Errorf("peer's port: got %d, want %d", got, open)
	}
	l.Close()
	if _, e := connect(open); e != errConnRefused {
		t.Errorf("nobody there: got %v, want connrefused", e)
	}
}

func TestDatagramsKeepTheirBounds(t *testing.T) {
	g := newGuest(t, Config{Network: hostNetwork{}}, "sock_open", "sock_bind", "sock_connect",
		"sock_send_to", "sock_recv_from/iiiiiiii", "sock_getlocaladdr/iiii")
	peer, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer peer.Close()
	fd := g.openSocket("sock_open", familyV4, socketDatagram)
	at := g.addressArg(localhost, false)
	g.ok("sock_bind", fd, at, 0)
	a, b := g.put([]byte("he")), g.put([]byte("llo"))
	iov, n := g.iovec([2]uint64{a, 2}, [2]uint64{b, 3})
	out := g.room(4)
	g.ok("sock_send_to", fd, iov, n, at, uint64(addrOf(peer.LocalAddr()).Port()), 0, out)
	buf := make([]byte, 100)
	size, from, err := peer.ReadFrom(buf)
	if err != nil || string(buf[:size]) != "hello" {
		t.Fatalf("the peer got %q, %v", buf[:size], err)
	}
	peer.WriteTo([]byte("a longer answer"), from)
	peer.WriteTo([]byte("second"), from)
	data, storage := g.room(8), g.addressArg(netip.IPv6Unspecified(), true)
	iov, n = g.iovec([2]uint64{data, 8})
	port, flags := g.room(4), g.room(4)
	g.ok("sock_recv_from", fd, iov, n, storage, 0, port, out, flags)
	if got := g.bytes(data, g.u32(out)); got != "a longer" || g.u32(flags)&0xffff != recvTruncated {
		t.Errorf("got %q, flags %d; want it cut, and said so", got, g.u32(flags))
	}
	if got := g.bytes(g.u32(storage), 6); got != "\x01\x00\x7f\x00\x00\x01" || g.u32(port) != uint64(addrOf(peer.LocalAddr()).Port()) {
		t.Errorf("from: got %q port %d", got, g.u32(port))
	}
	g.ok("sock_connect", fd, at, g.u32(port))
	if got, e := g.read(fd, 8); got != "second" || e != success {
		t.Errorf("got %q, %v", got, e)
	}
	if _, e := g.write(fd, "connected"); e != success {
		t.Error(e)
	}
	if size, _, err := peer.ReadFrom(buf); err != nil || string(buf[:size]) != "connected" {
		t.Errorf("the peer got %q, %v", buf[:size], err)
	}
}

func TestReceiveTimeoutEndsAWait(t *testing.T) {
	g := newGuest(t, Config{Network: hostNetwork{}}, "sock_open", "sock_bind", "sock_setsockopt", "sock_getsockopt")
	fd := g.openSocket("sock_open", familyV4, socketDatagram)
	g.ok("sock_bind", fd, g.addressArg(localhost, false), 0)
	wait := binary.LittleEndian.AppendUint64(nil, 0)
	wait = binary.LittleEndian.AppendUint64(wait, 2000) // microseconds
	g.ok("sock_setsockopt", fd, levelSocket, optionReceiveWait, g.put(wait), timevalSize)
	if _, e := g.read(fd, 8); e != errAgain {
		t.Errorf("got %v, want again", e)
	}
	value, size := g.room(16), g.put([]byte{16, 0, 0, 0})
	g.ok("sock_getsockopt", fd, levelSocket, optionReceiveWait, value, size)
	if got := g.bytes(value, 16); got != string(wait) {
		t.Errorf("got %q, want %q", got, wait)
	}
	for option, want := range map[uint64]errno{optionReuse: success, optionKeepAlive: success, optionDevice: errNoProtoOpt, optionType: errNoProtoOpt, 99: errNoProtoOpt} {
		g.want(want, "sock_setsockopt", fd, levelSocket, option, value, 4)
	}
	g.ok("sock_getsockopt", fd, levelSocket, optionType, value, size)
	if got := g.u32(value); got != socketDatagram {
		t.Errorf("type: got %d, want %d", got, socketDatagram)
	}
	g.want(errNotSocket, "sock_getsockopt", 0, levelSocket, optionType, value, size)
}

func TestNamesAreResolvedThroughTheNetwork(t *testing.T) {
	g := newGuest(t, Config{Network: hostNetwork{}}, "sock_getaddrinfo")
	resolve := func(node, service string, family byte, room uint64) ([]netip.AddrPort, errno) {
		nodePtr, nodeLen := g.text(node)
		servicePtr, serviceLen := g.text(service)
		hint := make([]byte, infoSize)
		hint[infoFamily], hint[infoKind] = family, socketStream
		first := uint64(0)
		for range room {
			sockaddr := make([]byte, sockaddrSize)
			binary.LittleEndian.PutUint32(sockaddr[sockaddrLen:], 14)
			binary.LittleEndian.PutUint32(sockaddr[sockaddrData:], uint32(g.room(26)))
			info := make([]byte, infoSize)
			binary.LittleEndian.PutUint32(info[infoAddr:], uint32(g.put(sockaddr)))
			binary.LittleEndian.PutUint32(info[infoNext:], uint32(first))
			first = g.put(info)
		}
		list := binary.LittleEndian.AppendUint32(nil, uint32(first))
		count := g.room(4)
		e := g.call("sock_getaddrinfo", nodePtr, nodeLen, servicePtr, serviceLen, g.put(hint), g.put(list), room, count)
		var found []netip.AddrPort
		for range g.u32(count) {
			sockaddr := g.u32(first + infoAddr)
			data := []byte(g.bytes(g.u32(sockaddr+sockaddrData), g.u32(sockaddr+sockaddrLen)))
			ip := data[2:6]
			if g.bytes(sockaddr, 1)[0] == familyV6 {
				ip = data[6:22]
			}
			a, _ := netip.AddrFromSlice(ip)
			found = append(found, netip.AddrPortFrom(a, binary.BigEndian.Uint16(data)))
			first = g.u32(first + infoNext)
		}
		return found, e
	}
	for _, row := range []struct {
		node, service string
		family        byte
		room          uint64
		want          string
		errno         errno
	}{
		{"db\x00", "80\x00", familyAny, 10, "10.1.2.3:80 [fd00::1]:80 ", success},
		{"db", "http", familyV4, 10, "10.1.2.3:80 ", success},
		{"db", "", familyV6, 10, "[fd00::1]:0 ", success},
		{"db", "1", familyAny, 1, "10.1.2.3:1 ", success},
		{"192.0.2.7", "9", familyAny, 1, "192.0.2.7:9 ", success},
		{"", "443", familyV4, 1, "127.0.0.1:443 ", success},
		{"nowhere", "", familyAny, 1, "", errNameUnknown},
		{"", "", familyAny, 1, "", errNameUnknown},
		{"db", "gopher", familyAny, 1, "", errNameService},
		{"db", "", 9, 1, "", errNameFamily},
		{"db", "", familyAny, 0, "", errNameMemory},
	} {
		found, e := resolve(row.node, row.service, row.family, row.room)
		got := ""
		for _, a := range found {
			got += a.String() + " "
		}
		if got != row.want || e != row.errno {
			t.Errorf("%q %q family %d: got %q, %v; want %q, %v", row.node, row.service, row.family, got, e, row.want, row.errno)
		}
	}
}

func TestAGuestWithoutANetworkOpensNoSockets(t *testing.T) {
	g := newGuest(t, Config{}, "sock_open", "sock_bind", "sock_getaddrinfo")
	g.want(errNotSupported, "sock_open", familyV4, socketStream, g.room(4))
	g.want(errNotSocket, "sock_bind", 1, g.addressArg(localhost, false), 80)
}

func TestTerminateClosesListenersThatTheGuestOpened(t *testing.T) {
	g := newGuest(t, Config{Network: hostNetwork{}}, "sock_open", "sock_bind", "sock_listen", "sock_accept/ii")
	fd := g.openSocket("sock_open", familyV4, socketStream)
	g.ok("sock_bind", fd, g.addressArg(localhost, false), 0)
	g.ok("sock_listen", fd, 1)
	go g.system.Terminate()
	g.want(errInvalid, "sock_accept", fd, g.room(4))
	another := g.openSocket("sock_open", familyV4, socketStream)
	if e := g.call("sock_listen", another, 1); e == success {
		t.Error("a terminated guest opened a new listener")
	}
}

// "v1 sock_accept has 2 params, standard p1 has 3: same name, other type, so
// choose per module by import signature."
func TestTheTypesOfAnImportChooseTheDialect(t *testing.T) {
	i32 := func(n int) (list []api.ValueType) {
		for range n {
			list = append(list, api.ValueTypeI32)
		}
		return list
	}
	for _, row := range []struct {
		name   string
		params int
		want   bool
	}{
		{"sock_accept", 3, true}, {"sock_accept", 2, true}, {"sock_accept", 1, false},
		{"sock_recv_from", 7, true}, {"sock_recv_from", 8, true}, {"sock_open_v2", 3, true}, {"sock_unknown", 2, false},
	} {
		i := Import{Module: ModuleName, Name: row.name, Params: i32(row.params), Results: i32(1)}
		if got := Provides(i); got != row.want {
			t.Errorf("%s with %d parameters: got %v, want %v", row.name, row.params, got, row.want)
		}
	}
	if Provides(Import{Module: "env", Name: "sock_accept", Params: i32(3), Results: i32(1)}) {
		t.Error("another module's function is not ours")
	}
	if f, _ := find(Import{Module: ModuleName, Name: "sock_accept", Params: i32(2), Results: i32(1)}); f.params != "ii" {
		t.Errorf("got %q, want the one with two parameters", f.params)
	}
}
