package enroll

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"copepod/plane/auth/certs"
	"copepod/plane/auth/keyfile"
)

// A RenewerConfig says how a machine renews its certificates.
type RenewerConfig struct {
	Version string // our own
	// Servers are API addresses to try before those of the membership, host:port,
	// such as what gossip knows. Nil: none.
	Servers func() []string
	Log     *slog.Logger
}

// A Renewer asks the plane for the next certificates of a machine that is not a
// plane itself. They are for the key that it joined with, which is also what
// proves who it is: a machine that was off for longer than its certificates
// lived comes back by itself, unless it was revoked. Safe for concurrent use.
type Renewer struct {
	cfg RenewerConfig

	mu sync.Mutex // held while asking; guards what follows
	m  *Membership
}

// Renewer returns one for this membership.
func (m *Membership) Renewer(cfg RenewerConfig) *Renewer {
	cfg.Log = cmp.Or(cfg.Log, slog.Default()).With("part", "enroll")
	own := *m // others read theirs while ours changes
	return &Renewer{cfg: cfg, m: &own}
}

// Servers are the API addresses of the planes as they were last heard of.
func (r *Renewer) Servers() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.m.Servers()
}

// Client is a certs.Source for the certificate that the node shows to the API.
func (r *Renewer) Client(ctx context.Context) (certs.Pair, error) {
	return r.renew(ctx, clientCertFile)
}

// Serving is a certs.Source for what the machine shows on its ports.
func (r *Renewer) Serving(ctx context.Context) (certs.Pair, error) {
	return r.renew(ctx, servingFile)
}

// Rotators keep both certificates fresh, from what is on disk; the caller runs
// them. A certificate that has expired already is renewed first.
func (r *Renewer) Rotators(ctx context.Context) (client, serving *certs.Rotator, err error) {
	if client, err = r.rotator(ctx, r.m.ClientPair, r.Client); err != nil {
		return nil, nil, err
	}
	serving, err = r.rotator(ctx, r.m.ServingPair, r.Serving)
	return client, serving, err
}

func (r *Renewer) rotator(ctx context.Context, load func() (certs.Pair, error), next certs.Source) (*certs.Rotator, error) {
	pair, err := load()
	if err != nil {
		return nil, err
	}
	cert, err := certs.ParseCertificate(pair.CertPEM)
	if err != nil {
		return nil, err
	}
	if !time.Now().Before(cert.NotAfter) {
		if pair, err = next(ctx); err != nil {
			return nil, err
		}
	}
	return certs.NewRotator(certs.RotatorConfig{Source: next, Initial: pair, Log: r.cfg.Log})
}

func (r *Renewer) renew(ctx context.Context, file string) (certs.Pair, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	m := r.m
	key, keyPEM, err := certs.NodeKey(m.path(clientKeyFile))
	if err != nil {
		return certs.Pair{}, err
	}
	req := renewRequest{Address: m.Address, Ports: m.Ports, Version: r.cfg.Version, Time: time.Now().UTC()}
	var csr []byte
	if file == clientCertFile {
		csr, err = certs.NewNodeCSR(key, m.Name)
		req.Client = string(csr)
	} else {
		csr, err = certs.NewNodeCSR(key, m.Name, m.Address.String())
		req.Serving = string(csr)
	}
	if err != nil {
		return certs.Pair{}, err
	}
	var a answer
	if err := r.ask(ctx, http.MethodPost, RenewPath, req, &a); err != nil {
		return certs.Pair{}, fmt.Errorf("renewal of the certificate of node %q: %w", m.Name, err)
	}
	caPEM, _, err := certs.ReadTrust(m.TrustDir())
	if err != nil {
		return certs.Pair{}, err
	}
	ca, err := certs.ParseCertificate(caPEM)
	if err != nil {
		return certs.Pair{}, err
	}
	certPEM := []byte(cmp.Or(a.Client, a.Serving))
	if err := a.check(ca, &key.PublicKey, m.Name, m.Address); err != nil || len(certPEM) == 0 {
		return certs.Pair{}, fmt.Errorf("renewal: the answer makes no sense: %w", cmp.Or(err, errors.New("no certificate")))
	}
	if err := keyfile.Write(m.path(file), certPEM); err != nil {
		return certs.Pair{}, fmt.Errorf("renewal: %w", err)
	}
	if len(a.Planes) > 0 {
		m.Planes = a.Planes
		if err := m.Save(); err != nil {
			r.cfg.Log.Warn("planes not kept", "err", err)
		}
	}
	return certs.Pair{CertPEM: certPEM, KeyPEM: keyPEM}, nil
}

// PlaneKeys writes the cluster's keys as they are now into the data directory of
// a plane, and tells whether any had changed.
func (r *Renewer) PlaneKeys(ctx context.Context) (changed bool, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var keys Keys
	if err := r.ask(ctx, http.MethodGet, KeysPath, nil, &keys); err != nil {
		return false, fmt.Errorf("keys of the plane: %w", err)
	}
	if old, err := readKeys(r.m.dir); err == nil && bytes.Equal(old.CA, keys.CA) && bytes.Equal(old.Seal, keys.Seal) && bytes.Equal(old.Tokens, keys.Tokens) {
		return false, nil
	}
	if err := keys.write(r.m.dir); err != nil {
		return false, fmt.Errorf("keys of the plane: %w", err)
	}
	return true, nil
}

// ask goes to the first plane that answers.
func (r *Renewer) ask(ctx context.Context, method, path string, in, out any) error {
	pair, err := r.m.ClientPair()
	if err != nil {
		return err
	}
	_, roots, err := certs.ReadTrust(r.m.TrustDir())
	if err != nil {
		return err
	}
	config, err := memberTLS(roots, pair)
	if err != nil {
		return err
	}
	var servers []string
	if r.cfg.Servers != nil {
		servers = r.cfg.Servers()
	}
	c, err := dialPlanes(ctx, append(servers, r.m.Servers()...), config)
	if err != nil {
		return err
	}
	defer c.close()
	return c.ask(ctx, method, path, in, out)
}
