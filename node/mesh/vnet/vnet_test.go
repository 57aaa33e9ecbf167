package vnet_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/nettest"

	"copepod/node/mesh/vnet"
	"copepod/wasmrt/wasi"
)

var ipA, ipB, service = netip.MustParseAddr("10.42.0.1"), netip.MustParseAddr("10.42.0.2"), netip.MustParseAddr("10.43.0.1")

// pods makes a network of two pods whose Service 10.43.0.1:80, "web", is B's port 8080.
func pods(t testing.TB) (*vnet.Net, *vnet.Stack, *vnet.Stack) {
	t.Helper()
	n := vnet.New(vnet.Config{Router: router{}, Inside: []netip.Prefix{netip.MustParsePrefix("10.42.0.0/15")}})
	a, err := n.Attach(ipA, "default.svc.cluster.local", "svc.cluster.local")
	if err != nil {
		t.Fatal(err)
	}
	b, err := n.Attach(ipB)
	if err != nil {
		t.Fatal(err)
	}
	return n, a, b
}

type router struct{}

func (router) Route(to netip.AddrPort) (netip.AddrPort, func(), bool, error) {
	if to.Addr() != service {
		return to, nil, false, nil
	}
	if to.Port() != 80 {
		return to, nil, true, errors.New("no ready endpoint")
	}
	return netip.AddrPortFrom(ipB, 8080), nil, true, nil
}

func (router) Lookup(host string) ([]netip.Addr, bool) {
	return []netip.Addr{service}, host == "web.default.svc.cluster.local"
}

func listen(t testing.TB, s *vnet.Stack, addr string) net.Listener {
	t.Helper()
	l, err := s.Listen(t.Context(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestConnectionsBehaveAsTheNetPackageAsks(t *testing.T) {
	nettest.TestConn(t, func() (c1, c2 net.Conn, stop func(), err error) {
		n, _, b := pods(t)
		l := listen(t, b, ":8080")
		c1, err = n.Dial(t.Context(), netip.AddrPortFrom(ipB, 8080))
		if err != nil {
			return nil, nil, nil, err
		}
		c2, err = l.Accept()
		return c1, c2, func() { _ = b.Close() }, err
	})
}

func TestServiceAddressAndNameLeadToItsPod(t *testing.T) {
	_, a, b := pods(t)
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = fmt.Fprint(w, "for ", r.RemoteAddr[:9]) })}
	l := listen(t, b, ":8080")
	go func() { _ = srv.Serve(l) }()
	defer func() { _ = srv.Close() }()
	client := http.Client{Transport: &http.Transport{DialContext: a.Dial}}
	for _, url := range []string{"http://10.42.0.2:8080/", "http://10.43.0.1/", "http://web/", "http://web.default/", "http://web.default.svc.cluster.local/"} {
		res, err := client.Get(url)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(res.Body)
		_ = res.Body.Close()
		if err != nil || string(body) != "for 10.42.0.1" {
			t.Errorf("GET %s = %q, %v", url, body, err)
		}
	}
}

func TestEachPodHasItsOwnLoopbackAndPorts(t *testing.T) {
	_, a, b := pods(t)
	la, lb := listen(t, a, "127.0.0.1:8080"), listen(t, b, ":8080")
	if _, err := a.Listen(t.Context(), "tcp", ":8080"); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("second listen = %v, want EADDRINUSE", err)
	}
	if _, err := a.Dial(t.Context(), "tcp", "localhost:8080"); err != nil {
		t.Fatal(err)
	}
	if c, err := la.Accept(); err != nil || c.RemoteAddr().(*net.TCPAddr).AddrPort().Addr() != ipA {
		t.Errorf("accepted %v, %v", c, err)
	}
	_ = lb.Close()
	if _, err := a.Dial(t.Context(), "tcp", "10.42.0.2:8080"); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("dial of a closed port = %v, want ECONNREFUSED", err)
	}
}

func TestDialErrorsCarryTheErrnoThatAGuestSees(t *testing.T) {
	_, a, _ := pods(t)
	for _, tt := range []struct {
		network, addr string
		want          error
	}{
		{"tcp", "10.42.0.2:1", syscall.ECONNREFUSED},
		{"tcp", "10.43.0.1:81", syscall.ECONNREFUSED},
		{"tcp", "192.0.2.1:80", syscall.EHOSTUNREACH},
		{"udp", "10.42.0.2:53", syscall.EPROTONOSUPPORT},
	} {
		if _, err := a.Dial(t.Context(), tt.network, tt.addr); !errors.Is(err, tt.want) {
			t.Errorf("Dial(%s %s) = %v, want %v", tt.network, tt.addr, err, tt.want)
		}
	}
}

func TestEgressNeverReachesTheMachineItself(t *testing.T) {
	kernel, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Skip("no kernel loopback here")
	}
	defer func() { _ = kernel.Close() }()
	port := kernel.Addr().(*net.TCPAddr).AddrPort().Port()
	for _, ip := range []string{"127.0.0.1", "169.254.169.254", "0.0.0.0", "224.0.0.1", "255.255.255.255", "::1", "::ffff:127.0.0.1"} {
		to := netip.AddrPortFrom(netip.MustParseAddr(ip), port)
		if _, err := (vnet.Egress{Timeout: time.Second}).Dial(t.Context(), to); !errors.Is(err, syscall.EACCES) {
			t.Errorf("Dial(%s) = %v, want EACCES", to, err)
		}
	}
}

func TestClosingAPodResetsItsConnections(t *testing.T) {
	n, a, b := pods(t)
	l := listen(t, b, ":8080")
	fromNode, err := n.Dial(t.Context(), netip.AddrPortFrom(ipB, 8080))
	if err != nil {
		t.Fatal(err)
	}
	fromPod, err := a.Dial(t.Context(), "tcp", "10.42.0.2:8080")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.Accept(); err != nil {
		t.Fatal(err)
	}
	_ = b.Close()
	for _, c := range []net.Conn{fromNode, fromPod} {
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("read = %v, want ECONNRESET", err)
		}
	}
	if _, err := n.Attach(ipB); err != nil {
		t.Errorf("the address is not free again: %v", err)
	}
}

func TestAWriterWaitsForASlowReaderAndLosesNothing(t *testing.T) {
	n, _, b := pods(t)
	l := listen(t, b, ":8080")
	near, err := n.Dial(t.Context(), netip.AddrPortFrom(ipB, 8080))
	if err != nil {
		t.Fatal(err)
	}
	far, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	sent := make([]byte, 1<<20)
	if _, err := rand.Read(sent); err != nil {
		t.Fatal(err)
	}
	_ = near.SetWriteDeadline(time.Now().Add(10 * time.Millisecond))
	wrote, err := near.Write(sent)
	if err == nil || wrote != 64<<10 {
		t.Errorf("wrote %d bytes, %v to a reader that does not read; want 65536 and a timeout", wrote, err)
	}
	_ = near.SetWriteDeadline(time.Time{})
	go func() {
		_, _ = near.Write(sent[wrote:])
		_ = near.Close()
	}()
	got, err := io.ReadAll(far)
	if err != nil || !bytes.Equal(got, sent) {
		t.Errorf("read %d bytes, %v; want the %d that were sent", len(got), err, len(sent))
	}
}

func TestReadinessIsToldOnceAndNotAfterItWasCalledOff(t *testing.T) {
	n, _, b := pods(t)
	l := listen(t, b, ":8080").(*vnet.Listener)
	told := make(chan string, 8)
	tell := func(what string) func() { return func() { told <- what } }
	if ready, _ := l.Poll(wasi.Read, tell("accept")); ready {
		t.Fatal("an idle listener says that it is ready")
	}
	near, err := n.Dial(t.Context(), netip.AddrPortFrom(ipB, 8080))
	if err != nil {
		t.Fatal(err)
	}
	if got := <-told; got != "accept" {
		t.Fatalf("told %q", got)
	}
	accepted, err := l.TryAccept()
	if err != nil {
		t.Fatal(err)
	}
	far := accepted.(interface {
		wasi.Pollable
		TryRead([]byte) (int, error)
	})
	if _, err := far.TryRead(make([]byte, 1)); !errors.Is(err, syscall.EAGAIN) {
		t.Errorf("TryRead of nothing = %v, want EAGAIN", err)
	}
	_, cancel := far.Poll(wasi.Read, tell("called off"))
	cancel()
	if ready, _ := far.Poll(wasi.Read, tell("read")); ready {
		t.Fatal("a connection without bytes says that it can be read")
	}
	for range 3 {
		if _, err := near.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	if got := <-told; got != "read" || len(told) != 0 {
		t.Errorf("told %q and %d more, want \"read\" once", got, len(told))
	}
	if ready, _ := far.Poll(wasi.Write, nil); !ready {
		t.Error("an empty connection takes no bytes")
	}
}

func BenchmarkRoundTrip(b *testing.B) {
	n, _, pod := pods(b)
	for _, tt := range []struct {
		name string
		dial func() (net.Conn, net.Conn)
	}{
		{"vnet", func() (net.Conn, net.Conn) {
			l := listen(b, pod, ":0")
			c, err := n.Dial(context.Background(), l.Addr().(*net.TCPAddr).AddrPort())
			if err != nil {
				b.Fatal(err)
			}
			s, _ := l.Accept()
			return c, s
		}},
		{"kernel", func() (net.Conn, net.Conn) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				b.Fatal(err)
			}
			c, err := net.Dial("tcp", l.Addr().String())
			if err != nil {
				b.Fatal(err)
			}
			s, _ := l.Accept()
			return c, s
		}},
	} {
		for _, size := range []int{64, 32 << 10} {
			b.Run(fmt.Sprintf("%s/%d", tt.name, size), func(b *testing.B) {
				c, s := tt.dial()
				go func() { _, _ = io.Copy(struct{ io.Writer }{s}, struct{ io.Reader }{s}) }()
				buf := make([]byte, size)
				b.SetBytes(int64(2 * size))
				for b.Loop() {
					if _, err := c.Write(buf); err != nil {
						b.Fatal(err)
					}
					if _, err := io.ReadFull(c, buf); err != nil {
						b.Fatal(err)
					}
				}
				_ = c.Close()
			})
		}
	}
}
