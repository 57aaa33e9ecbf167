package link_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"copepod/node/mesh/link"
	"copepod/node/mesh/vnet"
)

// authority signs nodes.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pool *x509.CertPool
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "ca"}, NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	a := &authority{key: key, pool: x509.NewCertPool()}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	a.pool.AddCert(a.cert)
	return a
}

// certificate is one for both ends of a call.
func (a *authority) certificate(t testing.TB, user string, groups ...string) *tls.Certificate {
	t.Helper()
	return a.lasting(t, time.Hour, user, groups...)
}

func (a *authority) lasting(t testing.TB, life time.Duration, user string, groups ...string) *tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: user, Organization: groups}, NotAfter: time.Now().Add(life),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, a.cert, key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// directory is the list of nodes that a test writes.
type directory struct {
	mu    sync.Mutex
	peers map[string]link.Peer
}

func (d *directory) set(p link.Peer) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.peers[p.Name] = p
}

func (d *directory) Peer(name string) (link.Peer, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	p, ok := d.peers[name]
	return p, ok
}

func (d *directory) Owner(ip netip.Addr) (link.Peer, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, p := range d.peers {
		if p.Pods[0].Contains(ip) {
			return p, true
		}
	}
	return link.Peer{}, false
}

// world is a cluster of nodes in one process: n1, n2, … whose pods are
// 10.64.N.0/24.
type world struct {
	t   testing.TB
	ca  *authority
	dir *directory
}

func newWorld(t testing.TB) *world {
	t.Helper()
	return &world{t: t, ca: newAuthority(t), dir: &directory{peers: map[string]link.Peer{}}}
}

type node struct {
	name string
	link *link.Link
	net  *vnet.Net
	addr netip.AddrPort
	stop func() // returns when the node is gone
}

var inside = []netip.Prefix{netip.MustParsePrefix("10.64.0.0/10"), netip.MustParsePrefix("10.43.0.0/16")}

// node starts node number n. change may alter how.
func (w *world) node(n int, change ...func(*link.Config, *vnet.Config)) *node {
	w.t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		w.t.Skip("no kernel loopback here")
	}
	return w.nodeOn(ln, n, change...)
}

func (w *world) nodeOn(ln net.Listener, n int, change ...func(*link.Config, *vnet.Config)) *node {
	w.t.Helper()
	name := fmt.Sprint("n", n)
	cert := w.ca.certificate(w.t, "system:node:"+name, "system:nodes")
	lc := link.Config{
		Node: name, Listener: ln, Peers: w.dir, CA: w.ca.pool,
		Serving: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return cert, nil },
		Client:  func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return cert, nil },
		// A test machine may be slow, and is not lost for that.
		Handshake: time.Minute, Answer: time.Minute, Silence: time.Minute, Retry: 200 * time.Millisecond,
		Log: slog.New(slog.DiscardHandler),
	}
	vc := vnet.Config{Inside: inside}
	for _, f := range change {
		f(&lc, &vc)
	}
	l, err := link.New(lc)
	if err != nil {
		w.t.Fatal(err)
	}
	vc.Remote = l
	nd := &node{name: name, link: l, net: vnet.New(vc), addr: ln.Addr().(*net.TCPAddr).AddrPort()}
	w.dir.set(link.Peer{Name: name, Addr: nd.addr, Pods: []netip.Prefix{netip.MustParsePrefix(fmt.Sprintf("10.64.%d.0/24", n))}})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx, nd.net) }()
	<-l.Ready()
	nd.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			w.t.Error(err)
		}
	})
	w.t.Cleanup(nd.stop)
	return nd
}

// pod attaches a pod.
func (n *node) pod(t testing.TB, ip string) *vnet.Stack {
	t.Helper()
	s, err := n.net.Attach(netip.MustParseAddr(ip))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func listen(t testing.TB, s *vnet.Stack, addr string) net.Listener {
	t.Helper()
	l, err := s.Listen(t.Context(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// both makes a connection from one pod to another.
func both(t testing.TB, from, to *vnet.Stack) (near, far net.Conn) {
	t.Helper()
	l := listen(t, to, ":0")
	defer func() { _ = l.Close() }()
	near, err := from.Dial(t.Context(), "tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if far, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	return near, far
}

// echo answers with what it reads until the listener closes.
func echo(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			_, _ = io.Copy(struct{ io.Writer }{c}, struct{ io.Reader }{c})
			_ = c.Close()
		}()
	}
}

// eventually waits for a condition that events bring about.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(60 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatalf("it never came to this: %s", what)
}
