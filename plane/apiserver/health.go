package apiserver

import (
	"context"
	"errors"
	"net/http"
	"time"

	genericapiserver "k8s.io/apiserver/pkg/server"
	"k8s.io/apiserver/pkg/server/healthz"
)

var errBootstrapping = errors.New("namespaces and default policy are not written yet")

// addChecks shows at /readyz why we are not ready. /livez asks none of it: a
// restart would mend neither storage nor a missing leader.
func (s *Server) addChecks(c *genericapiserver.Config) {
	named := func(name string, check func() error) healthz.HealthChecker {
		return healthz.NamedCheck(name, func(*http.Request) error { return check() })
	}
	c.AddReadyzChecks(named("store", s.cfg.Health))
	if s.cfg.Leader != nil {
		c.AddReadyzChecks(named("leader", s.cfg.Leader))
	}
	c.AddReadyzChecks(named("bootstrap", func() error {
		select {
		case <-s.bootstrapped:
			return nil
		default:
			return errBootstrapping
		}
	}))
	c.AddPostStartHookOrDie("copepod-listening", func(genericapiserver.PostStartHookContext) error {
		close(s.listening)
		return nil
	})
}

// awaitReady closes Ready when everything that a request needs is there.
func (s *Server) awaitReady(ctx context.Context) {
	select {
	case <-s.listening:
	case <-ctx.Done():
		return
	}
	close(s.bootstrapped)
	for s.unready() != nil {
		select {
		case <-ctx.Done():
			return
		case <-time.After(20 * time.Millisecond):
		}
	}
	close(s.ready)
	s.cfg.Log.Info("api is ready", "address", s.cfg.Advertise.String())
}

func (s *Server) unready() error {
	if err := s.cfg.Health(); err != nil {
		return err
	}
	if s.cfg.Leader != nil {
		return s.cfg.Leader()
	}
	return nil
}
