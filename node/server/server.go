// Package server is the node's HTTPS server: container logs, the pods as this
// node sees them, what they use, health, metrics, and whether another node can be
// reached from here. It lets in whom its Gate lets in (the API server and
// administrators) and bounds everything: requests at once, headers, times. It
// knows HTTP and the questions above; it never learns how a pod runs.
//
//	s, err := server.New(server.Config{Listener: l, TLS: id.ServerTLS(), Gate: id, Pods: manager})
//	err = s.Run(ctx)
package server

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"copepod/node/logs"
	"copepod/node/pods"
)

// Pods answers what is asked about pods. *pods.Manager is one.
type Pods interface {
	Pods() []*v1.Pod
	Usage() []pods.Usage
	ReadLogs(ctx context.Context, out io.Writer, namespace, name, container string, previous bool, opts logs.Options) error
}

// Gate says who a caller is, and whether it may call. *identity.Identity is one.
type Gate interface {
	Caller(conn *tls.ConnectionState) (user string, err error)
	// Member is Caller with the nodes of the cluster let in as well.
	Member(conn *tls.ConnectionState) (user string, err error)
}

// Config configures a Server.
type Config struct {
	Listener net.Listener // told of callers that are let in, if it has a method Know(remote string)
	TLS      *tls.Config
	Gate     Gate
	Node     string // its name
	Pods     Pods
	Images   http.Handler        // what other nodes may fetch under /v2/; nil: nothing
	Healthy  func() error        // nil: always
	Metrics  prometheus.Gatherer // nil: no metrics
	Peers    *x509.CertPool      // that signs what other nodes show; nil: no looks at them
	Requests int                 // at once; 0 = 512
	Log      *slog.Logger
}

// Server serves.
type Server struct {
	cfg   Config
	began time.Time
	know  func(remote string)
	slots chan struct{}
	looks chan struct{} // at other nodes
}

// How long a caller may take for what.
const (
	headerTimeout = 10 * time.Second
	idleTimeout   = 2 * time.Minute
	writeTimeout  = 30 * time.Second // for an answer, or one piece of a log
	imageTimeout  = 5 * time.Minute
	maxHeader     = 16 << 10
)

// New makes a server for a listener, which it owns from now on.
func New(cfg Config) (*Server, error) {
	if cfg.Listener == nil || cfg.TLS == nil || cfg.Gate == nil || cfg.Pods == nil {
		return nil, errors.New("node server: Listener, TLS, Gate and Pods must be given")
	}
	cfg.Requests = cmp.Or(cfg.Requests, 512)
	cfg.Log = cmp.Or(cfg.Log, slog.New(slog.DiscardHandler))
	if cfg.Healthy == nil {
		cfg.Healthy = func() error { return nil }
	}
	know := func(string) {}
	if l, ok := cfg.Listener.(interface{ Know(remote string) }); ok {
		know = l.Know
	}
	return &Server{cfg: cfg, began: time.Now(), know: know, slots: make(chan struct{}, cfg.Requests), looks: make(chan struct{}, looks)}, nil
}

// Run serves until ctx ends; streams are cut then.
func (s *Server) Run(ctx context.Context) error {
	h := &http.Server{
		Handler:           s.routes(),
		TLSConfig:         s.cfg.TLS,
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       headerTimeout, // nobody sends a body
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		BaseContext:       func(net.Listener) context.Context { return ctx },
		ErrorLog:          slog.NewLogLogger(s.cfg.Log.Handler(), slog.LevelDebug),
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	wg.Go(func() {
		<-ctx.Done()
		_ = h.Close()
	})
	if err := h.ServeTLS(s.cfg.Listener, "", ""); err != nil && !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

func (s *Server) routes() http.Handler {
	top := http.NewServeMux()
	mux := http.NewServeMux()
	top.Handle("/", s.guard(s.cfg.Gate.Caller, mux))
	if s.cfg.Images != nil {
		top.Handle("/v2/", s.guard(s.cfg.Gate.Member, http.HandlerFunc(s.images)))
	}
	mux.HandleFunc("GET /containerLogs/{namespace}/{pod}/{container}", s.containerLogs)
	mux.HandleFunc("GET /pods", s.pods)
	mux.HandleFunc("GET /stats/summary", s.summary)
	mux.HandleFunc("GET /healthz", s.healthz)
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok") })
	if s.cfg.Peers != nil {
		mux.HandleFunc("POST /confirm", s.confirm)
	}
	if s.cfg.Metrics != nil {
		mux.Handle("GET /metrics", promhttp.HandlerFor(s.cfg.Metrics, promhttp.HandlerOpts{}))
	}
	return top
}

// guard lets in who may call, and not more of them than there are slots.
func (s *Server) guard(may func(*tls.ConnectionState) (string, error), next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if user, err := may(r.TLS); err != nil {
			s.cfg.Log.Warn("caller refused", "user", user, "remote", r.RemoteAddr, "path", r.URL.Path)
			http.Error(w, err.Error(), http.StatusForbidden)
			return
		}
		s.know(r.RemoteAddr)
		select {
		case s.slots <- struct{}{}:
			defer func() { <-s.slots }()
		default:
			w.Header().Set("Retry-After", "1")
			http.Error(w, "too many requests to this node at once", http.StatusTooManyRequests)
			return
		}
		_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(writeTimeout))
		next.ServeHTTP(w, r)
	})
}

// images hands out modules, which may take longer than an answer.
func (s *Server) images(w http.ResponseWriter, r *http.Request) {
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(imageTimeout))
	s.cfg.Images.ServeHTTP(w, r)
}

func (s *Server) healthz(w http.ResponseWriter, _ *http.Request) {
	if err := s.cfg.Healthy(); err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	_, _ = io.WriteString(w, "ok")
}

func (s *Server) pods(w http.ResponseWriter, r *http.Request) {
	list := v1.PodList{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "PodList"}}
	for _, p := range s.cfg.Pods.Pods() {
		list.Items = append(list.Items, *p)
	}
	s.answer(w, r, list)
}

// answer writes JSON.
func (s *Server) answer(w http.ResponseWriter, r *http.Request, v any) {
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(v); err != nil {
		s.cfg.Log.Debug("answer not written", "path", r.URL.Path, "err", err)
	}
}
