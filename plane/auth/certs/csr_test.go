package certs_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"net"
	"net/url"
	"strings"
	"testing"
	"time"

	"copepod/plane/auth/certs"
)

var nodeSubject = pkix.Name{CommonName: "system:node:n1", Organization: []string{"system:nodes"}}

func p256(t testing.TB) crypto.Signer {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func csr(t testing.TB, tmpl x509.CertificateRequest, key crypto.Signer) []byte {
	der, err := x509.CreateCertificateRequest(rand.Reader, &tmpl, key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})
}

func TestNodeSignsInWithTheCertificateItAskedFor(t *testing.T) {
	ca, key := newCA(t), p256(t)
	certPEM, err := ca.SignNode(csr(t, x509.CertificateRequest{Subject: nodeSubject}, key), certs.NodeProfile{Name: "n1"})
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(certPEM)
	serverPair, err := ca.Server("kube-apiserver", []string{"localhost"})
	peer, serverErr, clientErr := handshake(t, rotator(t, serverPair, err).PeerTLS(ca.Pool()), &tls.Config{
		RootCAs:      ca.Pool(),
		ServerName:   "localhost",
		Certificates: []tls.Certificate{{Certificate: [][]byte{block.Bytes}, PrivateKey: key}},
	})
	if serverErr != nil || clientErr != nil {
		t.Fatalf("got %v, %v, want a handshake", serverErr, clientErr)
	}
	if got, want := peer[0].Subject.String(), "CN=system:node:n1,O=system:nodes"; got != want {
		t.Errorf("got subject %s, want %s", got, want)
	}
	if got := time.Until(peer[0].NotAfter); got > certs.NodeLifetime {
		t.Errorf("got a life of %s, want at most %s", got, certs.NodeLifetime)
	}
}

func TestNodeServesUnderItsOwnAddressesOnly(t *testing.T) {
	ca, key := newCA(t), p256(t)
	profile := certs.NodeProfile{Name: "n1", Hosts: []string{"n1.example", "192.0.2.1", "2001:db8::1"}}
	certPEM, err := ca.SignNode(csr(t, x509.CertificateRequest{
		Subject: nodeSubject, DNSNames: []string{"n1.example"}, IPAddresses: []net.IP{net.ParseIP("192.0.2.1"), net.ParseIP("2001:db8:0::1")},
	}, key), profile)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(certPEM)
	serving := &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{block.Bytes}, PrivateKey: key}}}
	if _, _, err := handshake(t, serving, &tls.Config{RootCAs: ca.Pool(), ServerName: "192.0.2.1"}); err != nil {
		t.Errorf("own address: got %v, want a handshake", err)
	}
	if _, _, err := handshake(t, serving, &tls.Config{RootCAs: ca.Pool(), ServerName: "kubernetes.default.svc"}); err == nil {
		t.Error("address of the API server: got a handshake, want a refusal")
	}
}

func TestCertificateRequestsAreHeldToTheProfile(t *testing.T) {
	ecKey := p256(t)
	p224, _ := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	weakRSA, _ := rsa.GenerateKey(rand.Reader, 1024)
	_, edKey, _ := ed25519.GenerateKey(rand.Reader)
	client, serving := certs.NodeProfile{Name: "n1"}, certs.NodeProfile{Name: "n1", Hosts: []string{"192.0.2.1"}}
	subject := func(cn string, orgs ...string) x509.CertificateRequest {
		return x509.CertificateRequest{Subject: pkix.Name{CommonName: cn, Organization: orgs}}
	}
	extra := subject("system:node:n1", "system:nodes")
	extra.Subject.ExtraNames = []pkix.AttributeTypeAndValue{{Type: asn1.ObjectIdentifier{2, 5, 4, 11}, Value: "masters"}}
	with := func(change func(*x509.CertificateRequest)) x509.CertificateRequest {
		r := x509.CertificateRequest{Subject: nodeSubject}
		change(&r)
		return r
	}
	for _, tt := range []struct {
		name    string
		profile certs.NodeProfile
		req     x509.CertificateRequest
		key     crypto.Signer
		want    string // "" = accepted
	}{
		{"P-256", client, x509.CertificateRequest{Subject: nodeSubject}, ecKey, ""},
		{"Ed25519", client, x509.CertificateRequest{Subject: nodeSubject}, edKey, ""},
		{"another node's name", client, subject("system:node:n2", "system:nodes"), ecKey, `common name is "system:node:n2"`},
		{"a user's name", client, subject("kubernetes-admin", "system:nodes"), ecKey, "common name"},
		{"masters", client, subject("system:node:n1", "system:masters"), ecKey, "organization"},
		{"masters beside nodes", client, subject("system:node:n1", "system:nodes", "system:masters"), ecKey, "organization"},
		{"no group", client, subject("system:node:n1"), ecKey, "organization"},
		{"an attribute more", client, extra, ecKey, "more than a common name"},
		{"client with a name", client, with(func(r *x509.CertificateRequest) { r.DNSNames = []string{"n1"} }), ecKey, "no alternative names"},
		{"email", client, with(func(r *x509.CertificateRequest) { r.EmailAddresses = []string{"a@b"} }), ecKey, "only be DNS names"},
		{"URI", client, with(func(r *x509.CertificateRequest) { r.URIs = []*url.URL{{Scheme: "spiffe", Host: "x"}} }), ecKey, "only be DNS names"},
		{"serving without a name", serving, x509.CertificateRequest{Subject: nodeSubject}, ecKey, "at least one"},
		{"serving another's address", serving, with(func(r *x509.CertificateRequest) { r.IPAddresses = []net.IP{net.IPv4(192, 0, 2, 2)} }), ecKey, `"192.0.2.2" is not an address`},
		{"serving the API's name", serving, with(func(r *x509.CertificateRequest) { r.DNSNames = []string{"kubernetes.default.svc"} }), ecKey, "is not an address"},
		{"serving the API's name by mistake of the profile", certs.NodeProfile{Name: "n1", Hosts: []string{"kubernetes.default.svc"}}, with(func(r *x509.CertificateRequest) { r.DNSNames = []string{"kubernetes.default.svc"} }), ecKey, "one of the API's own"},
		{"P-224", client, x509.CertificateRequest{Subject: nodeSubject}, p224, "P-224 is too weak"},
		{"RSA of 1024 bits", client, x509.CertificateRequest{Subject: nodeSubject}, weakRSA, "RSA key has 1024 bits"},
		{"a name that is none", certs.NodeProfile{Name: "N 1"}, subject("system:node:N 1", "system:nodes"), ecKey, "name:"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := certs.CheckNodeCSR(csr(t, tt.req, tt.key), tt.profile)
			var refused *certs.CSRError
			switch {
			case tt.want == "" && err != nil:
				t.Errorf("got %v, want it accepted", err)
			case tt.want != "" && (!errors.As(err, &refused) || !strings.Contains(refused.Reason, tt.want)):
				t.Errorf("got %v, want *CSRError with %q", err, tt.want)
			}
		})
	}
}

func TestRequestSignedByAnotherKeyIsRefused(t *testing.T) {
	good := csr(t, x509.CertificateRequest{Subject: nodeSubject}, p256(t))
	block, _ := pem.Decode(good)
	block.Bytes[len(block.Bytes)-1] ^= 1
	if _, err := certs.CheckNodeCSR(pem.EncodeToMemory(block), certs.NodeProfile{Name: "n1"}); err == nil {
		t.Error("got it accepted, want a refusal")
	}
	two := append(append([]byte(nil), good...), good...)
	if _, err := certs.CheckNodeCSR(two, certs.NodeProfile{Name: "n1"}); err == nil {
		t.Error("two requests in one: got it accepted, want a refusal")
	}
}

func FuzzCheckNodeCSR(f *testing.F) {
	f.Add(csr(f, x509.CertificateRequest{Subject: nodeSubject}, p256(f)))
	f.Add(csr(f, x509.CertificateRequest{Subject: nodeSubject, DNSNames: []string{"a"}, IPAddresses: []net.IP{{1, 2, 3, 4}}}, p256(f)))
	f.Add([]byte("-----BEGIN CERTIFICATE REQUEST-----\nMAA=\n-----END CERTIFICATE REQUEST-----\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := certs.CheckNodeCSR(data, certs.NodeProfile{Name: "n1"})
		if err == nil && (got.Subject.CommonName != "system:node:n1" || len(got.Subject.Organization) != 1 || len(got.DNSNames)+len(got.IPAddresses) > 0) {
			t.Errorf("accepted %v", got.Subject)
		}
	})
}
