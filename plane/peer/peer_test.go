package peer_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"copepod/plane/peer"
	"copepod/plane/peer/peertest"

	"github.com/prometheus/client_golang/prometheus"
)

const patience = 60 * time.Second

// echo answers with who asked and what.
func echo(_ context.Context, member string, request []byte) ([]byte, error) {
	if string(request) == "fail" {
		return nil, errors.New("as you wish")
	}
	return append([]byte(member+" "), request...), nil
}

// two are members that can reach each other.
func two(t *testing.T) (ca *peertest.CA, a, b *peer.Peer) {
	ca = peertest.NewCA(t)
	a, b = peertest.New(t, ca.Config(t, "a")), peertest.New(t, ca.Config(t, "b"))
	peertest.Run(t, a, echo)
	peertest.Run(t, b, echo)
	return ca, a, b
}

func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("got no end of waiting, want that %s", what)
		}
	}
}

// cut reads until the other end hangs up.
func cut(t *testing.T, c net.Conn) {
	t.Helper()
	c.SetReadDeadline(time.Now().Add(patience))
	_, err := io.Copy(io.Discard, c)
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		t.Error("got a connection that stays open, want it closed")
	}
	c.Close()
}

func TestMembersAnswerEachOther(t *testing.T) {
	_, a, b := two(t)
	for _, size := range []int{0, 1, 1000, 300 << 10, 5 << 20} {
		request := bytes.Repeat([]byte{'x'}, size)
		got, err := a.Call(t.Context(), "b", b.Addr().String(), request)
		if err != nil || !bytes.Equal(got, append([]byte("a "), request...)) {
			t.Errorf("%d bytes: got %d and %v, want them back with the name", size, len(got), err)
		}
	}
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			got, err := b.Call(t.Context(), "a", a.Addr().String(), fmt.Append(nil, i))
			if want := fmt.Sprintf("b %d", i); err != nil || string(got) != want {
				t.Errorf("got %q and %v, want %q", got, err, want)
			}
		})
	}
	wg.Wait()
	var remote *peer.RemoteError
	if _, err := a.Call(t.Context(), "b", b.Addr().String(), []byte("fail")); !errors.As(err, &remote) || remote.Reason != "as you wish" {
		t.Errorf("got %v, want what the other said", err)
	}
	if _, err := a.Call(t.Context(), "b", b.Addr().String(), make([]byte, peer.MaxFrame+1)); err == nil {
		t.Error("got an answer to a request that is too large, want none")
	}
}

func TestStreamsCarryRaftUntilTheyAreClosed(t *testing.T) {
	_, a, b := two(t)
	accepted := make(chan net.Conn, 1)
	go func() {
		c, err := b.Raft().Accept()
		if err != nil {
			t.Error(err)
		}
		accepted <- c
	}()
	out, err := a.Raft().Dial("b", b.Addr().String(), patience)
	if err != nil {
		t.Fatal(err)
	}
	in := <-accepted
	if _, err := out.Write([]byte("ping")); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 4)
	if _, err := io.ReadFull(in, got); err != nil || string(got) != "ping" {
		t.Errorf("got %q and %v, want ping", got, err)
	}
	if err := b.Raft().Close(); err != nil {
		t.Error(err)
	}
	if _, err := b.Raft().Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("got %v, want net.ErrClosed", err)
	}
	if _, err := a.Call(t.Context(), "b", b.Addr().String(), nil); err != nil {
		t.Errorf("got %v after Raft was closed, want answers still", err)
	}
	in.Close()
	cut(t, out)
}

func TestStrangersGainNothing(t *testing.T) {
	ca := peertest.NewCA(t)
	cfg := ca.Config(t, "a")
	metrics := prometheus.NewRegistry()
	cfg.Registerer = metrics
	var lines atomic.Int64
	cfg.Log = slog.New(counting{slog.DiscardHandler, &lines})
	a := peertest.New(t, cfg)
	var asked atomic.Int64
	stop := peertest.Run(t, a, func(context.Context, string, []byte) ([]byte, error) {
		asked.Add(1)
		return nil, nil
	})
	go func() {
		for {
			c, err := a.Raft().Accept()
			if err != nil {
				return
			}
			asked.Add(1)
			c.Close()
		}
	}()
	ca.Revoke("r")
	member := ca.Issue(t, peertest.Prefix+"b", time.Hour)
	strangers := []struct {
		name string
		cert *tls.Certificate
		raw  bool
	}{
		{name: "no certificate"},
		{name: "a certificate of another cluster", cert: peertest.NewCA(t).Issue(t, peertest.Prefix+"b", time.Hour)},
		{name: "a certificate of the cluster that is not a member's", cert: ca.Issue(t, "system:node:b", time.Hour)},
		{name: "a revoked certificate", cert: ca.Issue(t, peertest.Prefix+"r", time.Hour)},
		{name: "an expired certificate", cert: ca.Issue(t, peertest.Prefix+"b", -time.Minute)},
		{name: "no TLS", raw: true},
	}
	tries := 0
	for _, s := range strangers {
		for _, protocol := range []string{peer.RaftProtocol, peer.StoreProtocol, "h2", ""} {
			tries++
			try(t, ca, a.Addr().String(), protocol, s.cert, s.raw)
		}
	}
	for _, protocol := range []string{"h2", ""} { // a member that speaks something else
		tries++
		try(t, ca, a.Addr().String(), protocol, member, false)
	}
	eventually(t, "all are counted", func() bool { return refusals(t, metrics) == float64(tries) })
	if n := asked.Load(); n != 0 {
		t.Errorf("got %d requests and streams of strangers, want none", n)
	}
	if n := lines.Load(); n == 0 || n >= int64(tries) {
		t.Errorf("got %d lines in the log for %d strangers, want some, but not one for each", n, tries)
	}
	try(t, ca, a.Addr().String(), peer.StoreProtocol, member, false)
	eventually(t, "a member is served", func() bool { return asked.Load() == 1 })
	stop()
}

// try sends a request on a connection as somebody, and waits until it ends.
func try(t *testing.T, ca *peertest.CA, address, protocol string, cert *tls.Certificate, raw bool) {
	t.Helper()
	request := []byte{0, 0, 0, 2, 0, 'x'}
	var c net.Conn
	var err error
	if raw {
		c, err = net.Dial("tcp", address)
	} else {
		c, err = ca.Dial(address, protocol, cert)
	}
	if err != nil {
		return // refused at once
	}
	c.Write(request)
	if raw {
		c.(*net.TCPConn).CloseWrite()
	}
	if !raw {
		c.(*tls.Conn).CloseWrite()
	}
	cut(t, c)
}

func refusals(t *testing.T, from prometheus.Gatherer) (sum float64) {
	t.Helper()
	families, err := from.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == "copepod_peer_refused_total" {
			for _, m := range f.GetMetric() {
				sum += m.GetCounter().GetValue()
			}
		}
	}
	return sum
}

// counting counts lines of the log.
type counting struct {
	slog.Handler
	n *atomic.Int64
}

func (c counting) Enabled(context.Context, slog.Level) bool { return true }
func (c counting) WithAttrs([]slog.Attr) slog.Handler       { return c }
func (c counting) Handle(context.Context, slog.Record) error {
	c.n.Add(1)
	return nil
}

func TestMemberIsNotTakenForAnother(t *testing.T) {
	_, a, b := two(t)
	_, err := a.Call(t.Context(), "c", b.Addr().String(), nil)
	if err == nil || !strings.Contains(err.Error(), `that of "b"`) {
		t.Errorf("call: got %v, want that b answers there", err)
	}
	if _, err := a.Raft().Dial("c", b.Addr().String(), patience); err == nil {
		t.Error("dial: got a stream to b, want none to c")
	}
}

func TestServerOfAnotherClusterIsNotTrusted(t *testing.T) {
	ca, other := peertest.NewCA(t), peertest.NewCA(t)
	a := peertest.New(t, ca.Config(t, "a"))
	cfg := other.Config(t, "b")
	cfg.CAs = ca.Pool() // it would even take us
	b := peertest.New(t, cfg)
	peertest.Run(t, b, echo)
	if _, err := a.Call(t.Context(), "b", b.Addr().String(), nil); err == nil {
		t.Error("got an answer of another cluster, want none")
	}
}

func TestRevocationEndsOpenConnections(t *testing.T) {
	ca, a, b := two(t)
	accepted := make(chan net.Conn, 1)
	go func() {
		if c, err := b.Raft().Accept(); err == nil {
			accepted <- c
		}
	}()
	stream, err := a.Raft().Dial("b", b.Addr().String(), patience)
	if err != nil {
		t.Fatal(err)
	}
	in := <-accepted
	idle, err := ca.Dial(b.Addr().String(), peer.StoreProtocol, ca.Issue(t, peertest.Prefix+"a", time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "calls work", func() bool {
		_, err := a.Call(t.Context(), "b", b.Addr().String(), nil)
		return err == nil
	})
	ca.Revoke("a")
	cut(t, in)
	cut(t, stream)
	cut(t, idle)
	if _, err := a.Call(t.Context(), "b", b.Addr().String(), nil); err == nil {
		t.Error("got an answer for a revoked member, want none")
	}
}

func TestGarbageInFramesEndsOnlyItsConnection(t *testing.T) {
	ca, a, b := two(t)
	cert := ca.Issue(t, peertest.Prefix+"c", time.Hour)
	huge := binary.BigEndian.AppendUint32(nil, 1<<32-1)
	for name, garbage := range map[string][]byte{
		"noise":            []byte("GET / HTTP/1.1\r\n\r\n"),
		"an oversized one": append(huge, 0),
		"an empty one":     {0, 0, 0, 0, 0},
		"an answer":        {0, 0, 0, 1, 1},
		"an unknown kind":  {0, 0, 0, 1, 9},
		"one that ends":    {0, 0, 1, 0, 0, 1, 2, 3},
	} {
		c, err := ca.Dial(b.Addr().String(), peer.StoreProtocol, cert)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if _, err := c.Write(garbage); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		c.CloseWrite()
		cut(t, c)
	}
	if _, err := a.Call(t.Context(), "b", b.Addr().String(), nil); err != nil {
		t.Error(err)
	}
}

func TestWhoNeverFinishesTheHandshakeIsCutOff(t *testing.T) {
	ca := peertest.NewCA(t)
	cfg := ca.Config(t, "b")
	cfg.HandshakeTimeout = 500 * time.Millisecond
	b := peertest.New(t, cfg)
	peertest.Run(t, b, echo)
	a := peertest.New(t, ca.Config(t, "a"))
	var slow []net.Conn
	for i := range 100 { // more than may be in a handshake
		c, err := net.Dial("tcp", b.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		c.Write([]byte{0x16, 3, 1}[:i%4]) // the beginning of a greeting, or nothing
		slow = append(slow, c)
	}
	eventually(t, "a member gets through", func() bool {
		_, err := a.Call(t.Context(), "b", b.Addr().String(), nil)
		return err == nil
	})
	for _, c := range slow {
		cut(t, c)
	}
}

func TestOneAddressCannotTakeAllHandshakes(t *testing.T) {
	ca := peertest.NewCA(t)
	cfg := ca.Config(t, "b")
	cfg.HandshakeTimeout = time.Hour
	metrics := prometheus.NewRegistry()
	cfg.Registerer = metrics
	b := peertest.New(t, cfg)
	stop := peertest.Run(t, b, echo)
	for range 40 {
		c, err := net.Dial("tcp", b.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	eventually(t, "those beyond 32 are refused", func() bool { return refusals(t, metrics) == 8 })
	stop()
}

func TestConnectionsAreBoundedInAll(t *testing.T) {
	ca := peertest.NewCA(t)
	cfg := ca.Config(t, "b")
	cfg.MaxConns = 4
	cfg.HandshakeTimeout = time.Hour
	metrics := prometheus.NewRegistry()
	cfg.Registerer = metrics
	b := peertest.New(t, cfg)
	stop := peertest.Run(t, b, echo)
	var held []net.Conn
	for range 10 {
		c, err := net.Dial("tcp", b.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		held = append(held, c)
	}
	eventually(t, "those beyond 4 are refused", func() bool { return refusals(t, metrics) == 6 })
	for _, c := range held {
		c.Close()
	}
	a := peertest.New(t, ca.Config(t, "a"))
	eventually(t, "there is room again", func() bool {
		_, err := a.Call(t.Context(), "b", b.Addr().String(), nil)
		return err == nil
	})
	stop()
}

func TestOneMemberCannotTakeAllConnections(t *testing.T) {
	ca := peertest.NewCA(t)
	cfg := ca.Config(t, "b")
	cfg.MaxConnsPerMember = 4
	b := peertest.New(t, cfg)
	peertest.Run(t, b, echo)
	cert := ca.Issue(t, peertest.Prefix+"greedy", time.Hour)
	var held []net.Conn
	for range 12 {
		c, err := ca.Dial(b.Addr().String(), peer.StoreProtocol, cert)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Write([]byte{0, 0, 0, 1, 0}); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(c, make([]byte, 5)); err != nil { // it is served
			t.Fatal(err)
		}
		held = append(held, c)
	}
	for _, c := range held[:8] {
		cut(t, c)
	}
	for _, c := range held[8:] {
		c.Close()
	}
}

func TestCallEndsWithItsContext(t *testing.T) {
	ca := peertest.NewCA(t)
	a, b := peertest.New(t, ca.Config(t, "a")), peertest.New(t, ca.Config(t, "b"))
	called := make(chan struct{}, 1)
	peertest.Run(t, a, echo)
	peertest.Run(t, b, func(ctx context.Context, _ string, request []byte) ([]byte, error) {
		if len(request) == 0 {
			return nil, nil
		}
		called <- struct{}{}
		<-ctx.Done()
		return nil, ctx.Err()
	})
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-called
		cancel()
	}()
	if _, err := a.Call(ctx, "b", b.Addr().String(), []byte("wait")); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
	if _, err := a.Call(t.Context(), "b", b.Addr().String(), nil); err != nil {
		t.Errorf("got %v after a call was given up, want an answer", err)
	}
}

func TestCallFindsAMemberThatStartedAnew(t *testing.T) {
	ca := peertest.NewCA(t)
	a := peertest.New(t, ca.Config(t, "a"))
	cfg := ca.Config(t, "b")
	address := cfg.Listener.Addr().String()
	for life := range 3 {
		if life > 0 {
			l, err := net.Listen("tcp", address)
			if err != nil {
				t.Skipf("the port is taken by another: %v", err)
			}
			cfg.Listener = l
		}
		b := peertest.New(t, cfg)
		stop := peertest.Run(t, b, echo)
		if _, err := a.Call(t.Context(), "b", address, nil); err != nil {
			t.Errorf("life %d: %v", life, err)
		}
		stop()
		if _, err := a.Call(t.Context(), "b", address, nil); err == nil {
			t.Errorf("life %d: got an answer of who has stopped, want none", life)
		}
	}
}

func TestConfigIsChecked(t *testing.T) {
	ca := peertest.NewCA(t)
	for name, spoil := range map[string]func(*peer.Config){
		"no listener":    func(c *peer.Config) { c.Listener = nil },
		"no CAs":         func(c *peer.Config) { c.CAs = nil },
		"no Authorize":   func(c *peer.Config) { c.Authorize = nil },
		"no certificate": func(c *peer.Config) { c.GetClientCertificate = nil },
		"negative limit": func(c *peer.Config) { c.MaxConns = -1 },
	} {
		cfg := ca.Config(t, "a")
		spoil(&cfg)
		if _, err := peer.New(cfg); err == nil {
			t.Errorf("%s: got no error, want one", name)
		}
	}
}
