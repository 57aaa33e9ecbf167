package certs

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/util/validation"
)

// Identity of nodes, as the Node authorizer of Kubernetes reads it.
const (
	NodeUserPrefix = "system:node:"
	NodesGroup     = "system:nodes"
)

const (
	// NodeLifetime is what SignNode grants: a node renews at two thirds of it,
	// so a revoked node that nobody could reach is out after a day at most.
	NodeLifetime = 24 * time.Hour

	maxCSR     = 16 << 10 // bytes of PEM
	minRSABits = 2048
	maxRSABits = 8192 // verifying larger keys is a way to burn our CPU
)

// A CSRError says why a certificate request was refused.
type CSRError struct {
	Node   string // the name that the requester proved
	Reason string
}

func (e *CSRError) Error() string {
	return fmt.Sprintf("certs: certificate request of node %q: %s", e.Node, e.Reason)
}

// A NodeProfile is what one node may ask for. The caller knows it from the join
// token or from the certificate that the node already has, never from the
// request itself.
type NodeProfile struct {
	Name string
	// Plane says that the machine may vote: its certificates are of PlanesGroup
	// too, whatever the request says.
	Plane bool
	// Hosts that a serving certificate may name. Nil asks for a client
	// certificate, which may name none.
	Hosts []string
}

// CheckNodeCSR parses a PEM certificate request and holds it against a profile:
// subject exactly CN system:node:NAME, O system:nodes; key ECDSA P-256/384/521,
// Ed25519, or RSA of 2048 to 8192 bits; signed by that key; for client use no
// subject alternative names, for serving at least one and only DNS names and
// addresses of the profile. A refusal is a *CSRError.
//
// The rules are those of the Kubernetes signers kube-apiserver-client-kubelet
// and kubelet-serving.
func CheckNodeCSR(csrPEM []byte, p NodeProfile) (*x509.CertificateRequest, error) {
	csr, err := parseCSR(csrPEM)
	if err == nil {
		err = errors.Join(checkSubject(csr, p.Name), checkNames(csr, p.Hosts), checkKey(csr.PublicKey))
	}
	if err == nil {
		err = csr.CheckSignature() // last: it costs the most
	}
	if err != nil {
		return nil, &CSRError{Node: p.Name, Reason: err.Error()}
	}
	return csr, nil
}

// SignNode checks a request against the profile and returns the certificate in
// PEM, valid for NodeLifetime. Only the key and the alternative names are taken
// from the request; subject and usages are ours.
func (ca *CA) SignNode(csrPEM []byte, p NodeProfile) ([]byte, error) {
	csr, err := CheckNodeCSR(csrPEM, p)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	tmpl := &x509.Certificate{
		Subject:               pkix.Name{CommonName: NodeUserPrefix + p.Name, Organization: nodeGroups(p.Plane)},
		DNSNames:              csr.DNSNames,
		IPAddresses:           csr.IPAddresses,
		NotBefore:             now.Add(-backdate),
		NotAfter:              now.Add(NodeLifetime),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		BasicConstraintsValid: true,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	if p.Hosts != nil {
		tmpl.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	}
	certPEM, err := ca.sign(tmpl, csr.PublicKey)
	if err != nil {
		return nil, fmt.Errorf("certs: sign for node %q: %w", p.Name, err)
	}
	return certPEM, nil
}

func parseCSR(csrPEM []byte) (*x509.CertificateRequest, error) {
	if len(csrPEM) > maxCSR {
		return nil, fmt.Errorf("%d bytes long, at most %d are read", len(csrPEM), maxCSR)
	}
	block, rest := pem.Decode(csrPEM)
	if block == nil || block.Type != "CERTIFICATE REQUEST" {
		return nil, errors.New("no PEM block CERTIFICATE REQUEST")
	}
	if len(strings.TrimSpace(string(rest))) > 0 {
		return nil, errors.New("more than one PEM block")
	}
	csr, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("not a certificate request: %w", err)
	}
	return csr, nil
}

func checkSubject(csr *x509.CertificateRequest, name string) error {
	if errs := validation.IsDNS1123Subdomain(name); len(errs) > 0 {
		return fmt.Errorf("name: %s", errs[0])
	}
	// Names holds every attribute of the subject, so nothing hides in a field
	// that pkix.Name has no room for.
	if got, want := csr.Subject.CommonName, NodeUserPrefix+name; got != want {
		return fmt.Errorf("common name is %q, want %q", got, want)
	}
	if got := csr.Subject.Organization; !slices.Equal(got, []string{NodesGroup}) {
		return fmt.Errorf("organization is %q, want exactly %q", got, NodesGroup)
	}
	if len(csr.Subject.Names) != 2 {
		return fmt.Errorf("subject %q has more than a common name and an organization", csr.Subject)
	}
	return nil
}

func checkNames(csr *x509.CertificateRequest, allowed []string) error {
	if len(csr.EmailAddresses) > 0 || len(csr.URIs) > 0 {
		return errors.New("alternative names may only be DNS names and IP addresses")
	}
	names := slices.Clone(csr.DNSNames)
	for _, ip := range csr.IPAddresses {
		names = append(names, ip.String())
	}
	if allowed == nil && len(names) > 0 {
		return fmt.Errorf("a client certificate may have no alternative names, got %q", names)
	}
	if allowed != nil && len(names) == 0 {
		return errors.New("a serving certificate needs at least one alternative name")
	}
	for _, n := range names {
		if !slices.ContainsFunc(allowed, func(a string) bool { return sameHost(a, n) }) {
			return fmt.Errorf("alternative name %q is not an address of this node, which has %q", n, allowed)
		}
		if isAPIName(n) {
			return fmt.Errorf("alternative name %q is one of the API's own", n)
		}
	}
	return nil
}

// isAPIName tells whether clients know the API server by a name. A node that
// had one in its certificate could pose as it, whatever its profile allows.
func isAPIName(host string) bool {
	return host == "kubernetes" || strings.HasPrefix(host, "kubernetes.default")
}

func sameHost(a, b string) bool {
	ipA, ipB := net.ParseIP(a), net.ParseIP(b)
	if ipA != nil && ipB != nil {
		return ipA.Equal(ipB)
	}
	return a == b
}

func checkKey(pub any) error {
	switch key := pub.(type) {
	case *ecdsa.PublicKey:
		if key.Curve == elliptic.P224() {
			return errors.New("ECDSA P-224 is too weak, use P-256")
		}
		return nil
	case ed25519.PublicKey:
		return nil
	case *rsa.PublicKey:
		if n := key.N.BitLen(); n < minRSABits || n > maxRSABits {
			return fmt.Errorf("RSA key has %d bits, want %d to %d", n, minRSABits, maxRSABits)
		}
		return nil
	default:
		return fmt.Errorf("key type %T is not supported, use ECDSA P-256", pub)
	}
}
