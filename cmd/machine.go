package cmd

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"golang.org/x/sync/errgroup"

	"copepod/cmd/config"
	"copepod/cmd/door"
	"copepod/plane"
	"copepod/plane/apiserver/auditlog"
	"copepod/plane/auth/revoke"
	"copepod/plane/enroll"
	"copepod/plane/entry"
	"copepod/registry"
)

// machine is everything that one `copepod up` or `copepod join` runs: a plane, or
// the way to one, and a node that reaches it over HTTPS.
type machine struct {
	cfg     config.Config
	name    string             // of the node
	addr    netip.Addr         // under which others reach it
	member  *enroll.Membership // nil: this machine began the cluster
	revoked revoke.List
	gossip  *whispers
	images  *registry.Store
	log     *slog.Logger
	metrics *prometheus.Registry
	ready   chan struct{} // closed when plane and node are
}

// newMachine reads what the data directory says the machine is.
func newMachine(cfg config.Config, images *registry.Store, log *slog.Logger) (*machine, error) {
	m := &machine{cfg: cfg, images: images, log: log, metrics: prometheus.NewRegistry(), ready: make(chan struct{})}
	m.metrics.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	var err error
	if m.cfg, m.member, err = settle(cfg); err != nil {
		return nil, err
	}
	if m.addr, err = advertised(m.cfg); err != nil {
		return nil, err
	}
	if m.name, err = nodeName(m.cfg); err != nil {
		return nil, err
	}
	if err := enroll.LoadRevoked(cfg.DataDir, &m.revoked); err != nil {
		return nil, err
	}
	m.gossip, err = newGossip(m)
	return m, err
}

// settle takes from the membership, if the data directory holds one, what was
// agreed when the machine joined: who it is, where, and what all machines have in
// common.
func settle(cfg config.Config) (config.Config, *enroll.Membership, error) {
	m, err := enroll.Load(cfg.DataDir)
	if errors.Is(err, enroll.ErrNoMembership) {
		return cfg, nil, nil
	}
	if err != nil {
		return cfg, nil, err
	}
	cfg, err = settledAs(cfg, m)
	return cfg, m, err
}

// settledAs is settle for a membership that was read.
func settledAs(cfg config.Config, m *enroll.Membership) (config.Config, error) {
	if cfg.Node.Name != "" && cfg.Node.Name != m.Name {
		return cfg, fmt.Errorf("node name %q: this machine joined as %q; leave --node-name out, or join anew with another --data-dir", cfg.Node.Name, m.Name)
	}
	switch {
	case cfg.Advertise.IsValid():
	case cfg.Bind.IsLoopback():
		cfg.Bind = m.Address // the default means: as when it joined
	case cfg.Bind.IsUnspecified():
		cfg.Advertise = m.Address
	}
	if addr, err := advertised(cfg); err != nil || addr != m.Address {
		return cfg, fmt.Errorf("address %s: this machine joined as %s; start it with --advertise %s, or join anew with another --data-dir", addr, m.Address, m.Address)
	}
	cfg.Node.Name = m.Name
	cfg.Network.PodCIDR, cfg.Network.ServiceCIDR = m.Settings.PodCIDR, m.Settings.ServiceCIDR
	return cfg, nil
}

// holdsPlane says whether a part of the control plane is here.
func (m *machine) holdsPlane() bool { return m.member == nil || m.member.Plane() }

// isRevoked says whether a certificate counts no more, though it is valid.
func (m *machine) isRevoked(cert *x509.Certificate) bool { return m.revoked.Check(cert) != nil }

// ports is where this machine listens.
func ports(cfg config.Config, plane bool) enroll.Ports {
	p := enroll.Ports{API: cfg.API.Port, Node: cfg.Node.Port, Gossip: cfg.Gossip.Port, Mesh: cfg.Network.MeshPort}
	if plane {
		p.Peer = cfg.Plane.Port
	}
	return p
}

// run starts the parts in order and blocks until ctx ends or one of them fails;
// then it stops them in reverse.
func (m *machine) run(ctx context.Context, con *console) error {
	plain, err := listen(hostPort(m.cfg.Bind, m.cfg.API.Port), "api-port")
	if err != nil {
		return err
	}
	strangers := apiStrangers
	if !m.holdsPlane() {
		strangers = entryStrangers
	}
	listener := m.door(plain, "api", strangers)
	// What carries the node outlives it, so that a node that stops can still say
	// so, and gossip outlives all: to leave is the last that others hear.
	below, stopBelow := context.WithCancel(context.WithoutCancel(ctx))
	defer stopBelow()
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		err := m.gossip.Run(below)
		if errors.Is(err, syscall.EADDRINUSE) {
			err = fmt.Errorf("%w; free the port, or choose another with --gossip-port", err)
		}
		return err
	})
	g.Go(func() error { return m.gossip.meet(ctx) })
	if m.holdsPlane() {
		g.Go(func() error {
			defer stopBelow()
			return m.runPlane(ctx, con, listener)
		})
	} else {
		g.Go(func() error {
			defer stopBelow()
			return m.runEntry(ctx, con, listener)
		})
	}
	return g.Wait()
}

// runPlane runs this machine's part of the control plane, and the node on it.
func (m *machine) runPlane(ctx context.Context, con *console, listener net.Listener) error {
	start := time.Now()
	peers, err := listen(hostPort(m.cfg.Bind, m.cfg.Plane.Port), "plane-port")
	if err != nil {
		_ = listener.Close()
		return err
	}
	audit, err := m.auditLog()
	if err != nil {
		_, _ = listener.Close(), peers.Close()
		return err
	}
	p, err := plane.New(plane.Config{
		Dir:          m.cfg.DataDir,
		Listener:     listener,
		Advertise:    netip.AddrPortFrom(m.addr, m.cfg.API.Port),
		Name:         m.name,
		Peers:        peers,
		Join:         m.member != nil,
		Ports:        ports(m.cfg, true),
		Voters:       m.cfg.Plane.Voters,
		Gossip:       m.gossip,
		Revoked:      &m.revoked,
		Pods:         m.cfg.Network.PodCIDR,
		Names:        m.cfg.API.Names,
		Services:     m.cfg.Network.ServiceCIDR,
		HistoryBytes: int64(m.cfg.Plane.HistoryMiB) << 20,
		HistoryAge:   m.cfg.Plane.HistoryAge,
		Audit:        audit,
		Version:      release,
		Metrics:      m.metrics,
		Registerer:   m.metrics,
		Log:          m.log,
	})
	if err != nil {
		_, _ = listener.Close(), peers.Close()
		return err
	}
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
		id, err := ownIdentity(m, p)
		if err != nil {
			return err
		}
		return m.runNode(ctx, con, id)
	})
	return g.Wait()
}

// auditLog is nil when it is switched off.
func (m *machine) auditLog() (*auditlog.Log, error) {
	if !m.cfg.API.Audit {
		return nil, nil
	}
	return auditlog.New(auditlog.Config{
		Path: filepath.Join(m.cfg.DataDir, "logs", "audit.log"), MaxMiB: m.cfg.API.AuditMaxMiB, Keep: m.cfg.API.AuditKeep,
		Log: m.log, Metrics: m.metrics,
	})
}

// runEntry hands the API port through to the planes, and runs the node on that.
func (m *machine) runEntry(ctx context.Context, con *console, listener net.Listener) error {
	id, err := memberIdentity(ctx, m)
	if err != nil {
		_ = listener.Close()
		return err
	}
	e, err := entry.New(entry.Config{Listener: listener, Planes: m.gossip.planes, Probe: id.planeReady, Log: m.log})
	if err != nil {
		_ = listener.Close()
		return err
	}
	entryCtx, stopEntry := context.WithCancel(context.WithoutCancel(ctx))
	defer stopEntry()
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return e.Run(entryCtx) })
	g.Go(func() error {
		defer stopEntry()
		return m.runNode(ctx, con, id)
	})
	return g.Wait()
}

// Connections that callers may hold before they have proven who they are. To an
// entry nobody ever proves anything.
const (
	apiStrangers   = 1024
	entryStrangers = 2048
	nodeStrangers  = 512
)

// door bounds what strangers can hold at a port.
func (m *machine) door(l net.Listener, port string, strangers int) net.Listener {
	d := door.New(l, door.Config{Strangers: strangers, Log: m.log})
	m.metrics.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{
		Name: "copepod_connections_shed_total", Help: "Connections of strangers that were closed to make room, by port.",
		ConstLabels: prometheus.Labels{"port": port},
	}, func() float64 { return float64(d.Shed()) }))
	return d
}

// listen opens a TCP port, and says which setting moves it when it is taken.
func listen(addr, flag string) (net.Listener, error) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("port %s: %w; free it, or choose another with --%s", addr, unwrapListen(err), flag)
	}
	return l, nil
}

// unwrapListen takes the address out of a listen error, which names it already.
func unwrapListen(err error) error {
	if op, ok := errors.AsType[*net.OpError](err); ok {
		return op.Err
	}
	return err
}

func hostPort(addr netip.Addr, port uint16) string {
	return net.JoinHostPort(addr.String(), strconv.Itoa(int(port)))
}

// nodeLine is what `up` says of the node.
func nodeLine(maxPods int) string {
	return fmt.Sprintf("%d cores, up to %d pods", runtime.NumCPU(), maxPods)
}
