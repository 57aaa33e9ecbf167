package enroll

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/validation"

	"copepod/plane/auth/certs"
	"copepod/plane/auth/token/join"
	"copepod/plane/controllers/api"
)

// spendTries bounds how often a use of a token is taken again because another
// plane took one in the same instant.
const spendTries = 20

// join answers JoinPath. The order is: who asks, then what for, then the use of
// the token, and only then a signature.
func (s *Server) join(ctx context.Context, r *http.Request, source netip.Addr) (any, *Refusal) {
	var req joinRequest
	if refusal := decode(r.Body, &req); refusal != nil {
		return nil, refusal
	}
	if err := s.cfg.Fresh(ctx); err != nil {
		return nil, s.unavailable("store is behind", err)
	}
	now := time.Now()
	rec, _, refusal := s.token(req.TokenID, req.Secret, now)
	if refusal != nil {
		return nil, refusal
	}
	// From here on the joiner is trusted with reasons.
	if refusal := s.checkMachine(req.Version, req.Time, req.Name, now); refusal != nil {
		return nil, refusal
	}
	view := s.cfg.Objects().View()
	if refusal := s.checkAddress(view, req.Name, req.Address, source); refusal != nil {
		return nil, refusal
	}
	client := certs.NodeProfile{Name: req.Name, Plane: rec.Role == join.RolePlane}
	serving := client
	serving.Hosts = []string{req.Address.String()}
	key, refusal := s.checkRequests(req.Client, req.Serving, client, serving)
	if refusal != nil {
		return nil, refusal
	}
	over, same, known, refusal := s.taken(view, req.Name, key, now)
	if refusal != nil {
		return nil, refusal
	}
	// The answer to a machine may have been lost on its way: the same key with
	// the same token is the same join, and costs no further use.
	if !same || known.TokenID != req.TokenID {
		if rec, refusal = s.spend(ctx, req.TokenID, req.Secret); refusal != nil {
			return nil, refusal
		}
	}
	id := Identity{
		Name: req.Name, Role: rec.Role, Key: key, Address: req.Address, Ports: req.Ports,
		Release: req.Version, TokenID: req.TokenID, Joined: now.UTC(), Issued: now.UTC(),
	}
	if id.Role != join.RolePlane { // it said where it would listen before it knew
		id.Ports.Peer = 0
	}
	switch err := s.keep(ctx, id, over); {
	case apierrors.IsAlreadyExists(err) || apierrors.IsConflict(err):
		return nil, refuse(CodeTaken, "node name %q was taken by another machine in this instant: give this machine another with --node-name", req.Name)
	case err != nil:
		return nil, s.unavailable("identity not stored", err)
	}
	a, refusal := s.certify(id, req.Client, req.Serving)
	if refusal != nil {
		return nil, refusal
	}
	if refusal := s.addKeys(view, a); refusal != nil {
		return nil, refusal
	}
	s.log.Info("machine joined", "node", id.Name, "role", id.Role, "address", id.Address, "token", id.TokenID, "key", id.Key)
	return a, nil
}

// token finds the record of a token whose secret the caller knows.
func (s *Server) token(id, secret string, now time.Time) (join.Record, *corev1.Secret, *Refusal) {
	unknown := refuse(CodeUnknown, "%v", join.ErrUnknown)
	if !join.ValidID(id) {
		return join.Record{}, nil, unknown
	}
	if s.limits.locked(id, now) {
		return join.Record{}, nil, refuse(CodeLocked, "join token %s is locked for %s, because its secret was wrong too often: make a new one with `copepod token create`", id, lockTime)
	}
	obj, ok := s.cfg.Objects().View().Get(api.Secrets, Namespace, TokenPrefix+id)
	secretObj, isSecret := obj.(*corev1.Secret)
	if !ok || !isSecret {
		return join.Record{}, nil, unknown
	}
	rec, err := recordOf(secretObj)
	if err != nil {
		s.log.Error("join token cannot be read", "token", id, "err", err)
		return join.Record{}, nil, unknown
	}
	if !rec.Authentic(secret) {
		s.limits.wrongSecret(id, now)
		return join.Record{}, nil, unknown
	}
	return rec, secretObj, nil
}

// recordOf reads the record in a token's Secret.
func recordOf(secret *corev1.Secret) (join.Record, error) {
	if secret.Type != TokenType {
		return join.Record{}, fmt.Errorf("secret %s has type %q, want %q", secret.Name, secret.Type, TokenType)
	}
	rec, err := join.DecodeRecord(secret.Data[tokenField])
	if err == nil && TokenPrefix+rec.ID != secret.Name {
		err = fmt.Errorf("secret %s is about token %q", secret.Name, rec.ID)
	}
	return rec, err
}

// spend takes one use of a token, and returns the record with it taken.
func (s *Server) spend(ctx context.Context, id, secret string) (join.Record, *Refusal) {
	s.spending.Lock() // machines that share a token would only conflict
	defer s.spending.Unlock()
	for range spendTries {
		rec, over, refusal := s.token(id, secret, time.Now())
		if refusal != nil {
			return rec, refusal
		}
		rec, err := rec.Spend(secret, time.Now())
		if err != nil {
			return rec, tokenRefusal(err)
		}
		next := over.DeepCopy()
		if next.Data[tokenField], err = rec.Encode(); err != nil {
			return rec, s.unavailable("join token not stored", err)
		}
		_, err = s.cfg.Objects().Update(ctx, next) // only over the version that was read
		if err == nil {
			return rec, nil
		}
		if !apierrors.IsConflict(err) && !apierrors.IsNotFound(err) {
			return rec, s.unavailable("join token not stored", err)
		}
		if err := s.cfg.Fresh(ctx); err != nil {
			return rec, s.unavailable("store is behind", err)
		}
	}
	return join.Record{}, refuse(CodeSlower, "too many machines use this token at once: try again in a few seconds")
}

func tokenRefusal(err error) *Refusal {
	switch {
	case errors.Is(err, join.ErrExpired):
		return refuse(CodeExpired, "%v", err)
	case errors.Is(err, join.ErrUsedUp):
		return refuse(CodeUsedUp, "%v", err)
	}
	return refuse(CodeUnknown, "%v", err)
}

// checkRequests judges both certificate requests before anything is spent on
// them, and returns the hash of their one key.
func (s *Server) checkRequests(client, serving string, asClient, asServer certs.NodeProfile) (string, *Refusal) {
	a, err1 := certs.CheckNodeCSR([]byte(client), asClient)
	b, err2 := certs.CheckNodeCSR([]byte(serving), asServer)
	if err := errors.Join(err1, err2); err != nil {
		return "", refuse(CodeRequest, "%.500v", err)
	}
	if !sameKey(a.PublicKey, b.PublicKey) {
		return "", refuse(CodeRequest, "the two certificate requests of node %q are of different keys", asClient.Name)
	}
	return s.checkKey(a.PublicKey)
}

func (s *Server) checkKey(pub any) (string, *Refusal) {
	hash, err := certs.KeyHash(pub)
	if err != nil {
		return "", refuse(CodeRequest, "%.200v", err)
	}
	if err := s.cfg.Revoked.CheckKey(hash); err != nil {
		return "", refuse(CodeRevoked, "%v", err)
	}
	return hash, nil
}

func sameKey(a, b any) bool {
	x, err1 := certs.KeyHash(a)
	y, err2 := certs.KeyHash(b)
	return err1 == nil && err2 == nil && x == y
}

// certify signs what was checked. Empty requests are not asked for.
func (s *Server) certify(id Identity, client, serving string) (*answer, *Refusal) {
	plane := id.Role == join.RolePlane
	a := &answer{Role: id.Role, Name: id.Name, CA: string(s.cfg.CA.PEM()), Planes: s.cfg.Planes(), Settings: s.cfg.Settings}
	for _, c := range []struct {
		csr     string
		profile certs.NodeProfile
		to      *string
	}{
		{client, certs.NodeProfile{Name: id.Name, Plane: plane}, &a.Client},
		{serving, certs.NodeProfile{Name: id.Name, Plane: plane, Hosts: []string{id.Address.String()}}, &a.Serving},
	} {
		if c.csr == "" {
			continue
		}
		signed, err := s.cfg.CA.SignNode([]byte(c.csr), c.profile)
		if err != nil {
			return nil, refuse(CodeRequest, "%.500v", err)
		}
		cert, err := certs.ParseCertificate(signed)
		if err != nil {
			return nil, s.unavailable("certificate cannot be read", err)
		}
		if err := s.cfg.Revoked.Check(cert); err != nil {
			// Issuing times have whole seconds: in a moment it will be later.
			return nil, refuse(CodeUnavailable, "node %q was revoked a moment ago: try again in a few seconds", id.Name)
		}
		*c.to = string(signed)
	}
	return a, nil
}

// addKeys adds what only a join brings.
func (s *Server) addKeys(view api.View, a *answer) *Refusal {
	ring, _, err := ringOf(view)
	if errors.Is(err, errNoRing) { // no leader has stored it yet: ours is what it will store
		ring, err = OpenRing(s.cfg.Dir)
	}
	if err != nil {
		return s.unavailable("gossip keys cannot be read", err)
	}
	a.Gossip = &ring
	if a.Role != join.RolePlane {
		return nil
	}
	if a.Keys, err = readKeys(s.cfg.Dir); err != nil {
		return s.unavailable("keys of the plane cannot be read", err)
	}
	return nil
}

// unavailable logs what a stranger need not know.
func (s *Server) unavailable(what string, err error) *Refusal {
	s.log.Warn(what, "err", err)
	return refuse(CodeUnavailable, "the plane cannot do this now (%s): try again in a few seconds", what)
}

// certificateOf is what a machine showed at the handshake, which proved that it
// has the key.
func certificateOf(r *http.Request) *x509.Certificate {
	if r.TLS == nil || len(r.TLS.PeerCertificates) == 0 {
		return nil
	}
	return r.TLS.PeerCertificates[0]
}

// checkName holds a name to what a Node may have.
func checkName(name string) *Refusal {
	if len(name) > maxName {
		return refuse(CodeName, "node name %.80q has more than %d characters: give another with --node-name", name, maxName)
	}
	if errs := validation.IsDNS1123Subdomain(name); len(errs) > 0 {
		return refuse(CodeName, "node name %.80q: %s; give another with --node-name", name, errs[0])
	}
	return nil
}
