package cmd

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	"k8s.io/client-go/kubernetes"

	"copepod/gossip"
	"copepod/node"
	"copepod/node/mesh/link"
	"copepod/node/mesh/peers"
	"copepod/node/mesh/proxy"
	"copepod/node/mesh/table"
	"copepod/node/mesh/vnet"
	"copepod/plane"
	"copepod/plane/auth/certs"
	"copepod/plane/enroll"
	"copepod/registry"
	"copepod/wasmrt"
	"copepod/wasmrt/compile"
)

// runNode starts this machine's node, which reaches the API over HTTPS wherever
// the plane is.
func (m *machine) runNode(ctx context.Context, con *console, id *identity) error {
	start := time.Now()
	client, err := kubernetes.NewForConfig(id.api)
	if err != nil {
		return err
	}
	host, err := m.newHost(ctx)
	if err != nil {
		return err
	}
	defer m.closeHost(host)
	net, err := m.newNetwork(client, id)
	if err != nil {
		return err
	}
	listener, err := listen(hostPort(m.cfg.Bind, m.cfg.Node.Port), "node-port")
	if err != nil {
		return err
	}
	n, err := node.New(node.Config{
		Name:        m.name,
		Version:     kubernetesVersion + "+copepod-" + release[1:],
		Runtime:     "wazero://" + strings.TrimPrefix(moduleVersion("github.com/tetratelabs/wazero"), "v"),
		API:         id.api,
		Dir:         m.cfg.DataDir,
		Listener:    m.door(listener, "node", nodeStrangers),
		Addr:        m.addr,
		Host:        host,
		Images:      registry.Shared{Store: m.images, Peers: images{client, id, m.name}.peers},
		Serve:       m.images.Handler(),
		Network:     net.pods,
		MeshPort:    m.cfg.Network.MeshPort,
		Services:    net.proxy.Services,
		Certificate: id.serving.GetCertificate,
		ClientCA:    id.roots,
		Callers:     []string{plane.NodeClient},
		Revoked:     m.isRevoked,
		MaxPods:     int64(m.cfg.Node.MaxPods),
		Drain:       m.drain,
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
	g.Go(func() error { return id.run(ctx) })
	g.Go(func() error {
		return enroll.Follow(ctx, enroll.FollowConfig{
			Dir: m.cfg.DataDir, Node: m.name, Client: client, Revoked: &m.revoked, Keyring: m.gossip.Keys(), Log: m.log,
		})
	})
	g.Go(func() error { return net.run(ctx) })
	g.Go(func() error { return n.Run(ctx) })
	g.Go(func() error {
		select {
		case <-ctx.Done():
		case <-n.Ready():
			con.done("node "+m.name, time.Since(start), nodeLine(m.cfg.Node.MaxPods))
			close(m.ready)
		}
		return nil
	})
	return g.Wait()
}

// drain is how long the node's pods may take to move elsewhere when it stops: not
// at all when there is nowhere to move to.
func (m *machine) drain() time.Duration {
	for _, other := range m.gossip.Members() {
		if other.Name != m.name && other.State == gossip.StateAlive {
			return m.cfg.Node.Drain
		}
	}
	return 0
}

func (m *machine) newHost(ctx context.Context) (*wasmrt.Host, error) {
	compiler, err := compile.Self(compileVerb)
	if err != nil {
		return nil, err
	}
	host, err := wasmrt.New(ctx, wasmrt.Config{CacheDir: filepath.Join(m.cfg.DataDir, "cache"), Compiler: compiler, Log: m.log})
	if err != nil {
		return nil, err
	}
	m.metrics.MustRegister(wasmCollector{host})
	return host, nil
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

// network is the pod network of this node and its ways in and out.
type network struct {
	pods  *vnet.Net
	nodes *peers.Directory
	link  *link.Link
	proxy *proxy.Proxy
}

func (m *machine) newNetwork(client kubernetes.Interface, id *identity) (*network, error) {
	net := &network{}
	var err error
	if net.nodes, err = peers.New(peers.Config{API: client, Log: m.log}); err != nil {
		return nil, err
	}
	listener, err := listen(hostPort(m.cfg.Bind, m.cfg.Network.MeshPort), "network-mesh-port")
	if err != nil {
		return nil, err
	}
	net.link, err = link.New(link.Config{
		Node:     m.name,
		Listener: listener,
		Peers:    net.nodes,
		CA:       id.roots,
		Serving:  id.serving.GetCertificate,
		Client:   id.client.GetClientCertificate,
		Revoked:  m.isRevoked,
		Log:      m.log,
	})
	if err != nil {
		_ = listener.Close()
		return nil, err
	}
	routes := table.NewFor(m.name)
	cfg := vnet.Config{Router: proxy.Router{Table: routes}, Remote: apiWay{net.link, m.gossip.planes, netip.AddrPortFrom(m.addr, m.cfg.API.Port)}, Inside: []netip.Prefix{m.cfg.Network.PodCIDR, m.cfg.Network.ServiceCIDR}}
	if m.cfg.Network.Egress {
		cfg.Outside = vnet.Egress{}
	}
	net.pods = vnet.New(cfg)
	net.proxy, err = proxy.New(proxy.Config{API: client, Table: routes, Dial: net.pods.Dial, Bind: m.cfg.Bind, Log: m.log})
	if err != nil {
		_ = listener.Close()
		return nil, err
	}
	m.metrics.MustRegister(proxyCollector{net.proxy}, linkCollector{net.link})
	return net, nil
}

func (n *network) run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return n.nodes.Run(ctx) })
	g.Go(func() error { return n.link.Run(ctx, n.pods) })
	g.Go(func() error { return n.proxy.Run(ctx) })
	return g.Wait()
}

// planeReady asks a plane whether it answers requests.
func (id *identity) planeReady(ctx context.Context, at netip.AddrPort) error {
	cfg := id.nodeTLS()
	cfg.ServerName = certs.APIName
	transport := &http.Transport{TLSClientConfig: cfg, DisableKeepAlives: true}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+at.String()+"/readyz", nil)
	if err != nil {
		return err
	}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", at, resp.Status)
	}
	return nil
}
