package link_test

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"io"
	"log"
	"net"
	"net/netip"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/yamux"

	"copepod/node/mesh/link"
	"copepod/node/mesh/vnet"
)

// call opens a session to a node with any certificate, past all manners.
func call(t *testing.T, to *node, cert *tls.Certificate) (*yamux.Session, error) {
	t.Helper()
	cfg := &tls.Config{MinVersion: tls.VersionTLS13, InsecureSkipVerify: true, NextProtos: []string{"copepod-mesh/1"}}
	if cert != nil {
		cfg.Certificates = []tls.Certificate{*cert}
	}
	c, err := tls.Dial("tcp", to.addr.String(), cfg)
	if err != nil {
		return nil, err
	}
	yc := yamux.DefaultConfig()
	yc.LogOutput, yc.Logger = nil, log.New(io.Discard, "", 0)
	yc.ConnectionWriteTimeout = time.Minute
	s, err := yamux.Client(c, yc)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	_, err = s.Ping()
	return s, err
}

// header is a well-formed request, as package link writes it.
func header(protocol byte, from, to string) []byte {
	b := []byte{0, 0, 1, protocol}
	for _, s := range []string{from, to} {
		a := netip.MustParseAddrPort(s)
		ip := a.Addr().AsSlice()
		b = append(append(b, byte(len(ip))), ip...)
		b = binary.BigEndian.AppendUint16(b, a.Port())
	}
	binary.BigEndian.PutUint16(b, uint16(len(b)-2))
	return b
}

// ask sends bytes on a stream and returns the answer.
func ask(t *testing.T, s *yamux.Session, request []byte) (byte, error) {
	t.Helper()
	stream, err := s.OpenStream()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = stream.Close() }()
	_ = stream.SetDeadline(time.Now().Add(time.Minute))
	if _, err := stream.Write(request); err != nil {
		return 0, err
	}
	var b [1]byte
	_, err = io.ReadFull(stream, b[:])
	return b[0], err
}

func TestOnlyNodesMayCall(t *testing.T) {
	w := newWorld(t)
	n1 := w.node(1, func(l *link.Config, _ *vnet.Config) {
		l.Revoked = func(c *x509.Certificate) bool { return c.Subject.CommonName == "system:node:revoked" }
	})
	other := newAuthority(t)
	for _, row := range []struct {
		name string
		cert *tls.Certificate
	}{
		{"without a certificate", nil},
		{"of another authority", other.certificate(t, "system:node:n2", "system:nodes")},
		{"of a user", w.ca.certificate(t, "admin", "system:masters")},
		{"of a node that is not in the group", w.ca.certificate(t, "system:node:n2")},
		{"of the group, without a name", w.ca.certificate(t, "system:node:", "system:nodes")},
		{"of the node itself", w.ca.certificate(t, "system:node:n1", "system:nodes")},
		{"that has ended", w.ca.lasting(t, -time.Minute, "system:node:n2", "system:nodes")},
		{"that is revoked", w.ca.certificate(t, "system:node:revoked", "system:nodes")},
	} {
		if _, err := call(t, n1, row.cert); err == nil {
			t.Errorf("a caller with a certificate %s was let in", row.name)
		}
	}
	if _, err := call(t, n1, w.ca.certificate(t, "system:node:n2", "system:nodes")); err != nil {
		t.Errorf("a node was not let in: %v", err)
	}
	eventually(t, "all eight are counted", func() bool { return n1.link.Stats().Hostile == 8 })
}

func TestANodeIsOnlyBelievedUnderItsOwnName(t *testing.T) {
	w := newWorld(t)
	n1 := w.node(1)
	imposter := w.ca.certificate(t, "system:node:n3", "system:nodes")
	n2 := w.node(2, func(l *link.Config, _ *vnet.Config) {
		l.Serving = func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return imposter, nil }
	})
	go echo(listen(t, n2.pod(t, "10.64.2.6"), ":80"))
	if _, err := n1.pod(t, "10.64.1.5").Dial(t.Context(), "tcp", "10.64.2.6:80"); !errors.Is(err, syscall.EHOSTUNREACH) {
		t.Errorf("dial of a node that shows another's certificate = %v, want EHOSTUNREACH", err)
	}
}

func TestARevokedNodeIsCutWhileItsCertificateIsValid(t *testing.T) {
	w := newWorld(t)
	var revoked atomic.Bool
	n1 := w.node(1, func(l *link.Config, _ *vnet.Config) {
		l.Silence = 4 * time.Second
		l.Revoked = func(*x509.Certificate) bool { return revoked.Load() }
	})
	n2 := w.node(2)
	near, _ := both(t, n2.pod(t, "10.64.2.6"), n1.pod(t, "10.64.1.5"))
	revoked.Store(true)
	if _, err := near.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("read = %v, want ECONNRESET", err)
	}
}

func TestRequestsThatNoHonestNodeMakesAreRefused(t *testing.T) {
	w := newWorld(t)
	n1 := w.node(1, func(l *link.Config, _ *vnet.Config) { l.Answer = time.Second })
	w.node(2)
	l := listen(t, n1.pod(t, "10.64.1.5"), ":80")
	go echo(l)
	s, err := call(t, n1, w.ca.certificate(t, "system:node:n2", "system:nodes"))
	if err != nil {
		t.Fatal(err)
	}
	const ok, refused, unroutable, denied, unsupported = 0, 1, 2, 3, 5
	good := header(6, "10.64.2.9:50000", "10.64.1.5:80")
	version := append([]byte(nil), good...)
	version[2] = 9
	for _, row := range []struct {
		name    string
		request []byte
		want    byte
	}{
		{"an honest one", good, ok},
		{"a port where nobody listens", header(6, "10.64.2.9:50000", "10.64.1.5:81"), refused},
		{"a pod that is not there", header(6, "10.64.2.9:50000", "10.64.1.6:80"), unroutable},
		{"a source of the victim's range", header(6, "10.64.1.9:50000", "10.64.1.5:80"), denied},
		{"a source of a third node", header(6, "10.64.3.9:50000", "10.64.1.5:80"), denied},
		{"a source outside", header(6, "127.0.0.1:50000", "10.64.1.5:80"), denied},
		{"a destination outside", header(6, "10.64.2.9:50000", "192.0.2.1:80"), denied},
		{"a destination on the loopback", header(6, "10.64.2.9:50000", "127.0.0.1:80"), denied},
		{"a Service", header(6, "10.64.2.9:50000", "10.43.0.1:80"), denied},
		{"a destination on the caller's own node", header(6, "10.64.2.9:50000", "10.64.2.5:80"), denied},
		{"IPv6 in IPv4's place", header(6, "[fd00::1]:1", "[::1]:80"), denied},
		{"IPv4 in the form of IPv6", header(6, "[::ffff:10.64.2.9]:1", "10.64.1.5:80"), unsupported},
		{"another protocol", header(132, "10.64.2.9:50000", "10.64.1.5:80"), unsupported},
		{"another version", version, unsupported},
		{"an oversized header", append([]byte{0xff, 0xff}, make([]byte, 200)...), unsupported},
		{"an empty header", []byte{0, 0}, unsupported},
		{"nonsense", []byte("GET / HTTP/1.1\r\n\r\n"), unsupported},
	} {
		if got, err := ask(t, s, row.request); err != nil || got != row.want {
			t.Errorf("%s: got answer %d, %v; want %d", row.name, got, err, row.want)
		}
	}
	eventually(t, "all thirteen are counted", func() bool { return n1.link.Stats().Hostile == 13 })
}

func TestANodeWithoutARangeIsNotBelieved(t *testing.T) {
	w := newWorld(t)
	n1 := w.node(1)
	go echo(listen(t, n1.pod(t, "10.64.1.5"), ":80"))
	s, err := call(t, n1, w.ca.certificate(t, "system:node:n7", "system:nodes"))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := ask(t, s, header(6, "10.64.7.9:50000", "10.64.1.5:80")); err != nil || got != 2 {
		t.Errorf("got answer %d, %v; want 2, unroutable", got, err)
	}
}

func TestWhoeverIsTooSlowIsCutOff(t *testing.T) {
	w := newWorld(t)
	n1 := w.node(1, func(l *link.Config, _ *vnet.Config) { l.Handshake, l.Answer = time.Second, time.Second })
	w.node(2)
	raw, err := net.Dial("tcp", n1.addr.String()) // never begins its handshake
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = raw.Close() }()
	_ = raw.SetReadDeadline(time.Now().Add(time.Minute))
	if _, err := raw.Read(make([]byte, 1)); err == nil || errors.Is(err, syscall.ETIMEDOUT) {
		t.Errorf("read = %v, want the connection closed", err)
	}
	s, err := call(t, n1, w.ca.certificate(t, "system:node:n2", "system:nodes"))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := ask(t, s, header(6, "10.64.2.9:50000", "10.64.1.5:80")[:5]); err != nil || got == 0 { // never ends its header
		t.Errorf("got answer %d, %v to half a header; want a refusal", got, err)
	}
}

func TestAFloodOfUnprovenCallersLeavesRoomForNodes(t *testing.T) {
	w := newWorld(t)
	n1 := w.node(1, func(l *link.Config, _ *vnet.Config) { l.Handshakes, l.Handshake = 4, time.Second })
	n2 := w.node(2)
	for range 50 {
		c, err := net.Dial("tcp", n1.addr.String())
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = c.Close() }()
	}
	go echo(listen(t, n1.pod(t, "10.64.1.5"), ":80"))
	b := n2.pod(t, "10.64.2.6")
	eventually(t, "a node gets in when the flood has been timed out", func() bool {
		_, err := b.Dial(t.Context(), "tcp", "10.64.1.5:80")
		return err == nil
	})
	if n1.link.Stats().Refused == 0 {
		t.Error("no caller was refused, of 50 where 4 may wait")
	}
}

func TestStreamsOfOneNodeAreBounded(t *testing.T) {
	w := newWorld(t)
	n1 := w.node(1, func(l *link.Config, _ *vnet.Config) { l.Streams = 8 })
	w.node(2)
	n3 := w.node(3)
	go echo(listen(t, n1.pod(t, "10.64.1.5"), ":80"))
	s, err := call(t, n1, w.ca.certificate(t, "system:node:n2", "system:nodes"))
	if err != nil {
		t.Fatal(err)
	}
	good := header(6, "10.64.2.9:50000", "10.64.1.5:80")
	var open []*yamux.Stream
	for range 8 {
		stream, err := s.OpenStream()
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, stream)
		var b [1]byte
		if _, err := stream.Write(good); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(stream, b[:]); err != nil || b[0] != 0 {
			t.Fatalf("got answer %d, %v; want 0", b[0], err)
		}
	}
	if got, err := ask(t, s, good); err != nil || got != 4 {
		t.Errorf("got answer %d, %v beyond the limit; want 4, busy", got, err)
	}
	if _, err := n3.pod(t, "10.64.3.6").Dial(t.Context(), "tcp", "10.64.1.5:80"); err != nil {
		t.Errorf("another node suffers: %v", err)
	}
	for _, stream := range open {
		_ = stream.Close()
	}
	eventually(t, "there is room again", func() bool { got, err := ask(t, s, good); return err == nil && got == 0 })
}

func TestAFloodOfStreamsEndsTheSession(t *testing.T) {
	w := newWorld(t)
	n1 := w.node(1, func(l *link.Config, _ *vnet.Config) { l.Streams = 8 })
	w.node(2)
	s, err := call(t, n1, w.ca.certificate(t, "system:node:n2", "system:nodes"))
	if err != nil {
		t.Fatal(err)
	}
	for range 5000 { // half-closed by the victim, never by the caller
		if _, err := s.OpenStream(); err != nil {
			break
		}
	}
	eventually(t, "the session is cut", s.IsClosed)
	eventually(t, "nothing is left of it", func() bool { return n1.link.Stats().Peers == 0 && n1.link.Stats().Streams == 0 })
}

func TestBadFramesResetTheirConnectionAlone(t *testing.T) {
	w := newWorld(t)
	n1 := w.node(1)
	w.node(2)
	l := listen(t, n1.pod(t, "10.64.1.5"), ":80")
	s, err := call(t, n1, w.ca.certificate(t, "system:node:n2", "system:nodes"))
	if err != nil {
		t.Fatal(err)
	}
	for _, frame := range []string{"\x80\x01", "\xff\xfd", "\x00\x00\x00\x01x", "\x00\x00\x00\x00"} {
		stream, err := s.OpenStream()
		if err != nil {
			t.Fatal(err)
		}
		var b [1]byte
		_, _ = stream.Write(header(6, "10.64.2.9:50000", "10.64.1.5:80"))
		if _, err := io.ReadFull(stream, b[:]); err != nil || b[0] != 0 {
			t.Fatalf("got answer %d, %v; want 0", b[0], err)
		}
		c, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		_, _ = stream.Write([]byte(frame))
		for err == nil {
			_, err = c.Write([]byte("x"))
		}
		if !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("%q: the pod's writes end with %v, want ECONNRESET", frame, err)
		}
		_ = stream.Close()
	}
	if s.IsClosed() {
		t.Error("the session ended with its streams")
	}
}
