package entry_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"copepod/plane/entry"
)

// plane answers every line with its name and the line, until its end.
type plane struct {
	l     net.Listener
	addr  netip.AddrPort
	conns sync.WaitGroup
}

func newPlane(t *testing.T, name string) *plane {
	t.Helper()
	p := &plane{l: listen(t)}
	p.addr = p.l.Addr().(*net.TCPAddr).AddrPort()
	p.conns.Go(func() {
		for {
			conn, err := p.l.Accept()
			if err != nil {
				return
			}
			p.conns.Go(func() {
				defer func() { _ = conn.Close() }()
				for in := bufio.NewScanner(conn); in.Scan(); {
					_, _ = io.WriteString(conn, name+" "+in.Text()+"\n")
				}
				_, _ = io.WriteString(conn, "bye\n")
			})
		}
	})
	t.Cleanup(func() { _ = p.l.Close(); p.conns.Wait() })
	return p
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Skipf("no loopback network: %v", err)
	}
	return l
}

func run(t *testing.T, cfg entry.Config) string {
	t.Helper()
	cfg.Listener = listen(t)
	e, err := entry.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- e.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("got %v from Run, want nil", err)
		}
	})
	return cfg.Listener.Addr().String()
}

// ask says a line over a new connection, ends it, and returns what came back.
func ask(t *testing.T, addr, line string) string {
	t.Helper()
	conn, err := net.DialTimeout("tcp", addr, 30*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(30 * time.Second))
	_, _ = io.WriteString(conn, line+"\n")
	_ = conn.(*net.TCPConn).CloseWrite()
	got, _ := io.ReadAll(conn)
	return string(got)
}

func TestConnectionIsHandedThroughToItsEnd(t *testing.T) {
	p := newPlane(t, "a")
	addr := run(t, entry.Config{Planes: func() []netip.AddrPort { return []netip.AddrPort{p.addr} }})
	if got := ask(t, addr, "hello"); got != "a hello\nbye\n" {
		t.Errorf("got %q: want the answer, and what comes after the client's end", got)
	}
}

func TestDeadPlaneIsPassedOver(t *testing.T) {
	dead, alive := newPlane(t, "dead"), newPlane(t, "alive")
	_ = dead.l.Close()
	addr := run(t, entry.Config{Planes: func() []netip.AddrPort { return []netip.AddrPort{dead.addr, alive.addr} }})
	for range 3 {
		if got := ask(t, addr, "x"); got != "alive x\nbye\n" {
			t.Errorf("got %q", got)
		}
	}
}

func TestPlaneThatIsNotReadyIsTriedLast(t *testing.T) {
	a, b := newPlane(t, "a"), newPlane(t, "b")
	var ill atomic.Pointer[netip.AddrPort]
	ill.Store(&a.addr)
	addr := run(t, entry.Config{
		Planes: func() []netip.AddrPort { return []netip.AddrPort{a.addr, b.addr} },
		Every:  time.Millisecond,
		Probe: func(_ context.Context, p netip.AddrPort) error {
			if p == *ill.Load() {
				return errors.New("not ready")
			}
			return nil
		},
	})
	await := func(want string) {
		t.Helper()
		deadline := time.Now().Add(30 * time.Second)
		for ask(t, addr, "x") != want {
			if time.Now().After(deadline) {
				t.Fatalf("never got %q", want)
			}
		}
	}
	await("b x\nbye\n")
	ill.Store(&b.addr)
	await("a x\nbye\n")
}

func TestWithoutAnyPlaneTheClientIsHungUpOn(t *testing.T) {
	addr := run(t, entry.Config{Planes: func() []netip.AddrPort { return nil }})
	if got := ask(t, addr, "x"); got != "" {
		t.Errorf("got %q, want nothing", got)
	}
}

func TestConnectionsBeyondTheBoundWaitTheirTurn(t *testing.T) {
	p := newPlane(t, "a")
	addr := run(t, entry.Config{Connections: 1, Planes: func() []netip.AddrPort { return []netip.AddrPort{p.addr} }})
	first, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.WriteString(first, "1\n")
	if line, _ := bufio.NewReader(first).ReadString('\n'); line != "a 1\n" {
		t.Fatalf("got %q", line)
	}
	second := make(chan string, 1)
	go func() { second <- ask(t, addr, "2") }()
	_ = first.Close()
	if got := <-second; got != "a 2\nbye\n" {
		t.Errorf("got %q", got)
	}
}
