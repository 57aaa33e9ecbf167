package cmd

import (
	"context"
	"io"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"copepod/node/mesh/vnet"
)

// nowhere is a cluster without other nodes.
type nowhere struct{}

func (nowhere) Dial(context.Context, netip.AddrPort, netip.AddrPort, vnet.Conn) error {
	return syscall.EHOSTUNREACH
}

// one is a Service whose only endpoint is pod.
type one struct{ service, pod netip.AddrPort }

func (o one) Route(to netip.AddrPort) (netip.AddrPort, func(), bool, error) {
	if to == o.service {
		return o.pod, nil, true, nil
	}
	return to, nil, false, nil
}

func (one) Lookup(string) ([]netip.Addr, bool) { return nil, false }

func TestAPodReachesTheAPIThroughItsServiceAndNoOtherPortOfTheMachine(t *testing.T) {
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Skipf("no loopback network: %v", err)
	}
	defer func() { _ = l.Close() }()
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() { // answers once it has read everything
				defer func() { _ = conn.Close() }()
				said, _ := io.ReadAll(conn)
				_, _ = conn.Write(append([]byte("API heard "), said...))
			}()
		}
	}()
	api := l.Addr().(*net.TCPAddr).AddrPort()
	service := netip.MustParseAddrPort("10.43.0.1:443")
	dial := func(endpoint, to netip.AddrPort) (net.Conn, error) {
		pods := vnet.New(vnet.Config{
			Router: one{service, endpoint}, Outside: vnet.Egress{}, Inside: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")},
			Remote: apiWay{nowhere{}, func() []netip.AddrPort { return nil }, api},
		})
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		return pods.Dial(ctx, to)
	}
	conn, err := dial(api, service)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.WriteString(conn, "hello")
	_ = conn.(interface{ CloseWrite() error }).CloseWrite()
	if got, err := io.ReadAll(conn); string(got) != "API heard hello" {
		t.Errorf("got %q, %v", got, err)
	}
	_ = conn.Close()
	other := netip.AddrPortFrom(api.Addr(), api.Port()^1)
	if _, err := dial(other, service); err == nil {
		t.Error("a Service that names another port of the machine: got a connection")
	}
}
