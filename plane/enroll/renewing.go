package enroll

import (
	"context"
	"crypto/x509"
	"net/http"
	"net/netip"
	"slices"
	"time"

	"copepod/plane/auth/certs"
	"copepod/plane/auth/token/join"
)

// RejoinWindow is how long a machine may be away and still come back with its
// key alone.
const RejoinWindow = 90 * 24 * time.Hour

// renew answers RenewPath. Who asks is proved by the key of the certificate that
// the connection was made with. The certificate may have expired: a machine that
// was off for a week comes back without a new token, because the plane knows its
// key. Nothing has to be written, so renewals go on while the plane cannot write.
func (s *Server) renew(ctx context.Context, r *http.Request, source netip.Addr) (any, *Refusal) {
	now := time.Now()
	leaf, id, refusal := s.member(ctx, r, now)
	if refusal != nil {
		return nil, refusal
	}
	var req renewRequest
	if refusal := decode(r.Body, &req); refusal != nil {
		return nil, refusal
	}
	if refusal := s.checkMachine(req.Version, req.Time, id.Name, now); refusal != nil {
		return nil, refusal
	}
	view := s.cfg.Objects().View()
	if req.Address != id.Address {
		if refusal := s.checkAddress(view, id.Name, req.Address, source); refusal != nil {
			return nil, refusal
		}
		id.Address = req.Address
	}
	client := certs.NodeProfile{Name: id.Name}
	serving := certs.NodeProfile{Name: id.Name, Hosts: []string{id.Address.String()}}
	for csr, profile := range map[*string]certs.NodeProfile{&req.Client: client, &req.Serving: serving} {
		if *csr == "" {
			continue
		}
		parsed, err := certs.CheckNodeCSR([]byte(*csr), profile)
		if err != nil {
			return nil, refuse(CodeRequest, "%.500v", err)
		}
		if !sameKey(parsed.PublicKey, leaf.PublicKey) {
			return nil, refuse(CodeRequest, "certificate request of node %q is of another key than its certificate", id.Name)
		}
	}
	a, refusal := s.certify(id, req.Client, req.Serving)
	if refusal != nil {
		return nil, refusal
	}
	s.note(ctx, id, req, now)
	return a, nil
}

// note remembers when a certificate was issued, and what the machine says of
// itself, if the store takes it.
func (s *Server) note(ctx context.Context, id Identity, req renewRequest, now time.Time) {
	known, over, ok, err := identity(s.cfg.Objects().View(), id.Name)
	if !ok || err != nil || known.Key != id.Key {
		return
	}
	if known.Address == id.Address && known.Ports == req.Ports && known.Release == req.Version && now.Sub(known.Issued) < time.Hour {
		return
	}
	id.Ports, id.Release, id.Issued = req.Ports, req.Version, now.UTC()
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	if err := s.keep(ctx, id, over); err != nil {
		s.log.Info("renewal not noted", "node", id.Name, "err", err)
	}
}

// member finds the machine that a connection is from: its certificate is of our
// CA, if only once, it was not revoked, and it has the key that the machine
// joined with.
func (s *Server) member(ctx context.Context, r *http.Request, now time.Time) (*x509.Certificate, Identity, *Refusal) {
	leaf := certificateOf(r)
	if leaf == nil {
		return nil, Identity{}, refuse(CodeStranger, "no client certificate: only members of the cluster may ask this")
	}
	name, _, isNode := certs.NodeOf(leaf)
	if !isNode || !s.issued(leaf, now) {
		return nil, Identity{}, refuse(CodeStranger, "the client certificate is not that of a member, or it expired more than %d days ago: join anew with `copepod join` and a fresh --data-dir", RejoinWindow/(24*time.Hour))
	}
	if err := s.cfg.Revoked.Check(leaf); err != nil {
		return nil, Identity{}, refuse(CodeRevoked, "%v", err)
	}
	id, _, ok, err := identity(s.cfg.Objects().View(), name)
	if !ok && err == nil { // this plane may be behind
		if fresh := s.cfg.Fresh(ctx); fresh != nil {
			return nil, Identity{}, s.unavailable("store is behind", fresh)
		}
		id, _, ok, err = identity(s.cfg.Objects().View(), name)
	}
	switch {
	case err != nil:
		return nil, Identity{}, s.unavailable("identity cannot be read", err)
	case !ok:
		return nil, Identity{}, refuse(CodeStranger, "node %q is not a member any more: join anew with `copepod join` and a fresh --data-dir", name)
	case id.Key != certs.Hash(leaf):
		return nil, Identity{}, refuse(CodeStranger, "another machine has joined as node %q: join this one anew under another --node-name, with a fresh --data-dir", name)
	}
	return leaf, id, nil
}

// issued tells whether our CA signed a client certificate that is good, or was
// not so long ago. Verify would hold the CA itself to the past, where it may not
// have been yet.
func (s *Server) issued(leaf *x509.Certificate, now time.Time) bool {
	return leaf.CheckSignatureFrom(s.cfg.CA.Certificate()) == nil &&
		len(leaf.UnhandledCriticalExtensions) == 0 &&
		slices.Contains(leaf.ExtKeyUsage, x509.ExtKeyUsageClientAuth) &&
		!now.Before(leaf.NotBefore) && now.Before(leaf.NotAfter.Add(RejoinWindow))
}

// planeKeys answers KeysPath, for planes whose certificate is good today.
func (s *Server) planeKeys(ctx context.Context, r *http.Request, _ netip.Addr) (any, *Refusal) {
	now := time.Now()
	leaf, id, refusal := s.member(ctx, r, now)
	if refusal != nil {
		return nil, refusal
	}
	if _, plane, _ := certs.NodeOf(leaf); !plane || id.Role != join.RolePlane || now.After(leaf.NotAfter) {
		return nil, refuse(CodeStranger, "node %q is not a plane: only machines that joined with a token of --role plane get the keys of the cluster", id.Name)
	}
	keys, err := readKeys(s.cfg.Dir)
	if err != nil {
		return nil, s.unavailable("keys of the plane cannot be read", err)
	}
	s.log.Info("keys handed to a plane", "node", id.Name, "address", id.Address)
	return keys, nil
}
