// Package proxy brings traffic from the node's own addresses to pods: a TCP
// listener for each node port, and behind it a ready endpoint of the Service. It
// follows Services and EndpointSlices through the Kubernetes API and keeps them
// in a table that the pod network reads too. It never decides what is ready.
//
//	p, err := proxy.New(proxy.Config{API: client, Table: t, Dial: pods.Dial, Bind: addr})
//	err = p.Run(ctx)
package proxy

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"

	"copepod/node/mesh/table"
)

// Config configures a Proxy.
type Config struct {
	API      kubernetes.Interface
	Table    *table.Table
	Dial     func(ctx context.Context, to netip.AddrPort) (net.Conn, error) // to a pod
	Bind     netip.Addr                                                     // address that node ports open on
	MaxConns int64                                                          // open at a time, over all ports; 0 = 16384
	Log      *slog.Logger
}

// Proxy is the way in.
type Proxy struct {
	cfg     Config
	changed chan struct{} // something in the table has changed
	factory informers.SharedInformerFactory
	synced  chan struct{} // closed when all Services have been read once
	patient time.Time     // until when Services waits for that
	open    atomic.Int64
	total   atomic.Int64
	failed  atomic.Int64
}

// Stats counts what the proxy has carried since it started.
type Stats struct {
	Open   int64 // connections now
	Total  int64 // connections so far
	Failed int64 // of them, those for which no endpoint answered
}

const (
	patience    = 10 * time.Second // after New, for Services to be read
	retryListen = 5 * time.Second  // until a node port that another process holds is tried again
	attempts    = 16               // endpoints tried for one connection; those of lost nodes fail at once
	dialTimeout = 10 * time.Second // for all of them
)

// New checks the configuration; Run does the work.
func New(cfg Config) (*Proxy, error) {
	if cfg.API == nil || cfg.Table == nil || cfg.Dial == nil {
		return nil, errors.New("proxy: config: API, Table and Dial are needed")
	}
	if !cfg.Bind.IsValid() {
		return nil, errors.New("proxy: config: Bind is not an address")
	}
	cfg.MaxConns = cmp.Or(cfg.MaxConns, 16384)
	cfg.Log = cmp.Or(cfg.Log, slog.Default()).With("part", "proxy")
	return &Proxy{
		cfg: cfg, changed: make(chan struct{}, 1), factory: informers.NewSharedInformerFactory(cfg.API, 0),
		synced: make(chan struct{}), patient: time.Now().Add(patience),
	}, nil
}

// Stats says what has been carried.
func (p *Proxy) Stats() Stats {
	return Stats{Open: p.open.Load(), Total: p.total.Load(), Failed: p.failed.Load()}
}

// Services are those of the cluster, of which pods learn by their environment. A
// pod keeps the environment that it starts with, so the first call waits until
// they have been read, but not for long: a node may have to start without the API.
func (p *Proxy) Services() []*corev1.Service {
	t := time.NewTimer(time.Until(p.patient))
	defer t.Stop()
	select {
	case <-p.synced:
	case <-t.C:
	}
	list, err := p.factory.Core().V1().Services().Lister().List(labels.Everything())
	if err != nil {
		return nil
	}
	return list
}

// Run follows the API and serves node ports until ctx ends; then it closes the
// ports and the connections, and returns after the last of them.
func (p *Proxy) Run(ctx context.Context) error {
	factory := p.factory
	services, slices := factory.Core().V1().Services().Informer(), factory.Discovery().V1().EndpointSlices().Informer()
	if _, err := services.AddEventHandler(p.serviceEvents()); err != nil {
		return err
	}
	if _, err := slices.AddEventHandler(p.sliceEvents()); err != nil {
		return err
	}
	factory.Start(ctx.Done())
	defer factory.Shutdown()

	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() {
		if cache.WaitForCacheSync(ctx.Done(), services.HasSynced) {
			close(p.synced)
		}
	})
	listeners := map[uint16]net.Listener{}
	defer func() {
		for _, l := range listeners {
			_ = l.Close()
		}
	}()
	for {
		var again <-chan time.Time
		if !p.sync(ctx, &wg, listeners) {
			again = time.After(retryListen)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-p.changed:
		case <-again:
		}
	}
}

// sync opens and closes node ports to match the table; false: some could not be
// opened.
func (p *Proxy) sync(ctx context.Context, wg *sync.WaitGroup, open map[uint16]net.Listener) bool {
	want := map[uint16]bool{}
	all := true
	for _, port := range p.cfg.Table.NodePorts() {
		want[port] = true
		if open[port] != nil {
			continue
		}
		l, err := net.Listen("tcp", net.JoinHostPort(p.cfg.Bind.String(), strconv.Itoa(int(port))))
		if err != nil {
			p.cfg.Log.Warn("node port not opened", "port", port, "err", err)
			all = false
			continue
		}
		open[port] = l
		wg.Go(func() { p.accept(ctx, l, port) })
	}
	for port, l := range open {
		if !want[port] {
			_ = l.Close()
			delete(open, port)
		}
	}
	return all
}

func (p *Proxy) notify() {
	select {
	case p.changed <- struct{}{}:
	default:
	}
}

func (p *Proxy) serviceEvents() cache.ResourceEventHandler {
	set := func(obj any) {
		if svc, ok := obj.(*corev1.Service); ok {
			p.cfg.Table.SetService(svc)
			p.notify()
		}
	}
	return cache.ResourceEventHandlerFuncs{
		AddFunc:    set,
		UpdateFunc: func(_, obj any) { set(obj) },
		DeleteFunc: func(obj any) {
			if svc, ok := last(obj).(*corev1.Service); ok {
				p.cfg.Table.DeleteService(types.NamespacedName{Namespace: svc.Namespace, Name: svc.Name})
				p.notify()
			}
		},
	}
}

func (p *Proxy) sliceEvents() cache.ResourceEventHandler {
	set := func(obj any) {
		if slice, ok := obj.(*discoveryv1.EndpointSlice); ok {
			p.cfg.Table.SetSlice(slice)
		}
	}
	return cache.ResourceEventHandlerFuncs{
		AddFunc:    set,
		UpdateFunc: func(_, obj any) { set(obj) },
		DeleteFunc: func(obj any) {
			if slice, ok := last(obj).(*discoveryv1.EndpointSlice); ok {
				p.cfg.Table.DeleteSlice(slice)
			}
		},
	}
}

// last is the object of a delete event, also when the event itself was missed.
func last(obj any) any {
	if gone, ok := obj.(cache.DeletedFinalStateUnknown); ok {
		return gone.Obj
	}
	return obj
}
