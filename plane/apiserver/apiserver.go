// Package apiserver is the Kubernetes API of Copepod: k8s.io/apiserver as a
// library over our own storage, with the kinds of its table, RBAC, admission and
// an in-process client. It knows requests and objects; it never learns how
// storage replicates, or what controllers and nodes do with what it keeps.
//
//	server, err := apiserver.New(apiserver.Config{Store: …, Listener: …})
//	go server.Run(ctx) // blocks; returns after the last request
//	<-server.Ready()
//	pods := server.Local().View().List(corev1.Resource("pods"), "default")
//
// The rooms: kinds (the table and its storages), scheme (Go types and codecs),
// defaults, validation and columns (pure tables), admission, services (cluster
// IPs and node ports), reviews (who am I, may I), local (the in-process client),
// openapi (generated schemas).
package apiserver

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"sync"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/endpoints/openapi"
	genericapirequest "k8s.io/apiserver/pkg/endpoints/request"
	genericapiserver "k8s.io/apiserver/pkg/server"
	"k8s.io/apiserver/pkg/util/feature"

	"copepod/plane/apiserver/kinds"
	"copepod/plane/apiserver/local"
	generated "copepod/plane/apiserver/openapi"
	"copepod/plane/apiserver/reviews"
	"copepod/plane/apiserver/scheme"
	"copepod/plane/apiserver/services"
)

// Server serves the API.
type Server struct {
	cfg      Config
	generic  *genericapiserver.GenericAPIServer
	objects  objects
	local    *local.Client
	services *services.Allocator
	// listening, bootstrapped and ready close in this order, or the first two in
	// the other.
	listening, bootstrapped, ready chan struct{}
}

// New builds a server that does not yet listen to anybody.
func New(cfg Config) (*Server, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	s := &Server{
		cfg:       cfg,
		listening: make(chan struct{}), bootstrapped: make(chan struct{}), ready: make(chan struct{}),
	}
	sch := scheme.New()
	storage := restOptions(cfg.Store, sch)
	s.objects = objects{cfg.Store}
	var err error
	s.services, err = services.New(services.Config{Storage: storage, Addresses: cfg.ServiceAddresses, Log: cfg.Log})
	if err != nil {
		return nil, fmt.Errorf("apiserver: %w", err)
	}
	objects := reader{s.objects}
	set, err := kinds.Build(kinds.Config{
		Scheme:   sch,
		Storage:  storage,
		Services: s.services,
		Nodes:    newNodeTransport(cfg, objects),
		Tokens:   grant(cfg.Issuer, objects),
	})
	if err != nil {
		return nil, fmt.Errorf("apiserver: %w", err)
	}
	auth, err := newAuth(cfg, objects)
	if err != nil {
		return nil, fmt.Errorf("apiserver: %w", err)
	}
	config, err := s.genericConfig(sch, auth, objects)
	if err != nil {
		return nil, fmt.Errorf("apiserver: %w", err)
	}
	for gv, storages := range reviews.Storage(reviews.Config{
		Authorizer: auth.authorizer, Rules: auth.rules, Tokens: auth.tokens, Audiences: auth.audiences,
	}) {
		for path, storage := range storages {
			set.Add(gv, path, storage)
		}
	}
	if s.generic, err = config.Complete(nil).New("copepod", genericapiserver.NewEmptyDelegate()); err != nil {
		return nil, fmt.Errorf("apiserver: %w", err)
	}
	s.generic.ShutdownTimeout = cfg.ShutdownTimeout
	if err := s.install(sch, set, config, auth); err != nil {
		return nil, fmt.Errorf("apiserver: %w", err)
	}
	return s, nil
}

// genericConfig sets up the library: its filter chain, limits, versions and docs.
func (s *Server) genericConfig(sch *scheme.Scheme, auth *auth, objects reader) (*genericapiserver.Config, error) {
	cfg := s.cfg
	c := genericapiserver.NewConfig(sch.Codecs)
	c.EffectiveVersion = newVersion(cfg.Version)
	c.FeatureGate = feature.DefaultFeatureGate
	c.ExternalAddress = cfg.Advertise.String()
	c.PublicAddress = cfg.Advertise.Addr().AsSlice()
	c.StorageObjectCountTracker = nil
	c.MaxRequestsInFlight, c.MaxMutatingRequestsInFlight = cfg.MaxReads, cfg.MaxWrites
	c.RequestTimeout = cfg.RequestTimeout
	c.ShutdownWatchTerminationGracePeriod = cfg.ShutdownTimeout
	c.LongRunningFunc = func(r *http.Request, info *genericapirequest.RequestInfo) bool {
		return longRunning(r, info) || cfg.Paths[r.URL.Path] != nil
	}
	c.AuditBackend, c.AuditPolicyRuleEvaluator = cfg.Audit, cfg.AuditPolicy
	c.EnableMetrics = false // ours shows the same and more
	if cfg.Front != nil {
		c.BuildHandlerChainFunc = func(api http.Handler, c *genericapiserver.Config) http.Handler {
			return cfg.Front(genericapiserver.DefaultBuildHandlerChain(api, c))
		}
	}
	auth.apply(c)
	c.AdmissionControl = auth.admission(objects, cfg.UnreachableSeconds)
	s.addChecks(c)
	var err error
	if c.SecureServing, c.LoopbackClientConfig, err = serving(cfg); err != nil {
		return nil, err
	}
	namer := openapi.NewDefinitionNamer(sch.Scheme)
	c.OpenAPIConfig = genericapiserver.DefaultOpenAPIConfig(generated.GetOpenAPIDefinitions, namer)
	c.OpenAPIV3Config = genericapiserver.DefaultOpenAPIV3Config(generated.GetOpenAPIDefinitions, namer)
	c.OpenAPIConfig.Info.Title, c.OpenAPIV3Config.Info.Title = "Copepod", "Copepod"
	return c, nil
}

// install puts the storages under their paths and builds the in-process client
// from the same parts.
func (s *Server) install(sch *scheme.Scheme, set *kinds.Set, config *genericapiserver.Config, auth *auth) error {
	var groups []*genericapiserver.APIGroupInfo
	for _, gv := range sch.PrioritizedVersionsAllGroups() {
		storages := set.Storage(gv)
		if len(storages) == 0 {
			continue
		}
		group := genericapiserver.NewDefaultAPIGroupInfo(gv.Group, sch.Scheme, sch.Parameters, sch.Codecs)
		group.PrioritizedVersions = []schema.GroupVersion{gv}
		group.VersionedResourcesStorageMap[gv.Version] = storages
		if gv == corev1.SchemeGroupVersion {
			if err := s.generic.InstallLegacyAPIGroup(genericapiserver.DefaultLegacyAPIPrefix, &group); err != nil {
				return err
			}
			groups = append([]*genericapiserver.APIGroupInfo{&group}, groups...)
			continue
		}
		groups = append(groups, &group)
	}
	if err := s.generic.InstallAPIGroups(groups[1:]...); err != nil {
		return err
	}
	s.installMetrics()
	s.installDiscovery()
	for path, h := range s.cfg.Paths {
		s.generic.Handler.NonGoRestfulMux.Handle(path, h)
	}
	var err error
	s.local, err = local.New(local.Config{
		Scheme:     sch,
		Kinds:      set,
		Store:      s.objects,
		Admission:  config.AdmissionControl,
		Authorizer: auth.authorizer,
		Schemas:    []local.Schemas{groups[0].StaticOpenAPISpec, groups[1].StaticOpenAPISpec},
		Registerer: s.cfg.Registerer,
	})
	return err
}

// Local gives the in-process client, as the API server itself. It works as soon
// as storage does, even before Run.
func (s *Server) Local() *local.Client { return s.local }

// Ready closes when the first request would succeed.
func (s *Server) Ready() <-chan struct{} { return s.ready }

// ServiceAddress is the cluster IP of the `kubernetes` Service, for the serving
// certificate's names.
func (s *Server) ServiceAddress() netip.Addr { return s.services.First() }

// Run serves until ctx ends and the last request is done.
func (s *Server) Run(ctx context.Context) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	var work sync.WaitGroup
	defer work.Wait()
	prepared := s.generic.PrepareRun()
	work.Go(func() {
		if err := s.bootstrap(ctx); err != nil {
			stop(fmt.Errorf("bootstrap: %w", err))
			return
		}
		s.awaitReady(ctx)
	})
	work.Go(func() { s.sweepServices(ctx) })
	if s.cfg.Peers != nil {
		work.Go(func() { s.keepServers(ctx) })
	}
	if err := prepared.RunWithContext(ctx); err != nil {
		return fmt.Errorf("apiserver: %w", err)
	}
	if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) && !errors.Is(cause, context.DeadlineExceeded) {
		return fmt.Errorf("apiserver: %w", cause)
	}
	return nil
}
