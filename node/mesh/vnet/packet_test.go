package vnet_test

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"copepod/node/mesh/vnet"
	"copepod/wasmrt/wasi"
)

func listenPacket(t testing.TB, s *vnet.Stack, addr string) *vnet.PacketConn {
	t.Helper()
	c, err := s.ListenPacket(t.Context(), "udp", addr)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return c.(*vnet.PacketConn)
}

func udp(ip netip.Addr, port uint16) net.Addr {
	return net.UDPAddrFromAddrPort(netip.AddrPortFrom(ip, port))
}

func send(t testing.TB, c net.PacketConn, text string, to net.Addr) {
	t.Helper()
	if n, err := c.WriteTo([]byte(text), to); n != len(text) || err != nil {
		t.Fatalf("send %q to %s: %d, %v", text, to, n, err)
	}
}

func wantPacket(t testing.TB, c net.PacketConn, text string, from net.Addr) {
	t.Helper()
	buf := make([]byte, 100)
	n, addr, err := c.ReadFrom(buf)
	if err != nil || string(buf[:n]) != text || addr.String() != from.String() {
		t.Fatalf("got %q from %v, %v; want %q from %s", buf[:n], addr, err, text, from)
	}
}

func TestDatagramsGoBetweenPodsAndBack(t *testing.T) {
	_, a, b := pods(t)
	server, client := listenPacket(t, b, ":53"), listenPacket(t, a, ":0")
	send(t, client, "one", udp(ipB, 53))
	send(t, client, "", udp(ipB, 53))
	wantPacket(t, server, "one", client.LocalAddr())
	wantPacket(t, server, "", client.LocalAddr())
	send(t, server, "back", client.LocalAddr())
	wantPacket(t, client, "back", udp(ipB, 53))
}

func TestLoopbackOfDatagramsIsThePodsOwn(t *testing.T) {
	_, a, b := pods(t)
	localhost := netip.MustParseAddr("127.0.0.1")
	mine, theirs, client := listenPacket(t, a, "127.0.0.1:9"), listenPacket(t, b, "127.0.0.1:9"), listenPacket(t, a, ":0")
	port := client.LocalAddr().(*net.UDPAddr).AddrPort().Port()
	send(t, client, "hello", udp(localhost, 9))
	wantPacket(t, mine, "hello", udp(localhost, port))
	send(t, mine, "back", udp(localhost, port))
	wantPacket(t, client, "back", udp(localhost, 9))
	if _, _, err := theirs.TryReadPacket(); !errors.Is(err, syscall.EAGAIN) {
		t.Errorf("the other pod's loopback heard it: %v", err)
	}
}

// packetService is a Service of datagrams on 10.43.0.1:53, which is B's port 5353.
type packetService struct {
	router
	open *atomic.Int64
}

func (s packetService) RoutePacket(to netip.AddrPort) (netip.AddrPort, func(), bool, error) {
	switch {
	case to.Addr() != service:
		return to, nil, false, nil
	case to.Port() != 53:
		return to, nil, true, errors.New("no ready endpoint")
	}
	s.open.Add(1)
	return netip.AddrPortFrom(ipB, 5353), func() { s.open.Add(-1) }, true, nil
}

func TestAnswersOfAServiceComeFromItsAddress(t *testing.T) {
	var open atomic.Int64
	n := vnet.New(vnet.Config{Router: packetService{open: &open}, Inside: []netip.Prefix{netip.MustParsePrefix("10.42.0.0/15")}})
	a, errA := n.Attach(ipA)
	b, errB := n.Attach(ipB)
	if err := errors.Join(errA, errB); err != nil {
		t.Fatal(err)
	}
	server, client := listenPacket(t, b, ":5353"), listenPacket(t, a, ":0")
	for range 3 {
		send(t, client, "question", udp(service, 53))
		wantPacket(t, server, "question", client.LocalAddr())
	}
	if got := open.Load(); got != 1 {
		t.Errorf("got %d routes for one port and one Service, want 1", got)
	}
	send(t, server, "answer", client.LocalAddr())
	wantPacket(t, client, "answer", udp(service, 53))
	if _, err := client.WriteTo(nil, udp(service, 99)); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("to a Service that nobody answers for: got %v, want ECONNREFUSED", err)
	}
	_ = client.Close()
	if got := open.Load(); got != 0 {
		t.Errorf("got %d routes after the port was closed, want none", got)
	}
}

func TestWhatASlowReaderIsSentIsBounded(t *testing.T) {
	_, a, b := pods(t)
	server, client := listenPacket(t, b, ":53"), listenPacket(t, a, ":0")
	for _, tt := range []struct{ size, most int }{{1, 512}, {60000, 4}} {
		for range 2000 {
			send(t, client, string(make([]byte, tt.size)), udp(ipB, 53))
		}
		kept := 0
		for {
			if _, _, err := server.TryReadPacket(); err != nil {
				break
			}
			kept++
		}
		if kept != tt.most {
			t.Errorf("of 2000 datagrams of %d bytes %d were kept, want %d", tt.size, kept, tt.most)
		}
	}
}

func TestADatagramThatCannotBeSentSaysWhy(t *testing.T) {
	_, a, b := pods(t)
	client := listenPacket(t, a, ":0")
	for _, tt := range []struct {
		name string
		size int
		to   net.Addr
		want error
	}{
		{"too long", 65508, udp(ipB, 53), syscall.EMSGSIZE},
		{"no port", 1, udp(ipB, 0), syscall.EINVAL},
		{"no pod", 1, udp(netip.MustParseAddr("10.42.0.99"), 53), syscall.EHOSTUNREACH},
		{"outside", 1, udp(netip.MustParseAddr("192.0.2.1"), 53), syscall.EHOSTUNREACH},
		{"nobody listens", 1, udp(ipB, 53), nil},
	} {
		if _, err := client.WriteTo(make([]byte, tt.size), tt.to); !errors.Is(err, tt.want) || (tt.want == nil) != (err == nil) {
			t.Errorf("%s: got %v, want %v", tt.name, err, tt.want)
		}
	}
	listenPacket(t, b, ":53")
	if _, err := b.ListenPacket(t.Context(), "udp", ":53"); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("a port twice: got %v, want EADDRINUSE", err)
	}
	listen(t, b, ":53") // connections have ports of their own
	if _, err := b.ListenPacket(t.Context(), "udp6", ":54"); !errors.Is(err, syscall.EPROTONOSUPPORT) {
		t.Errorf("IPv6: got %v, want EPROTONOSUPPORT", err)
	}
}

func TestAReaderOfDatagramsIsWokenByOneAndByTheEnd(t *testing.T) {
	_, a, b := pods(t)
	server, client := listenPacket(t, b, ":53"), listenPacket(t, a, ":0")
	woken := make(chan struct{}, 2)
	wake := func() { woken <- struct{}{} }
	if ready, cancel := server.Poll(wasi.Read, wake); ready || cancel == nil {
		t.Fatal("a port without datagrams is ready to be read")
	}
	if ready, _ := server.Poll(wasi.Write, nil); !ready {
		t.Error("a port is not ready to be written")
	}
	send(t, client, "x", udp(ipB, 53))
	<-woken
	wantPacket(t, server, "x", client.LocalAddr())
	_, cancel := server.Poll(wasi.Read, wake)
	cancel()
	server.Poll(wasi.Read, wake)
	_ = b.Close() // the pod goes
	<-woken
	if len(woken) != 0 {
		t.Error("a wake-up that was called off came nevertheless")
	}
	if _, _, err := server.ReadFrom(nil); !errors.Is(err, net.ErrClosed) {
		t.Errorf("read after the end: got %v, want net.ErrClosed", err)
	}
	if _, err := server.WriteTo(nil, client.LocalAddr()); !errors.Is(err, net.ErrClosed) {
		t.Errorf("write after the end: got %v, want net.ErrClosed", err)
	}
	_ = client.SetReadDeadline(time.Now())
	if _, _, err := client.ReadFrom(nil); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("read past the deadline: got %v", err)
	}
}

// loopbackOutside stands for the world: every address is this machine's port.
type loopbackOutside struct{ vnet.Egress }

func (loopbackOutside) ListenPacket(ctx context.Context) (net.PacketConn, error) {
	return (&net.ListenConfig{}).ListenPacket(ctx, "udp4", "127.0.0.1:0")
}

func TestDatagramsReachTheWorldWhereTheNodeAllowsIt(t *testing.T) {
	world, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Skip("no kernel loopback here")
	}
	defer world.Close()
	n := vnet.New(vnet.Config{Outside: translating{to: world.LocalAddr()}})
	a, err := n.Attach(ipA)
	if err != nil {
		t.Fatal(err)
	}
	client := listenPacket(t, a, ":0")
	far := udp(netip.MustParseAddr("192.0.2.1"), 53)
	send(t, client, "question", far)
	_ = world.SetDeadline(time.Now().Add(30 * time.Second))
	buf := make([]byte, 100)
	k, from, err := world.ReadFrom(buf)
	if err != nil || !bytes.Equal(buf[:k], []byte("question")) {
		t.Fatalf("got %q, %v", buf[:k], err)
	}
	if _, err := world.WriteTo([]byte("answer"), from); err != nil {
		t.Fatal(err)
	}
	wantPacket(t, client, "answer", far)
	_ = client.Close()
}

// translating is an Outside whose every address is one socket of this machine.
type translating struct {
	loopbackOutside
	to net.Addr
}

func (o translating) ListenPacket(ctx context.Context) (net.PacketConn, error) {
	c, err := o.loopbackOutside.ListenPacket(ctx)
	return &translated{PacketConn: c, to: o.to}, err
}

type translated struct {
	net.PacketConn
	to   net.Addr
	seen atomic.Pointer[net.Addr]
}

func (c *translated) WriteTo(p []byte, addr net.Addr) (int, error) {
	c.seen.Store(&addr)
	return c.PacketConn.WriteTo(p, c.to)
}

func (c *translated) ReadFrom(p []byte) (int, net.Addr, error) {
	n, _, err := c.PacketConn.ReadFrom(p)
	if seen := c.seen.Load(); seen != nil {
		return n, *seen, err
	}
	return n, nil, err
}

func TestDatagramsNeverReachTheNodeItself(t *testing.T) {
	c, err := vnet.Egress{}.ListenPacket(t.Context())
	if err != nil {
		t.Skip("no kernel sockets here")
	}
	defer c.Close()
	for _, ip := range []string{"127.0.0.1", "169.254.169.254", "224.0.0.1", "255.255.255.255", "0.0.0.0"} {
		if _, err := c.WriteTo([]byte("x"), udp(netip.MustParseAddr(ip), 53)); !errors.Is(err, vnet.ErrDenied) {
			t.Errorf("to %s: got %v, want ErrDenied", ip, err)
		}
	}
}
