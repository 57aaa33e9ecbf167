package certs

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// renewTimeout bounds one call of a Source, and with it what a handshake can
// wait when Run is not there to renew ahead of it.
const renewTimeout = 30 * time.Second

// A Source issues or loads the next certificate: a closure over CA.Issue in the
// process that has the CA, a request to the API elsewhere, files read anew for a
// certificate that somebody else rotates.
type Source func(context.Context) (Pair, error)

// RotatorConfig configures a Rotator; only Source is required.
type RotatorConfig struct {
	Source  Source
	Initial Pair          // used until it is due; zero: Source is asked by NewRotator
	Retry   time.Duration // pause after a failed renewal; 0 = 10 s
	Log     *slog.Logger  // nil = slog.Default
}

// A Rotator keeps one certificate fresh: at two thirds of its life the next
// handshake, or Run, has it re-issued. A renewal that fails is retried while the
// old certificate is used to its end. Safe for concurrent use.
type Rotator struct {
	cfg RotatorConfig
	cur atomic.Pointer[rotated]

	mu      sync.Mutex // held by the one that renews; guards what follows
	retryAt time.Time
	lastErr error

	told   sync.Mutex // guards what follows
	listen []func()
}

type rotated struct {
	pair  Pair
	cert  *tls.Certificate
	dueAt time.Time
}

// NewRotator checks the configuration and obtains the first certificate.
func NewRotator(cfg RotatorConfig) (*Rotator, error) {
	if cfg.Source == nil {
		return nil, errors.New("certs: rotator: Source is nil")
	}
	if cfg.Retry == 0 {
		cfg.Retry = 10 * time.Second
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	r := &Rotator{cfg: cfg}
	if cfg.Initial.CertPEM == nil {
		if err := r.renew(context.Background()); err != nil {
			return nil, err
		}
		return r, nil
	}
	first, err := newRotated(cfg.Initial)
	if err != nil {
		return nil, err
	}
	r.cur.Store(first)
	return r, nil
}

func newRotated(p Pair) (*rotated, error) {
	cert, err := p.TLS()
	if err != nil {
		return nil, err
	}
	// Not counted from NotBefore, which is backdated.
	life := cert.Leaf.NotAfter.Sub(cert.Leaf.NotBefore)
	return &rotated{pair: p, cert: &cert, dueAt: cert.Leaf.NotBefore.Add(life * 2 / 3)}, nil
}

// Run renews ahead of the handshakes until ctx ends. It is only needed where
// Source is slow, such as a request over the network, or where Pair is read by
// something that does no handshakes.
func (r *Rotator) Run(ctx context.Context) error {
	for {
		wait := max(time.Until(r.cur.Load().dueAt), time.Until(r.nextTry()), 0)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
			r.current(ctx)
		}
	}
}

// Renew asks Source now, because what the certificate should say has changed.
func (r *Rotator) Renew(ctx context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.renew(ctx)
}

// OnRenew has f called after each renewal. It must not block.
func (r *Rotator) OnRenew(f func()) {
	r.told.Lock()
	defer r.told.Unlock()
	r.listen = append(r.listen, f)
}

// Pair returns the certificate in use.
func (r *Rotator) Pair() Pair { return r.cur.Load().pair }

// GetCertificate is for the field of tls.Config of the same name, on servers.
func (r *Rotator) GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	// Not the handshake's context: a client that hangs up must not be able to
	// abort renewals for all.
	return r.current(context.Background())
}

// GetClientCertificate is for the field of tls.Config of the same name, on
// clients.
func (r *Rotator) GetClientCertificate(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
	return r.current(context.Background())
}

// ServerTLS is a server configuration that presents the rotating certificate. It
// verifies client certificates against clients but requires none, so that bearer
// tokens work too; nil clients asks for none. TLS 1.3 only.
func (r *Rotator) ServerTLS(clients *x509.CertPool) *tls.Config {
	cfg := &tls.Config{MinVersion: tls.VersionTLS13, GetCertificate: r.GetCertificate}
	if clients != nil {
		cfg.ClientCAs, cfg.ClientAuth = clients, tls.VerifyClientCertIfGiven
	}
	return cfg
}

// PeerTLS is ServerTLS for ports where a certificate of the cluster is the only
// way in.
func (r *Rotator) PeerTLS(peers *x509.CertPool) *tls.Config {
	return &tls.Config{
		MinVersion:     tls.VersionTLS13,
		GetCertificate: r.GetCertificate,
		ClientCAs:      peers,
		ClientAuth:     tls.RequireAndVerifyClientCert,
	}
}

// ClientTLS is a client configuration that trusts roots only and presents the
// rotating certificate. ServerName is the caller's to set where it is not in the
// address that is dialled.
func (r *Rotator) ClientTLS(roots *x509.CertPool) *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: roots, GetClientCertificate: r.GetClientCertificate}
}

// current returns the certificate, renewed first if that is due. Handshakes that
// meet a renewal in progress go on with the old certificate while it is valid.
func (r *Rotator) current(ctx context.Context) (*tls.Certificate, error) {
	cur, now := r.cur.Load(), time.Now()
	if now.Before(cur.dueAt) {
		return cur.cert, nil
	}
	expired := now.After(cur.cert.Leaf.NotAfter)
	if expired {
		r.mu.Lock() // nothing to go on with: wait
	} else if !r.mu.TryLock() {
		return cur.cert, nil
	}
	defer r.mu.Unlock()
	if cur = r.cur.Load(); now.Before(cur.dueAt) {
		return cur.cert, nil
	}
	if !now.Before(r.retryAt) {
		if r.lastErr = r.renew(ctx); r.lastErr == nil {
			return r.cur.Load().cert, nil
		}
		r.retryAt = now.Add(r.cfg.Retry)
		r.cfg.Log.Warn("certificate renewal failed", "subject", cur.cert.Leaf.Subject.String(),
			"expires", cur.cert.Leaf.NotAfter, "err", r.lastErr)
	}
	if expired {
		return nil, r.lastErr
	}
	return cur.cert, nil
}

func (r *Rotator) nextTry() time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.retryAt
}

func (r *Rotator) renew(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, renewTimeout)
	defer cancel()
	pair, err := r.cfg.Source(ctx)
	if err != nil {
		return fmt.Errorf("certs: renew: %w", err)
	}
	next, err := newRotated(pair)
	if err != nil {
		return err
	}
	if time.Now().After(next.cert.Leaf.NotAfter) {
		return fmt.Errorf("certs: renew: the new certificate expired at %s", next.cert.Leaf.NotAfter.Format(time.RFC3339))
	}
	r.cur.Store(next)
	r.cfg.Log.Debug("certificate renewed", "subject", next.cert.Leaf.Subject.String(), "expires", next.cert.Leaf.NotAfter)
	r.told.Lock()
	defer r.told.Unlock()
	for _, f := range r.listen {
		f()
	}
	return nil
}
