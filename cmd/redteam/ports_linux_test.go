package redteam

import (
	"crypto/tls"
	"encoding/binary"
	"io"
	"log"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/hashicorp/yamux"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"copepod/plane/auth/certs"
	"copepod/plane/peer"
)

// from dials from an attacker's address.
func from(t *testing.T, host byte, network, at string) net.Conn {
	t.Helper()
	d := net.Dialer{Timeout: patience}
	if addr := victim.addr(host); network == "udp" {
		d.LocalAddr = net.UDPAddrFromAddrPort(netip.AddrPortFrom(addr, 0))
	} else {
		d.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(addr, 0))
	}
	conn, err := d.DialContext(t.Context(), network, at)
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.SetDeadline(time.Now().Add(patience))
	return conn
}

// tlsTo makes a TLS connection under a certificate, nil: under none. With TLS 1.3
// the other end may refuse after our side of the handshake is done.
func tlsTo(t *testing.T, host byte, at string, pair *certs.Pair, protocols ...string) (*tls.Conn, error) {
	t.Helper()
	cfg := &tls.Config{InsecureSkipVerify: true, NextProtos: protocols} // an attacker does not mind
	if pair != nil {
		cert, err := pair.TLS()
		if err != nil {
			t.Fatal(err)
		}
		cfg.Certificates = []tls.Certificate{cert}
	}
	conn := tls.Client(from(t, host, "tcp", at), cfg)
	t.Cleanup(func() { _ = conn.Close() })
	return conn, conn.HandshakeContext(t.Context())
}

// answered says whether anything comes back for a request.
func answered(conn net.Conn, request []byte) bool {
	if _, err := conn.Write(request); err != nil {
		return false
	}
	n, _ := conn.Read(make([]byte, 1))
	return n > 0
}

func TestOnlyPlanesSpeakRaftOrForwardWrites(t *testing.T) {
	w := newWitness(t)
	status, err := victim.status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	term := status.Members[0].Term
	issue := func(r certs.Request) *certs.Pair {
		pair, err := victim.ca.Issue(r)
		if err != nil {
			t.Fatal(err)
		}
		return &pair
	}
	stolen := pairOf(t, victim.n3.dir)
	// A request of copepod-store/1, and the beginning of one of Raft: a vote.
	forward := append([]byte{0, 0, 0, 4, 0}, "\x01\x02\x03"...)
	vote := append([]byte{1}, "\x8a\xa4Term\xcd\xff\xff"...)
	for _, row := range []struct {
		what string
		pair *certs.Pair
		why  string // of the count
	}{
		{"nobody", nil, "handshake"},
		{"a node", &stolen, "unauthorized"},
		{"an administrator", &certs.Pair{CertPEM: victim.admin.CertData, KeyPEM: victim.admin.KeyData}, "unauthorized"},
		{"a user in the planes' group", issue(certs.Request{CommonName: "mallory", Groups: []string{certs.PlanesGroup}, Client: true}), "unauthorized"},
		{"a node that is only called a plane", issue(certs.Request{CommonName: "n2", Groups: []string{certs.NodesGroup, certs.PlanesGroup}, Client: true}), "unauthorized"},
		{"a server's certificate", issue(certs.Request{CommonName: "system:node:n2", Groups: []string{certs.NodesGroup, certs.PlanesGroup}, Hosts: []string{"n2"}, Server: true}), "handshake"},
	} {
		for protocol, request := range map[string][]byte{peer.StoreProtocol: forward, peer.RaftProtocol: vote} {
			before := victim.n1.metric(t, "copepod_peer_refused_total", row.why)
			conn, err := tlsTo(t, 110, victim.n1.at(peerPort), row.pair, protocol)
			if err == nil && answered(conn, request) {
				t.Errorf("%s is answered in %s", row.what, protocol)
			}
			victim.n1.counts(t, before, 1, "copepod_peer_refused_total", row.why)
		}
	}
	victim.n1.logged(t, "a connection is refused", "reason=unauthorized")
	w.unharmed(t)
	if status, err = victim.status(t.Context()); err != nil || status.Members[0].Term != term {
		t.Errorf("term after the attack: %+v, %v; want %d", status.Members, err, term)
	}
}

// request is one of the mesh, as package link describes it.
func request(from, to string) []byte {
	b := []byte{0, 0, 1, 6}
	for _, s := range []string{from, to} {
		a := netip.MustParseAddrPort(s)
		ip := a.Addr().AsSlice()
		b = append(append(b, byte(len(ip))), ip...)
		b = binary.BigEndian.AppendUint16(b, a.Port())
	}
	binary.BigEndian.PutUint16(b, uint16(len(b)-2))
	return b
}

// mesh is a session with a machine's link under a certificate.
func mesh(t *testing.T, m *machine, pair certs.Pair) *yamux.Session {
	t.Helper()
	conn, err := tlsTo(t, 111, m.at(meshPort), &pair, "copepod-mesh/1")
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.SetDeadline(time.Time{})
	cfg := yamux.DefaultConfig()
	cfg.LogOutput, cfg.Logger, cfg.EnableKeepAlive = nil, log.New(io.Discard, "", 0), false
	s, err := yamux.Client(conn, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func TestStolenNodeCertificateSpeaksForThatNodesPodAddressesAlone(t *testing.T) {
	w := newWitness(t)
	cidr := func(name string) netip.Prefix {
		n, err := victim.client.CoreV1().Nodes().Get(t.Context(), name, metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		p, err := netip.ParsePrefix(n.Spec.PodCIDR)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	in := func(p netip.Prefix) string { return netip.AddrPortFrom(p.Addr().Next().Next(), 8080).String() }
	n1, n2, n3 := in(cidr("n1")), in(cidr("n2")), in(cidr("n3"))
	s := mesh(t, victim.n1, pairOf(t, victim.n3.dir))
	before := victim.n1.metric(t, "copepod_mesh_hostile_total")
	const denied = 3
	attacks := [][2]string{
		{n1, n1}, {n2, n1}, {"127.0.0.1:1", n1}, {"8.8.8.8:53", n1}, // whom it says to be
		{n3, "127.0.0.1:10250"}, {n3, victim.n1.at(apiPort)}, {n3, n2}, {n3, "169.254.169.254:80"}, {n3, "10.43.0.1:443"}, // whom it asks for
	}
	for _, a := range attacks {
		stream, err := s.OpenStream()
		if err != nil {
			t.Fatal(err)
		}
		_ = stream.SetDeadline(time.Now().Add(patience))
		var b [1]byte
		if _, err := stream.Write(request(a[0], a[1])); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(stream, b[:]); err != nil || b[0] != denied {
			t.Errorf("from %s to %s: got answer %d, %v; want %d", a[0], a[1], b[0], err, denied)
		}
		_ = stream.Close()
	}
	victim.n1.counts(t, before, float64(len(attacks)), "copepod_mesh_hostile_total")
	victim.n1.logged(t, "request of a node refused", "peer=n3")
	w.unharmed(t)
}
