package door_test

import (
	"io"
	"log/slog"
	"net"
	"net/netip"
	"testing"
	"time"

	"copepod/cmd/door"
)

func open(t *testing.T, strangers int) *door.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return door.New(l, door.Config{Strangers: strangers, Log: slog.New(slog.DiscardHandler)})
}

// call connects from an address, and returns both ends.
func call(t *testing.T, l *door.Listener, from string) (theirs, ours net.Conn) {
	t.Helper()
	d := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(from), 0))}
	theirs, err := d.DialContext(t.Context(), "tcp", l.Addr().String())
	if err != nil {
		t.Skipf("this system has one loopback address: %v", err)
	}
	ours, err = l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = theirs.Close(), ours.Close() })
	return theirs, ours
}

// closed waits for the other end to close.
func closed(t *testing.T, c net.Conn) {
	t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(time.Minute))
	if _, err := c.Read(make([]byte, 1)); err == nil || isTimeout(err) {
		t.Errorf("read = %v, want the connection closed", err)
	}
}

// alive says something through a connection.
func alive(t *testing.T, a, b net.Conn) {
	t.Helper()
	_ = b.SetReadDeadline(time.Now().Add(time.Minute))
	if _, err := a.Write([]byte("x")); err != nil {
		t.Errorf("write: %v", err)
	}
	if _, err := io.ReadFull(b, make([]byte, 1)); err != nil {
		t.Errorf("read: %v", err)
	}
}

func isTimeout(err error) bool {
	e, ok := err.(net.Error)
	return ok && e.Timeout()
}

func TestAFloodEndsItsOwnOldestConnections(t *testing.T) {
	l := open(t, 4)
	honest, server := call(t, l, "127.0.0.2")
	var crowd []net.Conn
	for range 8 {
		c, _ := call(t, l, "127.0.0.3")
		crowd = append(crowd, c)
	}
	for _, c := range crowd[:5] {
		closed(t, c)
	}
	alive(t, honest, server)
	if n := l.Shed(); n != 5 {
		t.Errorf("got %d connections shed, want 5", n)
	}
}

func TestWhoIsKnownStaysAndCountsNoMore(t *testing.T) {
	l := open(t, 2)
	known, server := call(t, l, "127.0.0.1")
	l.Know(server.RemoteAddr().String())
	for range 8 {
		call(t, l, "127.0.0.1")
	}
	alive(t, known, server)
	if n := l.Shed(); n != 6 {
		t.Errorf("got %d connections shed, want 6", n)
	}
}

func TestConnectionsThatEndLeaveRoom(t *testing.T) {
	l := open(t, 2)
	for range 8 {
		_, ours := call(t, l, "127.0.0.1")
		if err := ours.Close(); err != nil {
			t.Error(err)
		}
	}
	if n := l.Shed(); n != 0 {
		t.Errorf("got %d connections shed, want none", n)
	}
}
