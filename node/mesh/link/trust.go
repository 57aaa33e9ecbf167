package link

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// A node's certificate is that of the user system:node:NAME in system:nodes.
const (
	userPrefix = "system:node:"
	nodesGroup = "system:nodes"
	protocol   = "copepod-mesh/1" // ALPN
)

var (
	errNoNode  = errors.New("its certificate is not a node's")
	errRevoked = errors.New("its certificate is revoked")
)

// caller is the node whose client certificate this is.
func caller(cert *x509.Certificate) (string, error) {
	name, ok := strings.CutPrefix(cert.Subject.CommonName, userPrefix)
	if !ok || name == "" || !slices.Contains(cert.Subject.Organization, nodesGroup) {
		return "", fmt.Errorf("%q of %q: %w", cert.Subject.CommonName, cert.Subject.Organization, errNoNode)
	}
	return name, nil
}

// serverTLS lets nodes in, and nobody else.
func (l *Link) serverTLS() *tls.Config {
	return &tls.Config{
		MinVersion:             tls.VersionTLS13,
		GetCertificate:         l.cfg.Serving,
		ClientAuth:             tls.RequireAndVerifyClientCert,
		ClientCAs:              l.cfg.CA,
		NextProtos:             []string{protocol},
		SessionTicketsDisabled: true, // each connection proves itself

		DynamicRecordSizingDisabled: true,
		VerifyConnection: func(cs tls.ConnectionState) error {
			cert := cs.PeerCertificates[0]
			name, err := caller(cert)
			switch {
			case err != nil:
				return err
			case name == l.cfg.Node:
				return fmt.Errorf("node %s calls itself: its name is taken twice, or its address is another's", name)
			case l.cfg.Revoked(cert):
				return fmt.Errorf("node %s: %w", name, errRevoked)
			}
			return nil
		},
	}
}

// clientTLS is for calls to nodes; callTLS says to which. A node is known by its
// name in the cluster, not by the address that it happens to have.
func (l *Link) clientTLS() *tls.Config {
	return &tls.Config{
		MinVersion:           tls.VersionTLS13,
		GetClientCertificate: l.cfg.Client,
		NextProtos:           []string{protocol},
		InsecureSkipVerify:   true, //nolint:gosec // VerifyConnection does it, by node name

		DynamicRecordSizingDisabled: true,
	}
}

func (l *Link) callTLS(node string) *tls.Config {
	cfg := l.client.Clone()
	cfg.VerifyConnection = func(cs tls.ConnectionState) error {
		cert := cs.PeerCertificates[0]
		rest := x509.NewCertPool()
		for _, c := range cs.PeerCertificates[1:] {
			rest.AddCert(c)
		}
		_, err := cert.Verify(x509.VerifyOptions{Roots: l.cfg.CA, Intermediates: rest, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}})
		switch {
		case err != nil:
			return fmt.Errorf("certificate of node %s: %w", node, err)
		case cert.Subject.CommonName != userPrefix+node:
			return fmt.Errorf("it shows the certificate of %q, want that of %q", cert.Subject.CommonName, userPrefix+node)
		case l.cfg.Revoked(cert):
			return errRevoked
		case cs.NegotiatedProtocol != protocol:
			return fmt.Errorf("it does not speak %s", protocol)
		}
		return nil
	}
	return cfg
}
