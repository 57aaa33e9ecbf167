// Package identity is who a node is and who may speak to it: its name, the user
// that the API server knows it by, the certificate that its own server shows,
// and the few callers that this server lets in. It knows certificates; it never
// learns what a caller wants.
//
//	id, err := identity.New(identity.Config{Name: "n1", ClientCA: pool, Certificate: get, Callers: []string{"kube-apiserver"}})
//	tls := id.ServerTLS()
//	user, err := id.Caller(request.TLS)
package identity

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/client-go/rest"
)

// Names that Kubernetes gives to nodes and to those who may do everything.
const (
	userPrefix  = "system:node:"
	nodesGroup  = "system:nodes"
	masterGroup = "system:masters"
)

// ErrForbidden says that a caller is known, and not allowed.
var ErrForbidden = errors.New("forbidden")

// Config configures an Identity.
type Config struct {
	Name        string                                               // of the node: a DNS subdomain
	ClientCA    *x509.CertPool                                       // that signs those who may call
	Certificate func(*tls.ClientHelloInfo) (*tls.Certificate, error) // of the node's server; asked for each connection, so that it may rotate
	Callers     []string                                             // users that may call, beside the group system:masters
	Revoked     func(*x509.Certificate) bool                         // whether a certificate counts no more, though it is valid; nil: none is
}

// Identity is a node's.
type Identity struct{ cfg Config }

// New checks that the name can be a node's and that callers can be told apart.
func New(cfg Config) (*Identity, error) {
	if errs := validation.IsDNS1123Subdomain(cfg.Name); len(errs) > 0 {
		return nil, fmt.Errorf("node name %q: %s", cfg.Name, errs[0])
	}
	if cfg.ClientCA == nil || cfg.Certificate == nil {
		return nil, fmt.Errorf("node %s: ClientCA and Certificate must be given", cfg.Name)
	}
	return &Identity{cfg}, nil
}

// DefaultName is the machine's host name in the form that nodes have.
func DefaultName() (string, error) {
	host, err := os.Hostname()
	if err != nil {
		return "", fmt.Errorf("node name: %w", err)
	}
	return strings.ToLower(strings.TrimSpace(host)), nil
}

// User is how the API server knows a node.
func User(node string) string { return userPrefix + node }

// ServerTLS asks every caller for a certificate that the cluster signed.
func (id *Identity) ServerTLS() *tls.Config {
	return &tls.Config{
		MinVersion:     tls.VersionTLS12,
		ClientAuth:     tls.RequireAndVerifyClientCert,
		ClientCAs:      id.cfg.ClientCA,
		GetCertificate: id.cfg.Certificate,
		NextProtos:     []string{"h2", "http/1.1"},
	}
}

// Caller is the user at the other end of a connection, if it may call at all;
// the error is ErrForbidden if not.
func (id *Identity) Caller(conn *tls.ConnectionState) (string, error) {
	if conn == nil || len(conn.VerifiedChains) == 0 || len(conn.PeerCertificates) == 0 {
		return "", fmt.Errorf("no client certificate: %w", ErrForbidden)
	}
	subject := conn.PeerCertificates[0].Subject
	if id.revoked(conn) {
		return subject.CommonName, fmt.Errorf("user %q: its certificate was revoked: %w", subject.CommonName, ErrForbidden)
	}
	if slices.Contains(subject.Organization, masterGroup) || slices.Contains(id.cfg.Callers, subject.CommonName) {
		return subject.CommonName, nil
	}
	return subject.CommonName, fmt.Errorf("user %q: %w", subject.CommonName, ErrForbidden)
}

// Member is the caller, if it is a node of the cluster or may call anyway: what
// nodes share with each other is asked for under this name.
func (id *Identity) Member(conn *tls.ConnectionState) (string, error) {
	user, err := id.Caller(conn)
	if err != nil && user != "" && !id.revoked(conn) && strings.HasPrefix(user, userPrefix) && slices.Contains(conn.PeerCertificates[0].Subject.Organization, nodesGroup) {
		return user, nil
	}
	return user, err
}

// revoked is asked for each request, because connections outlive revocations.
func (id *Identity) revoked(conn *tls.ConnectionState) bool {
	return id.cfg.Revoked != nil && id.cfg.Revoked(conn.PeerCertificates[0])
}

// CheckClient says what is wrong with the way a node would speak to the API
// server: a node must be system:node:NAME, or it could write what is not its
// own. A client without a certificate of its own (a test's, or one that rotates
// inside its transport) is taken as it is.
func CheckClient(cfg *rest.Config, name string) error {
	data := cfg.CertData
	if len(data) == 0 {
		return nil
	}
	block, _ := pem.Decode(data)
	if block == nil {
		return fmt.Errorf("node %s: client certificate: not PEM", name)
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return fmt.Errorf("node %s: client certificate: %w", name, err)
	}
	if cert.Subject.CommonName != User(name) || !slices.Contains(cert.Subject.Organization, nodesGroup) {
		return fmt.Errorf("node %s: client certificate is for user %q of groups %q, want %q of %q",
			name, cert.Subject.CommonName, cert.Subject.Organization, User(name), nodesGroup)
	}
	return nil
}
