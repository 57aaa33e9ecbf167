package certs

import (
	"crypto"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"net"
	"time"

	"k8s.io/apimachinery/pkg/util/validation"
)

// Lifetimes that Server, Client and Admin use. Running parts rotate long before
// (see Rotator); the admin kubeconfig is a file that people carry, so it lives
// longer and is written anew at each start.
const (
	ServerLifetime = 30 * 24 * time.Hour
	ClientLifetime = 7 * 24 * time.Hour
	AdminLifetime  = 365 * 24 * time.Hour
)

// A Pair is a certificate and its private key, both PEM.
type Pair struct {
	CertPEM []byte
	KeyPEM  []byte // secret; PKCS #8
}

// TLS parses the pair, with Leaf set.
func (p Pair) TLS() (tls.Certificate, error) {
	cert, err := tls.X509KeyPair(p.CertPEM, p.KeyPEM)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("certs: %w", err)
	}
	return cert, nil
}

// A Request describes a certificate for the cluster's own use. At least one of
// Server and Client must be set.
type Request struct {
	CommonName string
	Groups     []string      // become organizations: Kubernetes reads them as groups
	Hosts      []string      // DNS names and IP addresses, for Server
	Server     bool          // extended key usage serverAuth
	Client     bool          // extended key usage clientAuth
	Lifetime   time.Duration // 0 = ServerLifetime or ClientLifetime; cut at the CA's own end
}

// Server issues a serving certificate for hosts, DNS names or IP addresses.
func (ca *CA) Server(cn string, hosts []string) (Pair, error) {
	return ca.Issue(Request{CommonName: cn, Hosts: hosts, Server: true})
}

// Client issues a client certificate that the API server reads as user with
// groups.
func (ca *CA) Client(user string, groups []string) (Pair, error) {
	return ca.Issue(Request{CommonName: user, Groups: groups, Client: true})
}

// Admin issues the certificate for the admin kubeconfig: kubernetes-admin of
// system:masters, the one identity that no authorizer can lock out.
func (ca *CA) Admin() (Pair, error) {
	return ca.Issue(Request{CommonName: "kubernetes-admin", Groups: []string{"system:masters"}, Client: true, Lifetime: AdminLifetime})
}

// Issue makes a fresh P-256 key and a certificate for it.
func (ca *CA) Issue(r Request) (Pair, error) {
	tmpl, err := r.template()
	if err != nil {
		return Pair{}, fmt.Errorf("certs: issue %q: %w", r.CommonName, err)
	}
	key, keyPEM, err := newKey()
	if err != nil {
		return Pair{}, fmt.Errorf("certs: issue %q: %w", r.CommonName, err)
	}
	certPEM, err := ca.sign(tmpl, key.Public())
	if err != nil {
		return Pair{}, fmt.Errorf("certs: issue %q: %w", r.CommonName, err)
	}
	if r.Server {
		// A joining machine knows only the CA's hash: the CA comes along.
		certPEM = append(certPEM, ca.pem...)
	}
	return Pair{CertPEM: certPEM, KeyPEM: keyPEM}, nil
}

func (r Request) template() (*x509.Certificate, error) {
	if r.CommonName == "" {
		return nil, errors.New("common name is empty")
	}
	if !r.Server && !r.Client {
		return nil, errors.New("neither server nor client use asked for")
	}
	now := time.Now()
	tmpl := &x509.Certificate{
		Subject:               pkix.Name{CommonName: r.CommonName, Organization: r.Groups},
		NotBefore:             now.Add(-backdate),
		NotAfter:              now.Add(r.lifetime()),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		BasicConstraintsValid: true,
	}
	if r.Server {
		tmpl.ExtKeyUsage = append(tmpl.ExtKeyUsage, x509.ExtKeyUsageServerAuth)
	}
	if r.Client {
		tmpl.ExtKeyUsage = append(tmpl.ExtKeyUsage, x509.ExtKeyUsageClientAuth)
	}
	if r.Server && len(r.Hosts) == 0 {
		return nil, errors.New("a server certificate needs at least one host")
	}
	return tmpl, addHosts(tmpl, r.Hosts)
}

func (r Request) lifetime() time.Duration {
	switch {
	case r.Lifetime > 0:
		return r.Lifetime
	case r.Server:
		return ServerLifetime
	default:
		return ClientLifetime
	}
}

func addHosts(tmpl *x509.Certificate, hosts []string) error {
	for _, h := range hosts {
		if ip := net.ParseIP(h); ip != nil {
			tmpl.IPAddresses = append(tmpl.IPAddresses, ip)
			continue
		}
		if !validHost(h) {
			return fmt.Errorf("host %q is neither an IP address nor a DNS name", h)
		}
		tmpl.DNSNames = append(tmpl.DNSNames, h)
	}
	return nil
}

func validHost(h string) bool {
	return len(validation.IsDNS1123Subdomain(h)) == 0 || len(validation.IsWildcardDNS1123Subdomain(h)) == 0
}

// sign fills in what every certificate of ours shares.
func (ca *CA) sign(tmpl *x509.Certificate, pub crypto.PublicKey) ([]byte, error) {
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	tmpl.SerialNumber = serial
	if tmpl.NotAfter.After(ca.cert.NotAfter) {
		tmpl.NotAfter = ca.cert.NotAfter
	}
	if !tmpl.NotAfter.After(time.Now()) {
		return nil, fmt.Errorf("the cluster CA expired on %s", ca.cert.NotAfter.Format(time.DateOnly))
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, ca.cert, pub, ca.key)
	if err != nil {
		return nil, err
	}
	return encodeCert(der), nil
}

// APIHosts returns the names and addresses under which clients reach the API
// server, in the order given: loopback, the Service "kubernetes" in every form
// that a resolver completes, its cluster address, and extra ones.
func APIHosts(serviceIP string, extra ...string) []string {
	hosts := []string{
		"127.0.0.1", "::1", "localhost",
		"kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local",
	}
	seen := make(map[string]bool, len(hosts))
	for _, h := range hosts {
		seen[h] = true
	}
	for _, h := range append([]string{serviceIP}, extra...) {
		if h != "" && !seen[h] {
			seen[h] = true
			hosts = append(hosts, h)
		}
	}
	return hosts
}
