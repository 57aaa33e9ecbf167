package certs_test

import (
	"crypto/x509"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"copepod/plane/auth/certs"
)

func TestOnlyTheProfileMakesAPlane(t *testing.T) {
	ca := newCA(t)
	key, _, err := certs.NodeKey(filepath.Join(t.TempDir(), "keys", "node.key"))
	if err != nil {
		t.Fatal(err)
	}
	csr, err := certs.NewNodeCSR(key, "n1")
	if err != nil {
		t.Fatal(err)
	}
	for _, plane := range []bool{false, true} {
		certPEM, err := ca.SignNode(csr, certs.NodeProfile{Name: "n1", Plane: plane})
		if err != nil {
			t.Fatal(err)
		}
		cert, err := certs.ParseCertificate(certPEM)
		if err != nil {
			t.Fatal(err)
		}
		name, isPlane, ok := certs.NodeOf(cert)
		if name != "n1" || isPlane != plane || !ok {
			t.Errorf("got %q, %t, %t, want n1, %t", name, isPlane, ok, plane)
		}
		if !slices.Contains(cert.Subject.Organization, certs.NodesGroup) {
			t.Errorf("got %v, want it among the nodes", cert.Subject)
		}
	}
}

func TestNodeKeyStaysTheSame(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys", "node.key")
	a, aPEM, err := certs.NodeKey(path)
	if err != nil {
		t.Fatal(err)
	}
	b, bPEM, err := certs.NodeKey(path)
	if err != nil || !a.Equal(b) || string(aPEM) != string(bPEM) {
		t.Errorf("got another key, or %v", err)
	}
}

func TestNodeCertificatesOfTheCAsMachineLiveADay(t *testing.T) {
	ca := newCA(t)
	client, err := ca.Node("n1", true)
	if err != nil {
		t.Fatal(err)
	}
	serving, err := ca.NodeServer("n1", true, []string{"192.0.2.1"})
	if err != nil {
		t.Fatal(err)
	}
	for usage, pair := range map[x509.ExtKeyUsage]certs.Pair{x509.ExtKeyUsageClientAuth: client, x509.ExtKeyUsageServerAuth: serving} {
		cert, err := certs.ParseCertificate(pair.CertPEM)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := cert.Verify(x509.VerifyOptions{Roots: ca.Pool(), KeyUsages: []x509.ExtKeyUsage{usage}}); err != nil {
			t.Error(err)
		}
		if got := cert.NotAfter.Sub(certs.IssuedAt(cert)); got > certs.NodeLifetime+time.Second {
			t.Errorf("lives %s, want at most %s", got, certs.NodeLifetime)
		}
		if _, plane, _ := certs.NodeOf(cert); !plane {
			t.Error("is not of a plane")
		}
	}
}

func TestPeopleAndPartsAreNoNodes(t *testing.T) {
	ca := newCA(t)
	for _, r := range []certs.Request{
		{CommonName: "system:node:n1", Client: true},
		{CommonName: "system:node:", Groups: []string{certs.NodesGroup}, Client: true},
		{CommonName: "n1", Groups: []string{certs.NodesGroup, certs.PlanesGroup}, Client: true},
	} {
		pair, err := ca.Issue(r)
		if err != nil {
			t.Fatal(err)
		}
		cert, err := certs.ParseCertificate(pair.CertPEM)
		if err != nil {
			t.Fatal(err)
		}
		if name, _, ok := certs.NodeOf(cert); ok {
			t.Errorf("%v: got node %q, want none", r, name)
		}
	}
}
