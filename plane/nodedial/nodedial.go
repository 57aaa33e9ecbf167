// Package nodedial opens connections to the servers of nodes, and proves which
// node is at the other end: its certificate must be system:node:NAME, signed by
// the cluster. An address proves nothing, since a node writes its own, and
// another may listen there by now. The package knows addresses and certificates;
// it never learns what is asked over a connection.
//
//	d := nodedial.New(nodedial.Config{Roots: ca.Pool(), Client: rotator.Pair})
//	conn, err := d.Dial(ctx, "n1", "10.0.0.1:10250")
//	client := &http.Client{Transport: d.Transport(find)} // https://n1/livez
package nodedial

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"

	"copepod/plane/auth/certs"
)

// Config says whom to believe and what to show.
type Config struct {
	Roots  *x509.CertPool    // that sign the certificates of nodes
	Client func() certs.Pair // what we show; nil: nothing, and nodes refuse every request
	// Timeout is how long a connection may take to be there, the proof included.
	// Zero: 5 s.
	Timeout time.Duration
}

// Dialer dials nodes. Its methods may be called at once.
type Dialer struct{ cfg Config }

// New makes a Dialer.
func New(cfg Config) *Dialer {
	cfg.Timeout = cmp.Or(cfg.Timeout, 5*time.Second)
	return &Dialer{cfg}
}

// ImpostorError says that somebody answered who is not the node.
type ImpostorError struct {
	Node, Address string
	Err           error
}

func (e *ImpostorError) Error() string {
	return fmt.Sprintf("%s is not node %s: %v", e.Address, e.Node, e.Err)
}

func (e *ImpostorError) Unwrap() error { return e.Err }

var errNoCertificate = errors.New("there is no certificate for node servers")

// Dial connects to a node at address, host:port. The error is that of the
// network, or an *ImpostorError.
func (d *Dialer) Dial(ctx context.Context, node, address string) (*tls.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, d.cfg.Timeout)
	defer cancel()
	raw, err := (&net.Dialer{KeepAlive: 30 * time.Second}).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	conn := tls.Client(raw, d.tls(node, address))
	if err := conn.HandshakeContext(ctx); err != nil {
		_ = raw.Close()
		return nil, err
	}
	return conn, nil
}

// tls checks the chain and the name of the node, not the address: a node keeps
// its name when its address changes.
func (d *Dialer) tls(node, address string) *tls.Config {
	return &tls.Config{
		MinVersion:         tls.VersionTLS12,
		InsecureSkipVerify: true, //nolint:gosec // VerifyConnection does it, by name of node
		VerifyConnection: func(s tls.ConnectionState) error {
			if err := verify(d.cfg.Roots, node, s.PeerCertificates); err != nil {
				return &ImpostorError{node, address, err}
			}
			return nil
		},
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			if d.cfg.Client == nil {
				return nil, errNoCertificate
			}
			cert, err := d.cfg.Client().TLS()
			return &cert, err
		},
	}
}

func verify(roots *x509.CertPool, node string, chain []*x509.Certificate) error {
	if len(chain) == 0 {
		return errors.New("no certificate")
	}
	between := x509.NewCertPool()
	for _, c := range chain[1:] {
		between.AddCert(c)
	}
	if _, err := chain[0].Verify(x509.VerifyOptions{Roots: roots, Intermediates: between}); err != nil {
		return err
	}
	if cn := chain[0].Subject.CommonName; cn != certs.NodeUserPrefix+node {
		return fmt.Errorf("its certificate is for %q", cn)
	}
	return nil
}

// Transport carries HTTP to nodes: the host of a URL is the name of a node, whose
// address find says. A port in the URL does not matter.
func (d *Dialer) Transport(find func(ctx context.Context, node string) (address string, err error)) *http.Transport {
	return &http.Transport{
		DialTLSContext: func(ctx context.Context, _, host string) (net.Conn, error) {
			node, _, err := net.SplitHostPort(host)
			if err != nil {
				return nil, err
			}
			address, err := find(ctx, node)
			if err != nil {
				return nil, err
			}
			return d.Dial(ctx, node, address)
		},
		ResponseHeaderTimeout: 30 * time.Second,
		IdleConnTimeout:       90 * time.Second,
		MaxIdleConnsPerHost:   8,
		MaxIdleConns:          512,
	}
}

var errNoAddress = errors.New("status.addresses has no address: the node has not reported yet")

// Address gives host:port of the server that a node announces in its status,
// preferring the address by which the plane most likely reaches it.
func Address(node *corev1.Node) (string, error) {
	port := node.Status.DaemonEndpoints.KubeletEndpoint.Port
	if port == 0 {
		return "", fmt.Errorf("node %s: status.daemonEndpoints.kubeletEndpoint.port is not set: the node has not reported yet", node.Name)
	}
	for _, want := range []corev1.NodeAddressType{corev1.NodeInternalIP, corev1.NodeHostName, corev1.NodeInternalDNS, corev1.NodeExternalIP} {
		for _, a := range node.Status.Addresses {
			if a.Type == want {
				return net.JoinHostPort(a.Address, strconv.Itoa(int(port))), nil
			}
		}
	}
	return "", fmt.Errorf("node %s: %w", node.Name, errNoAddress)
}
