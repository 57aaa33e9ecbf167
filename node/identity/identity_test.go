package identity_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"testing"
	"time"

	"k8s.io/client-go/rest"

	"copepod/node/identity"
)

// certificate makes a self-signed one.
func certificate(t testing.TB, user string, groups ...string) (*x509.Certificate, []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), Subject: pkix.Name{CommonName: user, Organization: groups}}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func get(*tls.ClientHelloInfo) (*tls.Certificate, error) { return nil, errors.New("none") }

func TestOnlyTheAPIServerAndAdministratorsMayCall(t *testing.T) {
	id, err := identity.New(identity.Config{Name: "n1", ClientCA: x509.NewCertPool(), Certificate: get, Callers: []string{"kube-apiserver"}})
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct {
		user   string
		groups []string
		ok     bool
	}{
		{"kube-apiserver", nil, true},
		{"admin", []string{"system:masters"}, true},
		{"system:node:n1", []string{"system:nodes"}, false},
		{"mallory", []string{"kube-apiserver"}, false},
	} {
		cert, _ := certificate(t, row.user, row.groups...)
		conn := &tls.ConnectionState{PeerCertificates: []*x509.Certificate{cert}, VerifiedChains: [][]*x509.Certificate{{cert}}}
		user, err := id.Caller(conn)
		if user != row.user || (err == nil) != row.ok || (err != nil && !errors.Is(err, identity.ErrForbidden)) {
			t.Errorf("%s %v: got %q, %v, want allowed %v", row.user, row.groups, user, err, row.ok)
		}
		conn.VerifiedChains = nil
		if _, err := id.Caller(conn); !errors.Is(err, identity.ErrForbidden) {
			t.Errorf("%s with a certificate that nobody verified: got %v, want %v", row.user, err, identity.ErrForbidden)
		}
	}
	if _, err := id.Caller(nil); !errors.Is(err, identity.ErrForbidden) {
		t.Errorf("without TLS: got %v, want %v", err, identity.ErrForbidden)
	}
}

func TestWhoseCertificateWasRevokedMayNotCall(t *testing.T) {
	out, _ := certificate(t, "system:node:n2", "system:nodes")
	in, _ := certificate(t, "system:node:n3", "system:nodes")
	id, err := identity.New(identity.Config{
		Name: "n1", ClientCA: x509.NewCertPool(), Certificate: get, Callers: []string{"system:node:n2"},
		Revoked: func(c *x509.Certificate) bool { return c.Equal(out) },
	})
	if err != nil {
		t.Fatal(err)
	}
	as := func(cert *x509.Certificate) *tls.ConnectionState {
		return &tls.ConnectionState{PeerCertificates: []*x509.Certificate{cert}, VerifiedChains: [][]*x509.Certificate{{cert}}}
	}
	if _, err := id.Caller(as(out)); !errors.Is(err, identity.ErrForbidden) {
		t.Errorf("revoked caller: got %v, want %v", err, identity.ErrForbidden)
	}
	if _, err := id.Member(as(out)); !errors.Is(err, identity.ErrForbidden) {
		t.Errorf("revoked member: got %v, want %v", err, identity.ErrForbidden)
	}
	if _, err := id.Member(as(in)); err != nil {
		t.Errorf("another member: %v", err)
	}
}

func TestANodeSpeaksToTheAPIServerAsItself(t *testing.T) {
	for _, row := range []struct {
		user, group, want string
	}{
		{"system:node:n1", "system:nodes", ""},
		{"system:node:n2", "system:nodes", `is for user "system:node:n2"`},
		{"system:node:n1", "system:masters", `of groups ["system:masters"]`},
		{"admin", "system:masters", `is for user "admin"`},
	} {
		_, pem := certificate(t, row.user, row.group)
		err := identity.CheckClient(&rest.Config{TLSClientConfig: rest.TLSClientConfig{CertData: pem}}, "n1")
		if (row.want == "") != (err == nil) || (err != nil && !strings.Contains(err.Error(), row.want)) {
			t.Errorf("%s of %s: got %v, want %q", row.user, row.group, err, row.want)
		}
	}
	if err := identity.CheckClient(&rest.Config{TLSClientConfig: rest.TLSClientConfig{CertData: []byte("x")}}, "n1"); err == nil {
		t.Error("got nil for a certificate that is none, want an error")
	}
}

func TestNamesThatNodesCannotHaveAreRefused(t *testing.T) {
	for _, name := range []string{"", "UPPER", "a_b", strings.Repeat("x", 254), "a/b"} {
		if _, err := identity.New(identity.Config{Name: name, ClientCA: x509.NewCertPool(), Certificate: get}); err == nil {
			t.Errorf("got a node named %q, want an error", name)
		}
	}
}

func ExampleUser() {
	fmt.Println(identity.User("n1"))
	// Output: system:node:n1
}
