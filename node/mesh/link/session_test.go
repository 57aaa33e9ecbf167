package link

import (
	"crypto/x509"
	"errors"
	"testing"
	"time"
)

func TestASessionEndsWithItsCertificateUnlessItsNodeHasShownAnother(t *testing.T) {
	now := time.Now()
	s := &session{
		link: &Link{cfg: Config{Silence: time.Hour, Revoked: func(*x509.Certificate) bool { return false }}},
		peer: &peer{proven: now.Add(time.Minute)},
		cert: &x509.Certificate{}, wire: newWire(nil, nil, 0),
	}
	if err := s.verdict(now, now); err != nil {
		t.Errorf("got %v of a session that is proven", err)
	}
	later := now.Add(2 * time.Minute)
	if err := s.verdict(later, later); !errors.Is(err, errExpired) {
		t.Errorf("got %v after the certificate's end, want %v", err, errExpired)
	}
	s.peer.proven = now.Add(time.Hour) // a newer session proved it
	if err := s.verdict(later, later); err != nil {
		t.Errorf("got %v of a node that has proven itself anew", err)
	}
	if err := s.verdict(later, now); !errors.Is(err, errUnknown) {
		t.Errorf("got %v of a node that has not been in the list for long, want %v", err, errUnknown)
	}
	s.link.cfg.Revoked = func(*x509.Certificate) bool { return true }
	if err := s.verdict(now, now); !errors.Is(err, errRevoked) {
		t.Errorf("got %v of a revoked certificate, want %v", err, errRevoked)
	}
}
