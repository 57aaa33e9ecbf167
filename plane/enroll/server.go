package enroll

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/time/rate"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"copepod/plane/auth/certs"
	"copepod/plane/auth/revoke"
	"copepod/plane/controllers/api"
)

// Objects is what the server asks of the API in its process, as the API server
// itself.
type Objects interface {
	View() api.View
	Watch(ctx context.Context, gr schema.GroupResource, from uint64) (<-chan []api.Event, error)
	Create(ctx context.Context, obj api.Object) (api.Object, error)
	Update(ctx context.Context, obj api.Object) (api.Object, error)
	Delete(ctx context.Context, gr schema.GroupResource, namespace, name string, opts metav1.DeleteOptions) error
}

// ServerConfig configures a Server. Dir, CA, Objects and Planes are required.
type ServerConfig struct {
	Dir string // data directory: the keys that planes get are in it
	CA  *certs.CA
	// Objects is asked for at the first request, when the API is built.
	Objects func() Objects
	// Fresh returns when views hold every write that was acknowledged before.
	// Nil: they do.
	Fresh func(context.Context) error
	// Planes are the machines that serve the API now, this one included.
	Planes   func() []Member
	Settings Settings
	// Raft tells of each member of the store whether it is "voter" or "nonvoter".
	// Keep shows it on the Nodes. Nil: nothing is shown.
	Raft func() map[string]string
	// Revoked is kept up to date by Run. Nil: a list of its own.
	Revoked    *revoke.List
	Version    string // our own, as v1.2.3
	Registerer prometheus.Registerer
	Log        *slog.Logger
}

// A Server takes machines in, on every plane.
type Server struct {
	cfg     ServerConfig
	log     *slog.Logger
	paths   *http.ServeMux
	limits  *limits
	lines   *rate.Limiter // of refusals in the log: strangers decide how many there are
	answers *prometheus.CounterVec

	bodyTimeout time.Duration
	spending    sync.Mutex // a token's uses are taken one after the other
}

// NewServer checks the configuration.
func NewServer(cfg ServerConfig) (*Server, error) {
	if cfg.Dir == "" || cfg.CA == nil || cfg.Objects == nil || cfg.Planes == nil {
		return nil, errors.New("enroll: config: Dir, CA, Objects and Planes are needed")
	}
	if cfg.Fresh == nil {
		cfg.Fresh = func(context.Context) error { return nil }
	}
	cfg.Revoked = cmp.Or(cfg.Revoked, &revoke.List{})
	s := &Server{
		cfg: cfg, log: cmp.Or(cfg.Log, slog.Default()).With("part", "enroll"),
		paths: http.NewServeMux(), limits: newLimits(), lines: rate.NewLimiter(rate.Every(time.Second), 20),
		answers: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "copepod_enroll_answers_total", Help: "Requests of machines to join, renew or get keys, by outcome.",
		}, []string{"request", "outcome"}),
		bodyTimeout: bodyTimeout,
	}
	s.paths.Handle(JoinPath, s.handle(http.MethodPost, "join", s.join))
	s.paths.Handle(RenewPath, s.handle(http.MethodPost, "renew", s.renew))
	s.paths.Handle(KeysPath, s.handle(http.MethodGet, "plane-keys", s.planeKeys))
	if cfg.Registerer != nil {
		if err := cfg.Registerer.Register(s.answers); err != nil {
			return nil, fmt.Errorf("enroll: metrics: %w", err)
		}
	}
	return s, nil
}

// Revoked is the list that Run keeps up to date.
func (s *Server) Revoked() *revoke.List { return s.cfg.Revoked }

// Front answers requests under Prefix, turns revoked machines away before
// anything else looks at them, and ends their watches when they are revoked. The
// rest goes to next.
func (s *Server) Front(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, Prefix) {
			s.paths.ServeHTTP(w, r)
			return
		}
		if r.TLS == nil || len(r.TLS.PeerCertificates) == 0 {
			next.ServeHTTP(w, r)
			return
		}
		leaf := r.TLS.PeerCertificates[0]
		if _, _, node := certs.NodeOf(leaf); !node {
			next.ServeHTTP(w, r)
			return
		}
		ctx, release, err := s.cfg.Revoked.Hold(r.Context(), leaf)
		if err != nil {
			unauthorized(w, err)
			return
		}
		defer release()
		next.ServeHTTP(w, r.WithContext(ctx))
	})
}

// causeRevoked tells a machine that it was put out from other reasons for a 401.
const causeRevoked metav1.CauseType = "copepod.dev/revoked"

// unauthorized answers as the API does.
func unauthorized(w http.ResponseWriter, err error) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusUnauthorized)
	_ = json.NewEncoder(w).Encode(metav1.Status{ // whoever went away is its own affair
		TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"},
		Status:   metav1.StatusFailure, Message: err.Error(),
		Reason: metav1.StatusReasonUnauthorized, Code: http.StatusUnauthorized,
		Details: &metav1.StatusDetails{Causes: []metav1.StatusCause{{Type: causeRevoked, Message: err.Error()}}},
	})
}

// Run keeps the list of revoked machines as the store has it, until ctx ends.
func (s *Server) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		view := s.cfg.Objects().View()
		events, err := s.cfg.Objects().Watch(ctx, api.ConfigMaps, view.Revision())
		if err != nil {
			return fmt.Errorf("enroll: %w", err)
		}
		obj, _ := view.Get(api.ConfigMaps, Namespace, RevokedName)
		s.setRevoked(obj)
		for batch := range events {
			for _, e := range batch {
				if e.Object.GetName() == RevokedName && e.Object.GetNamespace() == Namespace {
					s.setRevoked(e.Object)
				}
			}
		}
	}
	return nil
}

// setRevoked takes over what is stored. A list that cannot be read changes
// nothing: those who were out stay out.
func (s *Server) setRevoked(obj api.Object) {
	cm, ok := obj.(*corev1.ConfigMap)
	if !ok {
		return
	}
	entries, err := entriesOf(cm)
	if err != nil {
		s.log.Error("list of revoked nodes cannot be read", "err", err)
		return
	}
	// One that was deleted and made again must not let anybody in.
	if entries.Sequence < s.cfg.Revoked.Entries().Sequence {
		s.log.Error("list of revoked nodes went back", "sequence", entries.Sequence, "want", s.cfg.Revoked.Entries().Sequence)
		return
	}
	s.cfg.Revoked.Set(entries)
}

// revokedIn is the list as the store has it.
func revokedIn(view api.View) (revoke.Entries, error) {
	obj, ok := view.Get(api.ConfigMaps, Namespace, RevokedName)
	cm, isMap := obj.(*corev1.ConfigMap)
	if !ok || !isMap {
		return revoke.Entries{}, nil
	}
	return entriesOf(cm)
}

func entriesOf(cm *corev1.ConfigMap) (revoke.Entries, error) {
	if cm.Data[revokedField] == "" {
		return revoke.Entries{}, nil
	}
	return revoke.Decode([]byte(cm.Data[revokedField]))
}
