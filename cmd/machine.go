package cmd

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"golang.org/x/sync/errgroup"
	"k8s.io/client-go/kubernetes"

	"copepod/cmd/config"
	"copepod/node"
	"copepod/node/mesh/proxy"
	"copepod/node/mesh/table"
	"copepod/node/mesh/vnet"
	"copepod/plane"
	"copepod/registry"
	"copepod/wasmrt"
	"copepod/wasmrt/compile"
)

// machine is everything that one `copepod up` runs: a plane and a node that meet
// over HTTPS, and the pod network between the node and its guests.
type machine struct {
	cfg     config.Config
	name    string
	images  *registry.Store
	log     *slog.Logger
	metrics *prometheus.Registry
	ready   chan struct{} // closed when plane and node are
}

func newMachine(cfg config.Config, images *registry.Store, log *slog.Logger) *machine {
	m := &machine{cfg: cfg, images: images, log: log, metrics: prometheus.NewRegistry(), ready: make(chan struct{})}
	m.metrics.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// run starts the parts in order and blocks until ctx ends or one of them fails;
// then it stops them in reverse.
func (m *machine) run(ctx context.Context, con *console) error {
	name, err := nodeName(m.cfg)
	if err != nil {
		return err
	}
	m.name = name
	start := time.Now()
	listener, err := listen(hostPort(m.cfg, m.cfg.API.Port), "api-port")
	if err != nil {
		return err
	}
	p, err := plane.New(plane.Config{
		Dir:          m.cfg.DataDir,
		Listener:     listener,
		Names:        m.cfg.API.Names,
		Services:     m.cfg.Network.ServiceCIDR,
		HistoryBytes: int64(m.cfg.Plane.HistoryMiB) << 20,
		HistoryAge:   m.cfg.Plane.HistoryAge,
		Version:      release,
		Metrics:      m.metrics,
		Registerer:   m.metrics,
		Log:          m.log,
	})
	if err != nil {
		_ = listener.Close()
		return err
	}

	// The plane outlives the node, so that a node that stops can still say so.
	planeCtx, stopPlane := context.WithCancel(context.WithoutCancel(ctx))
	defer stopPlane()
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return p.Run(planeCtx) })
	g.Go(func() error {
		defer stopPlane()
		select {
		case <-ctx.Done():
			return nil
		case <-p.Ready():
		}
		if err := p.WriteKubeconfig(kubeconfigPath(m.cfg.DataDir)); err != nil {
			return err
		}
		con.done("control plane", time.Since(start), p.URL())
		return m.runNode(ctx, con, p)
	})
	return g.Wait()
}

// runNode starts this machine's node against its own plane, over HTTPS as on any
// other machine.
func (m *machine) runNode(ctx context.Context, con *console, p *plane.Plane) error {
	start := time.Now()
	id, err := newIdentity(p, m.cfg.DataDir, m.name, m.cfg.Bind.String())
	if err != nil {
		return err
	}
	client, err := kubernetes.NewForConfig(id.api)
	if err != nil {
		return err
	}
	compiler, err := compile.Self(compileVerb)
	if err != nil {
		return err
	}
	host, err := wasmrt.New(ctx, wasmrt.Config{
		CacheDir: filepath.Join(m.cfg.DataDir, "cache"),
		Compiler: compiler,
		Log:      m.log,
	})
	if err != nil {
		return err
	}
	defer m.closeHost(host)
	m.metrics.MustRegister(wasmCollector{host})

	routes := table.New()
	network := vnet.Config{Router: proxy.Router{Table: routes}, Inside: []netip.Prefix{m.cfg.Network.PodCIDR, m.cfg.Network.ServiceCIDR}}
	if m.cfg.Network.Egress {
		network.Outside = vnet.Egress{}
	}
	pods := vnet.New(network)
	way, err := proxy.New(proxy.Config{API: client, Table: routes, Dial: pods.Dial, Bind: m.cfg.Bind, Log: m.log})
	if err != nil {
		return err
	}
	m.metrics.MustRegister(proxyCollector{way})
	listener, err := listen(hostPort(m.cfg, m.cfg.Node.Port), "node-port")
	if err != nil {
		return err
	}
	n, err := node.New(node.Config{
		Name:        m.name,
		Version:     kubernetesVersion + "+copepod-" + release[1:],
		Runtime:     "wazero://" + strings.TrimPrefix(moduleVersion("github.com/tetratelabs/wazero"), "v"),
		API:         id.api,
		Dir:         m.cfg.DataDir,
		Listener:    listener,
		Addr:        m.cfg.Bind,
		Host:        host,
		Images:      m.images,
		Network:     pods,
		PodCIDR:     m.cfg.Network.PodCIDR,
		Certificate: id.serving.GetCertificate,
		ClientCA:    p.CA().Pool(),
		Callers:     []string{plane.NodeClient},
		MaxPods:     int64(m.cfg.Node.MaxPods),
		Capacity:    m.cfg.Capacity(),
		LogMaxBytes: int64(m.cfg.Logs.ContainerMaxMiB) << 20,
		LogFiles:    m.cfg.Logs.ContainerKeep,
		Metrics:     m.metrics,
		Registerer:  m.metrics,
		Log:         m.log,
	})
	if err != nil {
		_ = listener.Close()
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return id.client.Run(ctx) })
	g.Go(func() error { return id.serving.Run(ctx) })
	g.Go(func() error { return way.Run(ctx) })
	g.Go(func() error { return n.Run(ctx) })
	g.Go(func() error {
		select {
		case <-ctx.Done():
		case <-n.Ready():
			con.done("node "+m.name, time.Since(start), fmt.Sprintf("%d cores, up to %d pods", runtime.NumCPU(), m.cfg.Node.MaxPods))
			close(m.ready)
		}
		return nil
	})
	return g.Wait()
}

// stopHost is how long guests may take to end when the machine stops.
const stopHost = 5 * time.Second

func (m *machine) closeHost(host *wasmrt.Host) {
	ctx, cancel := context.WithTimeout(context.Background(), stopHost)
	defer cancel()
	if err := host.Close(ctx); err != nil {
		m.log.Warn("wasm host not closed", "err", err)
	}
}
