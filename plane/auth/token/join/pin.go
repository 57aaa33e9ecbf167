package join

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"time"
)

// apiName is in the certificate of every API server and, because signing checks
// names, in none of a node. Without it any node could pose as the API server and
// collect secrets of tokens.
const apiName = "kubernetes.default.svc"

// ErrPin says that a server is not of the cluster that the token is for. Nothing
// has been told to it.
var ErrPin = errors.New("the server's CA is not the one in the join token: the address belongs to another cluster, or somebody is in between; compare the address with the line that `copepod token create` printed")

// A ClockError says that the server's certificate is good but for its dates.
type ClockError struct{ NotBefore, NotAfter, Now time.Time }

func (e *ClockError) Error() string {
	return fmt.Sprintf("the server's certificate is valid from %s to %s, but here it is %s: set this machine's clock",
		e.NotBefore.UTC().Format(time.RFC3339), e.NotAfter.UTC().Format(time.RFC3339), e.Now.UTC().Format(time.RFC3339))
}

// TLS returns a client configuration for the first contact: it accepts an
// API server of the pinned CA, at any address, and nothing else. The server
// must send its CA along.
func (t Token) TLS() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		// The usual verification needs roots, which the joiner does not have
		// yet; VerifyConnection does it with the pin instead, on every
		// connection, resumed ones included.
		InsecureSkipVerify: true,
		VerifyConnection: func(cs tls.ConnectionState) error {
			_, err := t.VerifyChain(cs.PeerCertificates, time.Now())
			return err
		},
	}
}

// VerifyChain finds the pinned CA in a server's chain (leaf first) and checks
// that the leaf is an API server's certificate signed under it. It returns the CA, which
// the joiner may trust from then on. Errors are ErrPin and *ClockError.
func (t Token) VerifyChain(chain []*x509.Certificate, now time.Time) (*x509.Certificate, error) {
	if len(chain) == 0 {
		return nil, ErrPin
	}
	var ca *x509.Certificate
	for _, c := range chain[1:] {
		sum := sha256.Sum256(c.RawSubjectPublicKeyInfo)
		if c.IsCA && pinPrefix+hex.EncodeToString(sum[:]) == t.Pin {
			ca = c
		}
	}
	if ca == nil {
		return nil, ErrPin
	}
	roots := x509.NewCertPool()
	roots.AddCert(ca)
	leaf := chain[0]
	_, err := leaf.Verify(x509.VerifyOptions{
		Roots:       roots,
		DNSName:     apiName,
		CurrentTime: now,
		KeyUsages:   []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	})
	var invalid x509.CertificateInvalidError
	if errors.As(err, &invalid) && invalid.Reason == x509.Expired {
		return nil, &ClockError{NotBefore: leaf.NotBefore, NotAfter: leaf.NotAfter, Now: now}
	}
	if err != nil {
		return nil, fmt.Errorf("%w (%w)", ErrPin, err)
	}
	return ca, nil
}
