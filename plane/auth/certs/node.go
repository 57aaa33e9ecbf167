package certs

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"copepod/plane/auth/keyfile"
)

// PlanesGroup is the further organization of nodes that may vote. It opens the
// ports between planes and the keys of the cluster, and no right of RBAC.
const PlanesGroup = "copepod:planes"

// APIName is in the certificate of every API server and in none of a node: who
// dials an API server by an address that its certificate may not have, such as
// that of a member that only passes connections on, verifies this name.
const APIName = "kubernetes.default.svc"

// IssuedAt is when a certificate of ours was signed; its NotBefore is earlier,
// for clocks that run behind. Seconds are cut off, as X.509 does.
func IssuedAt(cert *x509.Certificate) time.Time { return cert.NotBefore.Add(backdate) }

// KeyHash is "sha256:" and the hex SHA-256 of a public key's
// SubjectPublicKeyInfo, the same that Hash gives for a certificate of that key.
func KeyHash(pub any) (string, error) {
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return "", fmt.Errorf("certs: public key: %w", err)
	}
	sum := sha256.Sum256(der)
	return "sha256:" + hex.EncodeToString(sum[:]), nil
}

// NodeOf tells which node a certificate names, and whether it may vote. It does
// not verify the certificate.
func NodeOf(cert *x509.Certificate) (name string, plane, ok bool) {
	name, ok = strings.CutPrefix(cert.Subject.CommonName, NodeUserPrefix)
	if !ok || name == "" || !slices.Contains(cert.Subject.Organization, NodesGroup) {
		return "", false, false
	}
	return name, slices.Contains(cert.Subject.Organization, PlanesGroup), true
}

// Node issues the client certificate of a node on the machine that holds the CA.
// Other machines send a request: see SignNode.
func (ca *CA) Node(name string, plane bool) (Pair, error) {
	return ca.Issue(Request{
		CommonName: NodeUserPrefix + name, Groups: nodeGroups(plane), Client: true, Lifetime: NodeLifetime,
	})
}

// NodeServer issues what the node shows on its ports, as Node does.
func (ca *CA) NodeServer(name string, plane bool, hosts []string) (Pair, error) {
	return ca.Issue(Request{
		CommonName: NodeUserPrefix + name, Groups: nodeGroups(plane), Hosts: hosts, Server: true, Lifetime: NodeLifetime,
	})
}

func nodeGroups(plane bool) []string {
	if plane {
		return []string{NodesGroup, PlanesGroup}
	}
	return []string{NodesGroup}
}

// NodeKey reads the key of a machine's node at path, or makes it, P-256, 0600. A
// machine keeps it for as long as it is a member.
func NodeKey(path string) (key *ecdsa.PrivateKey, keyPEM []byte, err error) {
	keyPEM, err = keyfile.LoadOrCreate(path, func() ([]byte, error) {
		_, pemBytes, err := newKey()
		return pemBytes, err
	})
	if err != nil {
		return nil, nil, fmt.Errorf("certs: node key: %w", err)
	}
	if key, err = parseKey(keyPEM); err != nil {
		return nil, nil, fmt.Errorf("certs: %s: %w", path, err)
	}
	return key, keyPEM, nil
}

// NewNodeCSR is the request that CheckNodeCSR takes: for a client certificate
// without hosts, for a serving one with them.
func NewNodeCSR(key crypto.Signer, name string, hosts ...string) ([]byte, error) {
	tmpl := &x509.CertificateRequest{
		Subject: pkix.Name{CommonName: NodeUserPrefix + name, Organization: []string{NodesGroup}},
	}
	for _, h := range hosts {
		if ip := net.ParseIP(h); ip != nil {
			tmpl.IPAddresses = append(tmpl.IPAddresses, ip)
		} else {
			tmpl.DNSNames = append(tmpl.DNSNames, h)
		}
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, tmpl, key)
	if err != nil {
		return nil, fmt.Errorf("certs: request of node %q: %w", name, err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}), nil
}

// ParseCertificate reads the first certificate of a PEM text.
func ParseCertificate(certPEM []byte) (*x509.Certificate, error) {
	cert, err := parseCert(certPEM)
	if err != nil {
		return nil, fmt.Errorf("certs: %w", err)
	}
	return cert, nil
}

// ReadTrust reads the certificate of a cluster's CA in dir, where machines keep
// it that do not have the CA's key.
func ReadTrust(dir string) (caPEM []byte, pool *x509.CertPool, err error) {
	path := filepath.Join(dir, CACertFile)
	if caPEM, err = os.ReadFile(path); err != nil {
		return nil, nil, fmt.Errorf("certs: %w", err)
	}
	cert, err := parseCert(caPEM)
	if err != nil {
		return nil, nil, fmt.Errorf("certs: %s: %w", path, err)
	}
	pool = x509.NewCertPool()
	pool.AddCert(cert)
	return caPEM, pool, nil
}
