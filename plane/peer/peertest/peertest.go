// Package peertest helps to test what talks to other members: a cluster CA in
// memory, and members that listen on loopback. It knows the exported surface
// of package peer and nothing behind it.
//
//	ca := peertest.NewCA(t)
//	p := peertest.New(t, ca.Config(t, "n1"))
package peertest

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"copepod/plane/peer"
)

// Prefix is before the member's name in the certificates of members.
const Prefix = "member:"

// CA issues certificates and knows which members are revoked.
type CA struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey

	mu      sync.Mutex // guards what follows
	revoked map[string]bool
	serial  int64
}

// NewCA makes the CA of a cluster.
func NewCA(t testing.TB) *CA {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test-ca"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageCertSign, BasicConstraintsValid: true, IsCA: true}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &CA{cert: cert, key: key, revoked: map[string]bool{}, serial: 1}
}

// Pool trusts this CA only.
func (ca *CA) Pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(ca.cert)
	return pool
}

// Issue makes a certificate for both ends of a connection.
func (ca *CA) Issue(t testing.TB, commonName string, lifetime time.Duration) *tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ca.mu.Lock()
	ca.serial++
	serial := ca.serial
	ca.mu.Unlock()
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: commonName},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(lifetime),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth}}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, ca.cert, key.Public(), ca.key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

// Revoke refuses a member from now on.
func (ca *CA) Revoke(member string) {
	ca.mu.Lock()
	defer ca.mu.Unlock()
	ca.revoked[member] = true
}

// Authorize is for peer.Config.
func (ca *CA) Authorize(cert *x509.Certificate) (string, error) {
	member, ok := strings.CutPrefix(cert.Subject.CommonName, Prefix)
	if !ok {
		return "", fmt.Errorf("%q is not a member", cert.Subject.CommonName)
	}
	ca.mu.Lock()
	defer ca.mu.Unlock()
	if ca.revoked[member] {
		return "", fmt.Errorf("%q is revoked", member)
	}
	return member, nil
}

// Config is a member that listens on a free port of loopback.
func (ca *CA) Config(t testing.TB, member string) peer.Config {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	cert := ca.Issue(t, Prefix+member, time.Hour)
	return peer.Config{
		Listener:             l,
		Member:               member,
		CAs:                  ca.Pool(),
		GetCertificate:       func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return cert, nil },
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return cert, nil },
		Authorize:            ca.Authorize,
		Log:                  slog.New(slog.DiscardHandler),
	}
}

// New makes the Peer.
func New(t testing.TB, cfg peer.Config) *peer.Peer {
	t.Helper()
	p, err := peer.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// Run runs the Peer. stop ends it, and may be called more than once.
func Run(t testing.TB, p *peer.Peer, handle peer.Handler) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := p.Run(ctx, handle); err != nil {
			t.Errorf("run: %v", err)
		}
	}()
	stop = func() {
		cancel()
		<-done
	}
	t.Cleanup(stop)
	return stop
}

// Dial connects as a stranger would, with whatever certificate.
func (ca *CA) Dial(address, protocol string, cert *tls.Certificate) (*tls.Conn, error) {
	cfg := &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS13}
	if protocol != "" {
		cfg.NextProtos = []string{protocol}
	}
	if cert != nil {
		cfg.Certificates = []tls.Certificate{*cert}
	}
	d := &tls.Dialer{Config: cfg, NetDialer: &net.Dialer{Timeout: 30 * time.Second}}
	conn, err := d.Dial("tcp", address)
	if err != nil {
		return nil, err
	}
	return conn.(*tls.Conn), nil
}
