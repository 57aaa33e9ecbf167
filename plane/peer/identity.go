package peer

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"time"
)

// errUnauthorized says that a certificate is of the cluster but not of a
// member, or not of the expected one.
var errUnauthorized = errors.New("not authorized")

// serverTLS is for those who connect to us. Tickets are off: each connection
// shows a certificate, so that what counts is what it shows now.
func (p *Peer) serverTLS() *tls.Config {
	return &tls.Config{
		MinVersion:             tls.VersionTLS13,
		NextProtos:             []string{RaftProtocol, StoreProtocol},
		ClientAuth:             tls.RequireAndVerifyClientCert,
		ClientCAs:              p.cfg.CAs,
		GetCertificate:         p.cfg.GetCertificate,
		SessionTicketsDisabled: true,
		VerifyConnection: func(cs tls.ConnectionState) error {
			if cs.NegotiatedProtocol == "" {
				return errors.New("no protocol of ours was asked for")
			}
			_, err := p.memberOf(cs.PeerCertificates)
			return err
		},
	}
}

// clientTLS expects a member by name. Certificates of members carry names, not
// addresses, so the chain is verified here instead of by the address.
func (p *Peer) clientTLS(member, protocol string) *tls.Config {
	return &tls.Config{
		MinVersion:           tls.VersionTLS13,
		NextProtos:           []string{protocol},
		GetClientCertificate: p.cfg.GetClientCertificate,
		InsecureSkipVerify:   true, // VerifyConnection does all of it
		VerifyConnection: func(cs tls.ConnectionState) error {
			if cs.NegotiatedProtocol != protocol {
				return fmt.Errorf("it does not speak %s", protocol)
			}
			if err := verifyServer(p.cfg.CAs, cs.PeerCertificates); err != nil {
				return err
			}
			got, err := p.memberOf(cs.PeerCertificates)
			if err == nil && got != member {
				err = fmt.Errorf("%w: the certificate is that of %q", errUnauthorized, got)
			}
			return err
		},
	}
}

func verifyServer(cas *x509.CertPool, chain []*x509.Certificate) error {
	if len(chain) == 0 {
		return errors.New("no certificate was shown")
	}
	between := x509.NewCertPool()
	for _, c := range chain[1:] {
		between.AddCert(c)
	}
	_, err := chain[0].Verify(x509.VerifyOptions{
		Roots: cas, Intermediates: between, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}})
	return err
}

func (p *Peer) memberOf(chain []*x509.Certificate) (string, error) {
	if len(chain) == 0 {
		return "", errors.New("no certificate was shown")
	}
	member, err := p.cfg.Authorize(chain[0])
	switch {
	case err != nil:
		return "", fmt.Errorf("%w: %w", errUnauthorized, err)
	case member == "":
		return "", fmt.Errorf("%w: certificate %q names no member", errUnauthorized, chain[0].Subject)
	}
	return member, nil
}

// introduce makes the handshake with somebody who has connected.
func (p *Peer) introduce(ctx context.Context, c *memberConn) error {
	tc := tls.Server(c.Conn, p.server)
	if err := tc.HandshakeContext(ctx); err != nil {
		return err
	}
	c.cert = tc.ConnectionState().PeerCertificates[0]
	member, err := p.memberOf(tc.ConnectionState().PeerCertificates)
	if err != nil {
		return err
	}
	return p.identify(c, tc, member)
}

// dial connects to a member and makes sure that it is that one.
func (p *Peer) dial(ctx context.Context, member, address, protocol string) (*tls.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, p.cfg.HandshakeTimeout)
	defer cancel()
	raw, err := p.cfg.Dial(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("peer: dial %s: %w", member, err)
	}
	conn := tls.Client(raw, p.clientTLS(member, protocol))
	if err := conn.HandshakeContext(ctx); err != nil {
		raw.Close()
		return nil, fmt.Errorf("peer: dial %s at %s: %w", member, address, err)
	}
	return conn, nil
}

// stillWelcome asks again what was asked at the handshake.
func (p *Peer) stillWelcome(c *memberConn) error {
	if now := time.Now(); now.After(c.cert.NotAfter) {
		return fmt.Errorf("the certificate of %s has expired", c.member)
	}
	member, err := p.cfg.Authorize(c.cert)
	if err == nil && member != c.member {
		err = fmt.Errorf("the certificate is now that of %q", member)
	}
	return err
}

// reasonOf sorts what was wrong with a handshake.
func reasonOf(err error) string {
	var timeout net.Error
	switch {
	case errors.Is(err, errUnauthorized):
		return reasonUnauthorized
	case errors.Is(err, errTooMany):
		return reasonLimit
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return reasonTimeout
	}
	return reasonHandshake
}
