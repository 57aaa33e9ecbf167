package server

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"syscall"
	"time"

	"k8s.io/apimachinery/pkg/util/validation"
)

// What a node says of another that it was asked to look at.
const (
	alive    = "alive"    // it answered, and proved who it is
	refused  = "refused"  // its machine says that nobody listens there
	silent   = "silent"   // nothing in time, twice
	impostor = "impostor" // somebody answers who is not the node
	unsure   = "unsure"   // a holder of the node's key whose certificate has expired
)

const (
	lookTimeout = 700 * time.Millisecond // for one of two attempts
	looks       = 32                     // at once
)

// opinion answers /confirm.
type opinion struct {
	Answer string `json:"answer"`
	Why    string `json:"why,omitempty"`
}

// confirm looks at another node's port for the API server, which may be cut off
// from it while this machine is not. The address must be one of an interface:
// nobody makes this node resolve names, and all that a caller learns is whether
// the node it named answers there.
func (s *Server) confirm(w http.ResponseWriter, r *http.Request) {
	node := r.URL.Query().Get("node")
	address, err := netip.ParseAddrPort(r.URL.Query().Get("address"))
	switch errs := validation.IsDNS1123Subdomain(node); {
	case len(errs) > 0:
		http.Error(w, fmt.Sprintf("node %q: %s", node, errs[0]), http.StatusBadRequest)
		return
	case err != nil:
		http.Error(w, fmt.Sprintf("address: %v: want IP:PORT", err), http.StatusBadRequest)
		return
	}
	select {
	case s.looks <- struct{}{}:
		defer func() { <-s.looks }()
	default:
		w.Header().Set("Retry-After", "1")
		http.Error(w, "too many looks at other nodes at once", http.StatusTooManyRequests)
		return
	}
	answer, why := look(r.Context(), s.cfg.Peers, node, address.String())
	if answer == silent {
		answer, why = look(r.Context(), s.cfg.Peers, node, address.String())
	}
	o := opinion{Answer: answer}
	if why != nil {
		o.Why = why.Error()
	}
	s.answer(w, r, o)
}

// look is one attempt. A handshake is enough: it proves that a process which has
// the node's key answers now, and a node lets no other node in any further.
func look(ctx context.Context, roots *x509.CertPool, node, address string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	raw, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
	if errors.Is(err, syscall.ECONNREFUSED) {
		return refused, err
	}
	if err != nil {
		return silent, err
	}
	defer raw.Close()
	var stranger error
	conn := tls.Client(raw, &tls.Config{
		MinVersion:         tls.VersionTLS13, // before it, our missing certificate fails the handshake
		InsecureSkipVerify: true,             //nolint:gosec // VerifyConnection does it, by name of node
		VerifyConnection: func(c tls.ConnectionState) error {
			stranger = isNode(roots, node, c.PeerCertificates)
			return stranger
		},
	})
	err = conn.HandshakeContext(ctx)
	var invalid x509.CertificateInvalidError
	switch {
	case errors.As(stranger, &invalid) && invalid.Reason == x509.Expired:
		return unsure, stranger
	case stranger != nil:
		return impostor, stranger
	case err != nil:
		return silent, err
	}
	return alive, nil
}

// isNode says why a chain is not that of a node; the name counts, not the address.
func isNode(roots *x509.CertPool, node string, chain []*x509.Certificate) error {
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
	if cn := chain[0].Subject.CommonName; cn != "system:node:"+node {
		return fmt.Errorf("certificate is for %q, want that of node %s", cn, node)
	}
	return nil
}
