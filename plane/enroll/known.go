package enroll

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"copepod/plane/auth/token/join"
	"copepod/plane/controllers/api"
)

// Known are the machines that may be members, by name. One whose Secret cannot
// be read is left out.
func Known(view api.View) map[string]Identity {
	all := map[string]Identity{}
	for obj := range view.List(api.Secrets, Namespace) {
		secret, ok := obj.(*corev1.Secret)
		if !ok || secret.Type != IdentityType {
			continue
		}
		if id, err := decodeIdentity(secret); err == nil {
			all[id.Name] = id
		}
	}
	return all
}

// Announce makes a plane known that did not join by a token, because it began
// the cluster: others find it by this when it was away.
func (s *Server) Announce(ctx context.Context, m Member) error {
	now := time.Now().UTC()
	id := Identity{Name: m.Name, Role: join.RolePlane, Address: m.Address, Ports: m.Ports, Release: s.cfg.Version, Joined: now, Issued: now}
	view := s.cfg.Objects().View()
	old, over, ok, err1 := identity(view, m.Name)
	revoked, err2 := revokedIn(view) // of the same moment
	if err := errors.Join(err1, err2); err != nil {
		return fmt.Errorf("announce: %w", err)
	}
	// One that was put out forgot its membership: it must not make itself a new one.
	if _, out := revoked.Find(m.Name); out && !ok {
		return fmt.Errorf("announce: node %q was revoked", m.Name)
	}
	// The record of a node has the node's key: that must not become a plane's.
	if ok && old.Role != join.RolePlane {
		return fmt.Errorf("announce: another machine, which is no plane, has joined as %q", m.Name)
	}
	if ok {
		if old.Address == m.Address && old.Ports == m.Ports && now.Sub(old.Issued) < sweepInterval {
			return nil
		}
		id.Key, id.TokenID, id.Joined = old.Key, old.TokenID, old.Joined
	}
	if err := s.keep(ctx, id, over); err != nil && !apierrors.IsConflict(err) && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("announce: %w", err)
	}
	return nil
}
