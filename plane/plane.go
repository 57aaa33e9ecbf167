// Package plane is the control plane of one machine: the replicated store, the
// Kubernetes API over it, and, where this machine leads, the controllers and the
// scheduler. It makes the cluster's keys at the first start. It knows the
// machine's address and data directory; it never learns how pods run.
//
//	p, err := plane.New(plane.Config{Dir: dir, Listener: listener})
//	go p.Run(ctx)
//	<-p.Ready()
package plane

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"path/filepath"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/storage/value"

	"copepod/plane/apiserver"
	"copepod/plane/apiserver/auditlog"
	"copepod/plane/apiserver/local"
	"copepod/plane/auth/certs"
	"copepod/plane/auth/revoke"
	"copepod/plane/auth/seal"
	"copepod/plane/auth/token"
	"copepod/plane/controllers"
	"copepod/plane/controllers/api"
	"copepod/plane/detector"
	"copepod/plane/enroll"
	"copepod/plane/kubestore"
	"copepod/plane/peer"
	"copepod/plane/quorum"
	"copepod/plane/scheduler"
	"copepod/plane/store"
)

// Config configures a Plane. Dir and Listener are required; Name and Peers are
// where there may be other machines.
type Config struct {
	Dir          string         // the machine's data directory, 0700
	Listener     net.Listener   // of the API
	Name         string         // of this machine's node
	Peers        net.Listener   // of the port between planes; nil: this machine stays alone
	Join         bool           // the cluster exists already: its leader will take this member in
	Ports        enroll.Ports   // where this machine listens, as others are told
	Voters       int            // wanted of the plane; 0: 3
	Gossip       Gossip         // who is there, and who fell silent; nil: nobody else is
	Revoked      *revoke.List   // machines that are members no more; nil: a list of its own
	Pods         netip.Prefix   // range of pod addresses, as joining machines are told
	Advertise    netip.AddrPort // where others reach it; zero: the listener's address
	Names        []string       // further names in the API's certificate
	Services     netip.Prefix   // range of cluster IPs
	HistoryBytes int64          // of the store; 0: its default
	HistoryAge   time.Duration  // of the store; 0: its default
	Audit        *auditlog.Log  // takes a record of requests; nil: none is kept
	Version      string         // our own, as v1.2.3
	Metrics      prometheus.Gatherer
	Registerer   prometheus.Registerer
	Log          *slog.Logger
}

// Plane is one machine's part of the control plane.
type Plane struct {
	cfg     Config
	log     *slog.Logger
	ca      *certs.CA
	serving *certs.Rotator // what the API shows
	names   names          // what it is valid for
	kubelet *certs.Rotator // what the API shows to node servers
	peers   *peer.Peer     // nil: alone
	member  *certs.Rotator // what this machine shows to the other planes, nil: alone
	store   *store.Store
	objects *kubestore.K
	api     *apiserver.Server
	nodes   *relations
	joining *enroll.Server
	deaths  *detector.Detector
	voting  *quorum.Quorum // nil: alone
	control *controllers.Controllers
	placing *scheduler.Scheduler
	ready   chan struct{}
}

// NodeClient is the identity by which the API server fetches logs from nodes.
const NodeClient = "kube-apiserver-kubelet-client"

// New opens the store, makes or loads the keys, and builds the API. Nothing
// listens before Run.
func New(cfg Config) (*Plane, error) {
	if cfg.Dir == "" || cfg.Listener == nil {
		return nil, errors.New("plane: config: Dir and Listener are needed")
	}
	if !cfg.Advertise.IsValid() {
		addr, ok := cfg.Listener.Addr().(*net.TCPAddr)
		if !ok {
			return nil, errors.New("plane: config: Advertise is empty and the listener has no TCP address")
		}
		cfg.Advertise = addr.AddrPort()
	}
	if cfg.Peers != nil && cfg.Name == "" {
		return nil, errors.New("plane: config: Name is needed with Peers: the other planes know this one by it")
	}
	cfg.Revoked = cmp.Or(cfg.Revoked, &revoke.List{})
	p := &Plane{cfg: cfg, log: cmp.Or(cfg.Log, slog.Default()).With("part", "plane"), ready: make(chan struct{})}
	for _, step := range []func() error{p.openKeys, p.openPeers, p.openStore, p.buildJoining, p.buildAPI, p.buildDetector, p.buildVoting, p.buildControl} {
		if err := step(); err != nil {
			return nil, fmt.Errorf("plane: %w", err)
		}
	}
	return p, nil
}

// openKeys loads the CA and issues what this machine shows.
func (p *Plane) openKeys() error {
	var err error
	if p.ca, err = certs.LoadOrCreateCA(p.path("pki")); err != nil {
		return err
	}
	p.names.own = append([]string{"localhost", "127.0.0.1", p.cfg.Advertise.Addr().String(), "kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local"}, p.cfg.Names...)
	if p.cfg.Services.IsValid() {
		p.names.own = append(p.names.own, p.cfg.Services.Masked().Addr().Next().String())
	}
	if p.serving, err = p.rotator(func() (certs.Pair, error) { return p.ca.Server("kube-apiserver", p.names.all()) }); err != nil {
		return err
	}
	p.kubelet, err = p.rotator(func() (certs.Pair, error) { return p.ca.Client(NodeClient, nil) })
	return err
}

func (p *Plane) rotator(issue func() (certs.Pair, error)) (*certs.Rotator, error) {
	return certs.NewRotator(certs.RotatorConfig{Source: func(context.Context) (certs.Pair, error) { return issue() }, Log: p.log})
}

func (p *Plane) path(name string) string { return filepath.Join(p.cfg.Dir, name) }

// openStore opens the replicated store and the objects in it. Secrets are sealed
// before they reach the log.
func (p *Plane) openStore() error {
	keys, err := seal.LoadOrCreate(p.path("seal"))
	if err != nil {
		return err
	}
	transformer := keys.Transformer()
	cfg := store.Config{
		Dir:          p.path("store"),
		HistoryBytes: p.cfg.HistoryBytes,
		HistoryAge:   p.cfg.HistoryAge,
		Log:          p.cfg.Log,
		Registerer:   p.cfg.Registerer,
	}
	if p.peers != nil {
		cfg.NodeID, cfg.Transport, cfg.Forwarder = p.cfg.Name, p.peers.Raft(), p.peers
		cfg.Advertise, cfg.Join = p.peerAddress().String(), p.cfg.Join
	}
	p.store, err = store.Open(cfg)
	if err != nil {
		return err
	}
	p.objects, err = kubestore.New(p.store, kubestore.Config{
		Transformer: func(gr schema.GroupResource) value.Transformer {
			if gr == corev1.Resource("secrets") {
				return transformer
			}
			return nil
		},
		ShareLists: true, // generic registries only encode what they list
		Log:        p.cfg.Log,
	})
	return err
}

// buildAPI builds the API server over the objects.
func (p *Plane) buildAPI() error {
	keys, err := token.LoadOrCreateKeys(p.path("tokens"))
	if err != nil {
		return err
	}
	issuer, err := token.NewIssuer(token.Config{URL: "https://kubernetes.default.svc.cluster.local", Keys: keys})
	if err != nil {
		return err
	}
	p.nodes = &relations{view: func() local.View { return p.api.Local().View() }}
	cfg := apiserver.Config{
		Front:            p.joining.Front,
		Paths:            p.operations(),
		Authorizers:      p.nodes.authorizers(),
		Store:            p.objects,
		Health:           p.store.Health,
		Listener:         p.cfg.Listener,
		Serving:          p.serving.Pair,
		ServingChanged:   p.serving.OnRenew,
		Clients:          p.ca.Pool(),
		ClientsPEM:       p.ca.PEM(),
		Node:             p.kubelet.Pair,
		Advertise:        p.cfg.Advertise,
		Peers:            p.others,
		Issuer:           issuer,
		ServiceAddresses: p.cfg.Services,
		Version:          p.cfg.Version,
		Metrics:          p.cfg.Metrics,
		Log:              p.cfg.Log,
	}
	if p.cfg.Audit != nil {
		cfg.Audit, cfg.AuditPolicy = p.cfg.Audit, p.cfg.Audit.Policy()
	}
	p.api, err = apiserver.New(cfg)
	return err
}

// buildControl builds what only the leader runs.
func (p *Plane) buildControl() error {
	var err error
	p.control, err = controllers.New(controllers.Config{
		Client:  client{p.api.Local()},
		As:      func(user string) api.Client { return client{p.api.Local().As(user)} },
		RootCA:  p.ca.PEM(),
		Deaths:  p.deaths,
		PodCIDR: p.cfg.Pods,
		Log:     p.cfg.Log,
		Metrics: p.cfg.Registerer,
	})
	if err != nil {
		return err
	}
	p.placing, err = scheduler.New(scheduler.Config{
		Client:  client{p.api.Local().As("system:kube-scheduler")},
		Log:     p.cfg.Log,
		Metrics: p.cfg.Registerer,
	})
	return err
}

// Ready closes when the API takes its first request.
func (p *Plane) Ready() <-chan struct{} { return p.ready }

// WriteKubeconfig writes the administrator's kubeconfig, 0600.
func (p *Plane) WriteKubeconfig(path string) error {
	admin, err := p.ca.Admin()
	if err != nil {
		return err
	}
	return certs.WriteKubeconfig(path, p.URL(), p.ca.PEM(), admin, "copepod")
}

// URL is where the API answers.
func (p *Plane) URL() string { return "https://" + p.cfg.Advertise.String() }

// CA is the cluster's certificate authority.
func (p *Plane) CA() *certs.CA { return p.ca }

// NodeClient issues the certificate by which this machine's own node proves who
// it is; machines without a plane ask for theirs with a request.
func (p *Plane) NodeClient(name string) (certs.Pair, error) { return p.ca.Node(name, true) }

// NodeServing issues what this machine's own node shows on its ports.
func (p *Plane) NodeServing(name string, hosts []string) (certs.Pair, error) {
	return p.ca.NodeServer(name, true, hosts)
}
