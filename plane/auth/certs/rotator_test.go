package certs_test

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"copepod/plane/auth/certs"
)

// issuing counts what it issues, with a life of three hours, and can be told to
// fail.
type issuing struct {
	ca    *certs.CA
	count atomic.Int64
	fail  atomic.Bool
}

func (s *issuing) next(context.Context) (certs.Pair, error) {
	if s.fail.Load() {
		return certs.Pair{}, errors.New("plane is away")
	}
	s.count.Add(1)
	return s.ca.Issue(certs.Request{CommonName: "n", Server: true, Hosts: []string{"localhost"}, Lifetime: 3 * time.Hour})
}

func newRotator(t *testing.T) (*certs.Rotator, *issuing) {
	src := &issuing{ca: newCA(t)}
	r, err := certs.NewRotator(certs.RotatorConfig{Source: src.next, Retry: time.Minute, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return r, src
}

func present(r *certs.Rotator) (*tls.Certificate, error) {
	return r.GetCertificate(&tls.ClientHelloInfo{})
}

func TestHandshakeRenewsAtTwoThirdsOfTheLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, src := newRotator(t)
		for _, step := range []struct {
			wait time.Duration
			want int64
		}{{0, 1}, {110 * time.Minute, 1}, {15 * time.Minute, 2}, {time.Minute, 2}, {3 * time.Hour, 3}} {
			time.Sleep(step.wait)
			cert, err := present(r)
			if err != nil || time.Now().After(cert.Leaf.NotAfter) {
				t.Fatalf("after %s: got %v, want a valid certificate", step.wait, err)
			}
			if got := src.count.Load(); got != step.want {
				t.Errorf("after %s: got %d issued, want %d", step.wait, got, step.want)
			}
		}
	})
}

func TestFailedRenewalKeepsTheOldCertificateToItsEndAndIsRetried(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, src := newRotator(t)
		src.fail.Store(true)
		time.Sleep(150 * time.Minute)
		if _, err := present(r); err != nil {
			t.Fatalf("old certificate still valid: got %v", err)
		}
		time.Sleep(time.Hour)
		if _, err := present(r); err == nil {
			t.Error("certificate expired: got it, want the error of the source")
		}
		src.fail.Store(false)
		if _, err := present(r); err == nil {
			t.Error("within the pause after a failure: got a certificate, want no new attempt")
		}
		time.Sleep(2 * time.Minute)
		if _, err := present(r); err != nil {
			t.Errorf("source is back: got %v, want a new certificate", err)
		}
	})
}

func TestRunRenewsWithoutHandshakes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, src := newRotator(t)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- r.Run(ctx) }()
		time.Sleep(24 * time.Hour)
		synctest.Wait()
		cert, err := r.Pair().TLS()
		if err != nil || time.Now().After(cert.Leaf.NotAfter) {
			t.Errorf("a day later: got %v, want a valid certificate", err)
		}
		if got := src.count.Load(); got < 8 || got > 13 {
			t.Errorf("got %d certificates in a day, want one every two hours", got)
		}
		cancel()
		if err := <-done; err != nil {
			t.Errorf("got %v, want nil when stopped", err)
		}
	})
}

func TestManyHandshakesAtOnceRenewOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, src := newRotator(t)
		for _, wait := range []time.Duration{140 * time.Minute, 24 * time.Hour} { // due, then expired
			before := src.count.Load()
			time.Sleep(wait)
			var wg sync.WaitGroup
			for range 32 {
				wg.Go(func() {
					if _, err := present(r); err != nil {
						t.Error(err)
					}
				})
			}
			wg.Wait()
			if got := src.count.Load() - before; got != 1 {
				t.Errorf("after %s: got %d renewals, want 1", wait, got)
			}
		}
	})
}

func TestRotatorRefusesASourceOfExpiredCertificates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pair, err := newCA(t).Client("n", nil)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(certs.ClientLifetime + time.Hour)
		_, err = certs.NewRotator(certs.RotatorConfig{Source: func(context.Context) (certs.Pair, error) { return pair, nil }})
		if err == nil {
			t.Error("got a rotator, want an error")
		}
	})
}
