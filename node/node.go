// Package node is the agent of one machine: it registers the machine as a Node,
// runs the pods that the cluster places there, and reports how they are. It knows
// the Kubernetes API through client-go, as any client, and its own machine; it
// never learns how the plane decides, and shares no Go type with it.
//
//	n, err := node.New(node.Config{Name: "n1", API: config, Dir: dir, …})
//	err = n.Run(ctx)
package node

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	coordinationv1 "k8s.io/api/coordination/v1"
	v1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"copepod/node/desired"
	"copepod/node/identity"
	"copepod/node/logs"
	"copepod/node/mesh/vnet"
	"copepod/node/objects"
	"copepod/node/pods"
	"copepod/node/probe"
	"copepod/node/runtime"
	"copepod/node/runtime/wasm"
	"copepod/node/server"
	"copepod/node/status"
	"copepod/node/volume"
	"copepod/wasmrt"
)

// Config configures a Node. Fields without a default are required.
type Config struct {
	Name     string
	Version  string               // of Copepod, as v1.2.3
	Runtime  string               // "wazero://1.12.0", as people see it
	API      *rest.Config         // as system:node:NAME
	Client   kubernetes.Interface // in place of API
	Dir      string               // data directory of the machine, 0700
	Listener net.Listener         // of the node's server
	Addr     netip.Addr           // under which the machine is reached

	Host     *wasmrt.Host
	Images   wasm.Images
	Wasm     runtime.Runtime // in place of Host and Images
	Serve    http.Handler    // images that other nodes may fetch; nil: none
	Network  *vnet.Net
	PodCIDR  netip.Prefix // addresses of pods, unless the Node object has a podCIDR; not valid: the node waits for that
	MeshPort uint16       // of the link between nodes, as others are told; 0: its default

	Certificate func(*tls.ClientHelloInfo) (*tls.Certificate, error) // of the node's server
	ClientCA    *x509.CertPool                                       // that signs who may call it
	Callers     []string                                             // users that may call it
	Revoked     func(*x509.Certificate) bool                         // whose certificates count no more; nil: nobody's

	MaxPods     int64                 // default 10000
	Capacity    v1.ResourceList       // cpu and memory; what is missing is measured
	Labels      map[string]string     // of the Node object, beside the usual ones
	HostPaths   []string              // directories that hostPath volumes may show; none: no hostPath
	Services    func() []*v1.Service  // for service environment variables; nil: none
	Drain       func() time.Duration  // asked when the node stops: how long its pods may take to move elsewhere; nil or 0: they just stop
	Offline     time.Duration         // how long a node that boots waits for the API before it runs what it ran; 0 = 5 s
	LogMaxBytes int64                 // of one container log file; 0 = 10 MiB
	LogFiles    int                   // kept of one run; 0 = 5
	Metrics     prometheus.Gatherer   // shown at the server's /metrics; nil: none
	Registerer  prometheus.Registerer // nil: nothing is registered
	Log         *slog.Logger
}

// Node is the agent.
type Node struct {
	cfg     Config
	log     *slog.Logger
	api     kubernetes.Interface
	machine machine
	pods    *pods.Manager
	desired *desired.Store
	boot    *boot
	writer  *status.Writer
	events  *status.Events
	objects *objects.Store
	classes *classes
	server  *server.Server

	registered chan struct{} // closed once
	ready      chan struct{} // closed once
	ranged     chan struct{} // closed once pods can have addresses
	setRanged  func()

	poked   chan struct{}                 // ends the wait of beat
	offered atomic.Bool                   // the plane has given the range that the node waits for
	refused atomic.Bool                   // the API answers, and does not know this node
	doubted atomic.Bool                   // the plane takes the node for lost
	phase   atomic.Int32                  // how far it is on its way out
	told    atomic.Pointer[chan struct{}] // closed when beat has said phase

	// What follows belongs to beat.
	lease *coordinationv1.Lease
	said  []v1.NodeCondition
	cidr  string
}

// New checks the configuration and builds the parts.
func New(cfg Config) (*Node, error) {
	switch {
	case cfg.Name == "", cfg.API == nil && cfg.Client == nil, cfg.Dir == "", cfg.Listener == nil, !cfg.Addr.IsValid():
		return nil, errors.New("node: config: Name, API, Dir, Listener and Addr are needed")
	case cfg.Wasm == nil && (cfg.Host == nil || cfg.Images == nil), cfg.Network == nil:
		return nil, errors.New("node: config: Host, Images and Network are needed")
	}
	cfg.MaxPods = cmp.Or(cfg.MaxPods, 10000)
	cfg.Offline = cmp.Or(cfg.Offline, 5*time.Second)
	n := &Node{
		cfg: cfg, log: cmp.Or(cfg.Log, slog.Default()).With("part", "node", "node", cfg.Name),
		registered: make(chan struct{}), ready: make(chan struct{}), ranged: make(chan struct{}), poked: make(chan struct{}, 1), boot: newBoot(),
	}
	n.setRanged = sync.OnceFunc(func() { close(n.ranged) })
	if cfg.PodCIDR.IsValid() {
		n.setRanged()
	}
	for _, build := range []func() error{n.buildClient, n.buildStatus, n.buildPods, n.buildServer} {
		if err := build(); err != nil {
			return nil, fmt.Errorf("node %s: %w", cfg.Name, err)
		}
	}
	return n, nil
}

func (n *Node) buildClient() (err error) {
	n.machine = measure(n.cfg)
	if n.api = n.cfg.Client; n.api != nil {
		return nil
	}
	if err := identity.CheckClient(n.cfg.API, n.cfg.Name); err != nil {
		return err
	}
	cfg := rest.CopyConfig(n.cfg.API)
	cfg.QPS = -1 // what a node sends is bounded by its own queues
	n.api, err = kubernetes.NewForConfig(cfg)
	return err
}

func (n *Node) buildStatus() (err error) {
	if n.writer, err = status.New(status.Config{Client: n.api.CoreV1(), Log: n.log}); err != nil {
		return err
	}
	n.events, err = status.NewEvents(status.EventsConfig{Client: n.api.CoreV1(), Host: n.cfg.Name, Status: n.writer, Log: n.log})
	return err
}

func (n *Node) buildPods() (err error) {
	rt := n.cfg.Wasm
	if rt == nil {
		if rt, err = wasm.New(wasm.Config{Host: n.cfg.Host, Images: n.cfg.Images, Log: n.log}); err != nil {
			return err
		}
	}
	n.desired, err = desired.Open(desired.Config{Dir: filepath.Join(n.cfg.Dir, "node", "desired"), Refs: refs, Log: n.log})
	if err != nil {
		return err
	}
	n.classes = newClasses(n.api, rt, n.desired, n.boot.offline.Load)
	n.objects, err = objects.New(objects.Config{Client: n.api.CoreV1(), Changed: n.changed, Cache: n.desired, Log: n.log})
	if err != nil {
		return err
	}
	volumes, err := volume.New(volume.Config{
		Dir: filepath.Join(n.cfg.Dir, "node", "pods"), Objects: n.objects, Tokens: tokens{n.api, n.boot.offline.Load}, HostPaths: n.cfg.HostPaths, Log: n.log,
	})
	if err != nil {
		return err
	}
	store, err := logs.New(logs.Config{Dir: filepath.Join(n.cfg.Dir, "pods-logs"), MaxSize: n.cfg.LogMaxBytes, MaxFiles: n.cfg.LogFiles, Log: n.log})
	if err != nil {
		return err
	}
	n.pods, err = pods.New(pods.Config{
		Runtime:     n.classes.runtime,
		Network:     n.cfg.Network,
		CIDR:        n.cfg.PodCIDR,
		Objects:     n.objects,
		Holder:      n.objects,
		Volumes:     volumes,
		Prober:      probe.New(n.cfg.Network),
		Logs:        store,
		Reporter:    n.writer,
		Recorder:    n.events,
		HostIP:      n.cfg.Addr.String(),
		Allocatable: n.machine.capacity,
		Services:    n.cfg.Services,
		Log:         n.log,
		Meter:       pods.NewMetrics(n.cfg.Registerer),
	})
	return err
}

func (n *Node) buildServer() error {
	id, err := identity.New(identity.Config{Name: n.cfg.Name, ClientCA: n.cfg.ClientCA, Certificate: n.cfg.Certificate, Callers: n.cfg.Callers, Revoked: n.cfg.Revoked})
	if err != nil {
		return err
	}
	n.server, err = server.New(server.Config{
		Listener: n.cfg.Listener, TLS: id.ServerTLS(), Gate: id, Node: n.cfg.Name,
		Pods: n.pods, Images: n.cfg.Serve, Healthy: n.healthy, Metrics: n.cfg.Metrics, Peers: n.cfg.ClientCA, Log: n.log,
	})
	return err
}

// healthy is nil, or why the node cannot run pods.
func (n *Node) healthy() error {
	if phase(n.phase.Load()) == leaving {
		return errLeaving
	}
	if !n.hasRange() {
		return errNoRange
	}
	if _, err := os.Stat(n.cfg.Dir); err != nil {
		return fmt.Errorf("data directory: %w", err)
	}
	return nil
}

// Ready closes when the node is registered and knows its pods.
func (n *Node) Ready() <-chan struct{} { return n.ready }

// drain is how long statuses and events that wait are still sent after the pods
// have stopped.
const drain = time.Second

// Run runs the node until ctx ends; then pods move elsewhere if Drain says so, and
// those that are left stop, to run again when the node comes back.
func (n *Node) Run(ctx context.Context) error {
	late, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	var senders errgroup.Group
	senders.Go(func() error { return n.writer.Run(late) })
	senders.Go(func() error { return n.events.Run(late) })

	work, stopWork := context.WithCancel(late)
	defer stopWork()
	g, work := errgroup.WithContext(work)
	g.Go(func() error { return n.objects.Run(work) })
	g.Go(func() error { return n.desired.Run(work) })
	g.Go(func() error { return n.pods.Run(work) })
	g.Go(func() error { return n.server.Run(work) })
	g.Go(func() error { return n.beat(work) })
	g.Go(func() error { return n.heed(work) })
	g.Go(func() error { return n.classes.follow(work) })
	g.Go(func() error { return n.follow(work) })
	g.Go(func() error {
		defer stopWork()
		select {
		case <-ctx.Done():
			n.leave(work)
		case <-work.Done():
		}
		return nil
	})
	err := g.Wait()
	n.writer.Drain(drain)
	stop()
	return errors.Join(err, senders.Wait())
}
