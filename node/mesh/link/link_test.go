package link_test

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/nettest"

	"copepod/node/mesh/link"
	"copepod/node/mesh/vnet"
)

func TestPodsOfTwoNodesSpeak(t *testing.T) {
	w := newWorld(t)
	n1, n2 := w.node(1), w.node(2)
	a, b := n1.pod(t, "10.64.1.5"), n2.pod(t, "10.64.2.6")
	near, far := both(t, a, b)
	if got := far.RemoteAddr().(*net.TCPAddr).AddrPort(); got.Addr() != a.Addr() || got.Port() == 0 {
		t.Errorf("the server sees %s, want the pod that calls, %s", got, a.Addr())
	}
	if got := near.RemoteAddr().(*net.TCPAddr).AddrPort().Addr(); got != b.Addr() {
		t.Errorf("the client sees %s, want %s", got, b.Addr())
	}
	back, there := both(t, b, a) // and in the other direction
	for _, c := range []struct{ from, to net.Conn }{{near, far}, {far, near}, {back, there}, {there, back}} {
		if _, err := c.from.Write([]byte("hello")); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, 5)
		if _, err := io.ReadFull(c.to, got); err != nil || string(got) != "hello" {
			t.Errorf("got %q, %v", got, err)
		}
	}
}

func TestTheNodeItselfReachesPodsOfOthersAsItsFirstAddress(t *testing.T) {
	w := newWorld(t)
	n1, n2 := w.node(1), w.node(2)
	l := listen(t, n2.pod(t, "10.64.2.6"), ":80")
	c, err := n1.net.Dial(t.Context(), netip.MustParseAddrPort("10.64.2.6:80"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	far, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	if got := far.RemoteAddr().(*net.TCPAddr).AddrPort().Addr().String(); got != "10.64.1.1" {
		t.Errorf("the pod sees %s, want 10.64.1.1", got)
	}
}

func TestConnectionsBetweenNodesBehaveAsTheNetPackageAsks(t *testing.T) {
	w := newWorld(t)
	n1, n2 := w.node(1), w.node(2)
	a, b := n1.pod(t, "10.64.1.5"), n2.pod(t, "10.64.2.6")
	nettest.TestConn(t, func() (c1, c2 net.Conn, stop func(), err error) {
		c1, c2 = both(t, a, b)
		return c1, c2, func() { _, _ = c1.Close(), c2.Close() }, nil
	})
}

func TestDialErrorsOfOtherNodesCarryTheErrnoThatAGuestSees(t *testing.T) {
	w := newWorld(t)
	n1, n2 := w.node(1), w.node(2)
	a := n1.pod(t, "10.64.1.5")
	n2.pod(t, "10.64.2.6")
	for _, row := range []struct {
		addr string
		want error
	}{
		{"10.64.2.6:80", syscall.ECONNREFUSED},
		{"10.64.2.7:80", syscall.EHOSTUNREACH},
		{"10.64.3.7:80", syscall.EHOSTUNREACH},
		{"10.64.1.7:80", syscall.EHOSTUNREACH},
		{"10.43.0.1:80", syscall.EHOSTUNREACH},
	} {
		if c, err := a.Dial(t.Context(), "tcp", row.addr); !errors.Is(err, row.want) {
			t.Errorf("dial %s = %v, %v; want %v", row.addr, c, err, row.want)
		}
	}
}

func TestHalfClosePassesBetweenNodes(t *testing.T) {
	w := newWorld(t)
	n1, n2 := w.node(1), w.node(2)
	near, far := both(t, n1.pod(t, "10.64.1.5"), n2.pod(t, "10.64.2.6"))
	if _, err := near.Write([]byte("question")); err != nil {
		t.Fatal(err)
	}
	if err := near.(vnet.Conn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(far); err != nil || string(got) != "question" {
		t.Fatalf("got %q, %v", got, err)
	}
	if _, err := far.Write([]byte("answer")); err != nil {
		t.Fatal(err)
	}
	_ = far.Close()
	if got, err := io.ReadAll(near); err != nil || string(got) != "answer" {
		t.Errorf("got %q, %v", got, err)
	}
	_ = near.Close()
	eventually(t, "no stream is left", func() bool { return n1.link.Stats().Streams == 0 && n2.link.Stats().Streams == 0 })
}

func TestAWriterLearnsThatNobodyReadsAnyMore(t *testing.T) {
	w := newWorld(t)
	n1, n2 := w.node(1), w.node(2)
	near, far := both(t, n1.pod(t, "10.64.1.5"), n2.pod(t, "10.64.2.6"))
	_ = near.(vnet.Conn).CloseWrite()
	_ = near.Close()
	var err error
	for err == nil {
		_, err = far.Write(make([]byte, 1000))
	}
	if !errors.Is(err, syscall.EPIPE) {
		t.Errorf("writing to one that has closed = %v, want EPIPE", err)
	}
	_ = far.Close()
	eventually(t, "no stream is left", func() bool { return n1.link.Stats().Streams == 0 && n2.link.Stats().Streams == 0 })
}

func TestAPodThatEndsResetsItsConnectionsOnOtherNodes(t *testing.T) {
	w := newWorld(t)
	n1, n2 := w.node(1), w.node(2)
	a, b := n1.pod(t, "10.64.1.5"), n2.pod(t, "10.64.2.6")
	near, far := both(t, a, b)
	_, _ = far.Write([]byte("half an ans"))
	if _, err := io.ReadFull(near, make([]byte, 11)); err != nil {
		t.Fatal(err)
	}
	_ = b.Close()
	if _, err := near.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("read = %v, want ECONNRESET", err)
	}
	eventually(t, "no stream is left", func() bool { return n1.link.Stats().Streams == 0 && n2.link.Stats().Streams == 0 })
}

func TestLargeTransfersArriveWholeInBothDirections(t *testing.T) {
	w := newWorld(t)
	n1, n2 := w.node(1), w.node(2)
	a, b := n1.pod(t, "10.64.1.5"), n2.pod(t, "10.64.2.6")
	data := make([]byte, 4<<20)
	if _, err := rand.Read(data); err != nil {
		t.Fatal(err)
	}
	want := sha256.Sum256(data)
	var wg sync.WaitGroup
	for range 3 {
		near, far := both(t, a, b)
		for _, c := range []struct{ from, to net.Conn }{{near, far}, {far, near}} {
			wg.Go(func() {
				if _, err := c.from.Write(data); err != nil {
					t.Error(err)
				}
				_ = c.from.(vnet.Conn).CloseWrite()
			})
			wg.Go(func() {
				h := sha256.New()
				if _, err := io.Copy(h, c.to); err != nil || !bytes.Equal(h.Sum(nil), want[:]) {
					t.Errorf("what arrived is not what was sent; %v", err)
				}
			})
		}
	}
	wg.Wait()
	if got := n1.link.Stats(); got.Sent < 12<<20 || got.Received < 12<<20 {
		t.Errorf("counted %d sent, %d received, want 12 MiB each", got.Sent, got.Received)
	}
}

func TestASlowReaderHoldsUpItsOwnStreamAlone(t *testing.T) {
	w := newWorld(t)
	n1, n2 := w.node(1), w.node(2)
	a, b := n1.pod(t, "10.64.1.5"), n2.pod(t, "10.64.2.6")
	stuck, _ := both(t, a, b)
	_ = stuck.SetWriteDeadline(time.Now().Add(100 * time.Millisecond))
	wrote, err := stuck.Write(make([]byte, 8<<20))
	if err == nil || wrote > 1<<20 {
		t.Errorf("wrote %d bytes to a reader that does not read, %v; want a timeout within 1 MiB", wrote, err)
	}
	near, far := both(t, a, b)
	_, _ = near.Write([]byte("hello"))
	got := make([]byte, 5)
	if _, err := io.ReadFull(far, got); err != nil || string(got) != "hello" {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestANodeThatDiesResetsConnectionsAndFailsDialsUntilItIsBack(t *testing.T) {
	w := newWorld(t)
	n1, n2 := w.node(1), w.node(2)
	a := n1.pod(t, "10.64.1.5")
	near, _ := both(t, a, n2.pod(t, "10.64.2.6"))
	n2.stop()
	if _, err := near.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("read = %v, want ECONNRESET", err)
	}
	if _, err := a.Dial(t.Context(), "tcp", "10.64.2.6:80"); !errors.Is(err, syscall.EHOSTUNREACH) {
		t.Errorf("dial = %v, want EHOSTUNREACH", err)
	}
	ln, err := net.Listen("tcp", n2.addr.String())
	if err != nil {
		t.Skip("the port is taken by another")
	}
	n2 = w.nodeOn(ln, 2)
	go echo(listen(t, n2.pod(t, "10.64.2.7"), ":80"))
	eventually(t, "the node is reached again", func() bool {
		c, err := a.Dial(t.Context(), "tcp", "10.64.2.7:80")
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	})
}

func TestANodeDeclaredLostIsCutAndReturnsWhenItAnswers(t *testing.T) {
	w := newWorld(t)
	n1, n2 := w.node(1), w.node(2)
	a, b := n1.pod(t, "10.64.1.5"), n2.pod(t, "10.64.2.6")
	near, _ := both(t, a, b)
	n1.link.Lost("n2")
	n1.link.Lost("n9") // never heard of
	if _, err := near.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("read = %v, want ECONNRESET", err)
	}
	go echo(listen(t, b, ":80"))
	eventually(t, "the node is reached again", func() bool {
		_, err := a.Dial(t.Context(), "tcp", "10.64.2.6:80")
		return err == nil
	})
}

func TestASilentNodeIsLost(t *testing.T) {
	w := newWorld(t)
	n1 := w.node(1, func(l *link.Config, _ *vnet.Config) { l.Silence = 2 * time.Second })
	n2 := w.node(2)
	relay, freeze := freezer(t, n2.addr)
	w.dir.set(link.Peer{Name: "n2", Addr: relay, Pods: []netip.Prefix{netip.MustParsePrefix("10.64.2.0/24")}})
	near, _ := both(t, n1.pod(t, "10.64.1.5"), n2.pod(t, "10.64.2.6"))
	freeze()
	if _, err := near.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("read = %v, want ECONNRESET", err)
	}
}

// freezer is a way to addr that can go silent, as when a machine loses its power.
func freezer(t *testing.T, addr netip.AddrPort) (netip.AddrPort, func()) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	frozen := make(chan struct{})
	copy := func(to, from net.Conn) {
		buf := make([]byte, 4096)
		for {
			n, err := from.Read(buf)
			select {
			case <-frozen:
				return
			default:
			}
			if err != nil {
				_ = to.Close()
				return
			}
			if _, err := to.Write(buf[:n]); err != nil {
				return
			}
		}
	}
	var mu sync.Mutex
	var open []net.Conn
	go func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			open = append(open, in)
			mu.Unlock()
			select {
			case <-frozen:
				continue
			default:
			}
			out, err := net.Dial("tcp", addr.String())
			if err != nil {
				return
			}
			go copy(in, out)
			go copy(out, in)
		}
	}()
	t.Cleanup(func() {
		_ = l.Close()
		mu.Lock()
		defer mu.Unlock()
		for _, c := range open {
			_ = c.Close()
		}
	})
	return l.Addr().(*net.TCPAddr).AddrPort(), func() { close(frozen) }
}

func TestConnectionsThatNobodyUsesAreClosedAndMadeAgain(t *testing.T) {
	w := newWorld(t)
	quick := func(l *link.Config, _ *vnet.Config) { l.Idle, l.Silence = time.Millisecond, 4*time.Second }
	n1, n2 := w.node(1, quick), w.node(2)
	a, b := n1.pod(t, "10.64.1.5"), n2.pod(t, "10.64.2.6")
	for range 2 {
		near, far := both(t, a, b)
		_, _ = near.Close(), far.Close()
		eventually(t, "the connection between the nodes is closed", func() bool { return n1.link.Stats().Peers == 0 && n2.link.Stats().Peers == 0 })
	}
}
