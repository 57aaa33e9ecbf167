package apiserver

import (
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	apimetrics "k8s.io/apiserver/pkg/endpoints/metrics"
	"k8s.io/component-base/metrics/legacyregistry"

	"copepod/plane/auth/token"
)

// installMetrics shows the library's metrics and ours on one page. Who may look
// is up to RBAC.
func (s *Server) installMetrics() {
	apimetrics.Register()
	gatherers := prometheus.Gatherers{legacyregistry.DefaultGatherer}
	if s.cfg.Metrics != nil {
		gatherers = append(gatherers, s.cfg.Metrics)
	}
	s.generic.Handler.NonGoRestfulMux.Handle("/metrics", promhttp.HandlerFor(gatherers, promhttp.HandlerOpts{
		ErrorHandling:       promhttp.ContinueOnError,
		MaxRequestsInFlight: 4,
	}))
}

// installDiscovery lets others verify our service account tokens (OpenID Connect
// Discovery 1.0).
func (s *Server) installDiscovery() {
	if s.cfg.Issuer == nil {
		return
	}
	keys := "https://" + s.cfg.Advertise.String() + token.JWKSPath
	documents := map[string]struct {
		contentType string
		content     func() ([]byte, error)
	}{
		token.DiscoveryPath: {token.DiscoveryContentType, func() ([]byte, error) { return s.cfg.Issuer.Discovery(keys) }},
		token.JWKSPath:      {token.JWKSContentType, s.cfg.Issuer.JWKS},
	}
	for path, d := range documents {
		s.generic.Handler.NonGoRestfulMux.Handle(path, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method != http.MethodGet && r.Method != http.MethodHead {
				w.WriteHeader(http.StatusMethodNotAllowed)
				return
			}
			content, err := d.content()
			if err != nil {
				http.Error(w, err.Error(), http.StatusInternalServerError)
				return
			}
			w.Header().Set("Content-Type", d.contentType)
			w.Header().Set("Cache-Control", "public, max-age=3600")
			_, _ = w.Write(content) // a client that went away is its own affair
		}))
	}
}
