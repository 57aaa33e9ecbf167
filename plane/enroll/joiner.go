package enroll

import (
	"cmp"
	"context"
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"path/filepath"
	"slices"
	"time"

	"copepod/plane/auth/certs"
	"copepod/plane/auth/keyfile"
	"copepod/plane/auth/token/join"
)

// patience bounds how long Join tries again what passes, such as a plane that is
// electing a leader.
const patience = time.Minute

// A Request says who wants to join which cluster.
type Request struct {
	Dir     string     // data directory, 0700; the caller holds its lock
	Server  string     // HOST or HOST:PORT of any member's API
	Token   string     // as it was pasted
	Name    string     // of the node
	Bind    netip.Addr // the address to come from; zero or unspecified: the one that leads to Server
	Address netip.Addr // under which others reach the machine; zero: that
	Ports   Ports
	Version string // our own, as v1.2.3
	Log     *slog.Logger
}

// Join makes the machine a member and keeps its membership in Dir. A directory
// that joined the same cluster before is left as it is, so the same line may be
// run again at any time, also after a crash at any point. Errors of the other
// side are a *Refusal; every error says what to do.
func Join(ctx context.Context, req Request) (*Membership, error) {
	tok, err := join.Parse(req.Token)
	if err != nil {
		return nil, err
	}
	server, err := ParseServer(req.Server)
	if err != nil {
		return nil, err
	}
	if m, err := Load(req.Dir); err == nil {
		if m.Cluster != tok.Pin {
			return nil, fmt.Errorf("data directory %s %w", req.Dir, ErrOtherCluster)
		}
		return m, nil
	} else if !errors.Is(err, ErrNoMembership) {
		return nil, err
	}
	if ownsCluster(req.Dir) && !ownsPinned(req.Dir, tok.Pin) {
		return nil, fmt.Errorf("data directory %s %w", req.Dir, ErrOwnCluster)
	}
	key, _, err := certs.NodeKey(filepath.Join(req.Dir, filepath.FromSlash(clientKeyFile)))
	if err != nil {
		return nil, err
	}
	j := &joiner{Request: req, token: tok, key: key, log: cmp.Or(req.Log, slog.Default())}
	return j.run(ctx, server)
}

// ownsPinned tells whether the CA key here is the token's cluster's: then a join
// as a plane was interrupted while it wrote its files.
func ownsPinned(dir, pin string) bool {
	ca, err := certs.LoadOrCreateCA(filepath.Join(dir, pkiDir))
	return err == nil && ca.Hash() == pin
}

type joiner struct {
	Request
	token join.Token
	key   *ecdsa.PrivateKey
	log   *slog.Logger
}

// run asks the server, those that it names instead, and again while the refusal
// is one that passes.
func (j *joiner) run(ctx context.Context, server string) (*Membership, error) {
	limit, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for pause := time.Second; ; pause = min(2*pause, 8*time.Second) {
		m, err := j.once(limit, server)
		var refusal *Refusal
		if errors.As(err, &refusal) && refusal.Code == CodeIndirect {
			m, err = j.elsewhere(limit, refusal)
		}
		if err == nil {
			return m, nil
		}
		if !errors.As(err, &refusal) || !refusal.Passes() {
			return nil, err
		}
		j.log.Info("join is tried again", "server", server, "reason", refusal.Code)
		select {
		case <-limit.Done():
			return nil, cmp.Or(ctx.Err(), err)
		case <-time.After(pause):
		}
	}
}

// elsewhere tries the planes themselves, after a member that only passes
// connections on hid our address.
func (j *joiner) elsewhere(ctx context.Context, refusal *Refusal) (*Membership, error) {
	var failed error = refusal
	for i, server := range refusal.Servers {
		if i == maxPlanes {
			break
		}
		m, err := j.once(ctx, server)
		var again *Refusal
		if err == nil || errors.As(err, &again) && again.Code != CodeIndirect {
			return m, err
		}
		failed = err
	}
	return nil, failed
}

func (j *joiner) once(ctx context.Context, server string) (*Membership, error) {
	config := j.token.TLS()
	c, err := connect(ctx, server, j.Bind, config)
	if err != nil {
		return nil, err
	}
	defer c.close()
	ca, err := j.token.VerifyChain(c.conn.ConnectionState().PeerCertificates, time.Now())
	if err != nil {
		return nil, err
	}
	address := j.Address
	if !address.IsValid() {
		address = c.address()
	}
	client, err1 := certs.NewNodeCSR(j.key, j.Name)
	serving, err2 := certs.NewNodeCSR(j.key, j.Name, address.String())
	if err := errors.Join(err1, err2); err != nil {
		return nil, err
	}
	var a answer
	err = c.ask(ctx, http.MethodPost, JoinPath, joinRequest{
		TokenID: j.token.ID, Secret: j.token.Secret, Name: j.Name,
		Client: string(client), Serving: string(serving),
		Address: address, Ports: j.Ports, Version: j.Version, Time: time.Now().UTC(),
	}, &a)
	if err != nil {
		return nil, err
	}
	if err := a.check(ca, &j.key.PublicKey, j.Name, address); err != nil {
		return nil, fmt.Errorf("server %s: its answer makes no sense: %w", server, err)
	}
	if a.Gossip == nil || (a.Role == join.RolePlane) != (a.Keys != nil) {
		return nil, fmt.Errorf("server %s: its answer lacks keys", server)
	}
	if a.Role != join.RolePlane {
		j.Ports.Peer = 0
	}
	m := &Membership{
		Role: a.Role, Name: a.Name, Address: address, Ports: j.Ports, Cluster: j.token.Pin,
		Planes: a.Planes, Settings: a.Settings, Joined: time.Now().UTC(), dir: j.Dir,
	}
	return m, m.keep(&a, ca)
}

// keep writes what came with the answer; cluster.json is the last, so that a
// membership is whole or not there.
func (m *Membership) keep(a *answer, ca *x509.Certificate) error {
	caPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.Raw})
	err := errors.Join(
		keyfile.Write(m.path(pkiDir+"/"+certs.CACertFile), caPEM),
		keyfile.Write(m.path(clientCertFile), []byte(a.Client)),
		keyfile.Write(m.path(servingFile), []byte(a.Serving)),
		saveRing(m.dir, *a.Gossip),
	)
	if err == nil && a.Keys != nil {
		err = a.Keys.write(m.dir)
	}
	if err != nil {
		return fmt.Errorf("membership: %w", err)
	}
	return m.Save()
}

// check holds an answer against what was asked for. The server is the cluster's
// own, so this finds faults, not attacks.
func (a *answer) check(ca *x509.Certificate, key *ecdsa.PublicKey, name string, address netip.Addr) error {
	if a.Name != name {
		return fmt.Errorf("it is about node %q, not %q", a.Name, name)
	}
	if a.Role != join.RoleNode && a.Role != join.RolePlane {
		return fmt.Errorf("role %q is unknown", a.Role)
	}
	if len(a.Planes) > maxPlanes {
		return fmt.Errorf("%d planes", len(a.Planes))
	}
	roots := x509.NewCertPool()
	roots.AddCert(ca)
	for _, c := range []struct {
		pem   string
		usage x509.ExtKeyUsage
		host  string
	}{{a.Client, x509.ExtKeyUsageClientAuth, ""}, {a.Serving, x509.ExtKeyUsageServerAuth, address.String()}} {
		if c.pem == "" {
			continue
		}
		cert, err := certs.ParseCertificate([]byte(c.pem))
		if err != nil {
			return err
		}
		if _, err := cert.Verify(x509.VerifyOptions{Roots: roots, KeyUsages: []x509.ExtKeyUsage{c.usage}, DNSName: c.host}); err != nil {
			return err
		}
		if got, _, ok := certs.NodeOf(cert); !ok || got != name || !key.Equal(cert.PublicKey) {
			return errors.New("a certificate is for another machine")
		}
	}
	return nil
}

// dialPlanes connects to the first of the servers that answers.
func dialPlanes(ctx context.Context, servers []string, config *tls.Config) (*contact, error) {
	failed := errors.New("no server is known")
	for _, s := range slices.Compact(servers) {
		c, err := connect(ctx, s, netip.Addr{}, config.Clone())
		if err == nil {
			return c, nil
		}
		failed = err
	}
	return nil, failed
}
