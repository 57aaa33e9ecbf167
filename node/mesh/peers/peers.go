// Package peers keeps the list of nodes for the link between them: under which
// address each is reached, and which pod addresses are its. It follows the Nodes
// of the Kubernetes API and answers from memory. It knows what stands in a Node
// and never who may be believed: package link checks certificates against it.
//
//	d, err := peers.New(peers.Config{API: client})
//	go d.Run(ctx)
//	peer, ok := d.Owner(ip)
package peers

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strconv"
	"sync"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"

	"copepod/node/mesh/link"
)

// PortAnnotation of a Node is the port of its link, if that is not
// link.DefaultPort.
const PortAnnotation = "copepod.dev/mesh-port"

// Config configures a Directory.
type Config struct {
	API     kubernetes.Interface
	Changed func(name string) // a node came, went, or changed its place; nil: nobody cares
	Log     *slog.Logger
}

// Directory is the list of nodes. Its methods may be called from many goroutines.
type Directory struct {
	cfg    Config
	log    *slog.Logger
	synced chan struct{}

	mu     sync.RWMutex // guards what follows
	nodes  map[string]link.Peer
	ranges map[netip.Prefix]string // to whom each range belongs
	bits   map[int]int             // how many ranges there are of each length
}

// New makes an empty directory.
func New(cfg Config) (*Directory, error) {
	if cfg.API == nil {
		return nil, errors.New("peers: config: API is needed")
	}
	if cfg.Changed == nil {
		cfg.Changed = func(string) {}
	}
	return &Directory{
		cfg: cfg, log: cmp.Or(cfg.Log, slog.Default()).With("part", "peers"), synced: make(chan struct{}),
		nodes: map[string]link.Peer{}, ranges: map[netip.Prefix]string{}, bits: map[int]int{},
	}, nil
}

// Run follows the Nodes until ctx ends.
func (d *Directory) Run(ctx context.Context) error {
	nodes := d.cfg.API.CoreV1().Nodes()
	_, informer := cache.NewInformerWithOptions(cache.InformerOptions{
		ListerWatcher: cache.ToListWatcherWithWatchListSemantics(&cache.ListWatch{
			ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) { return nodes.List(ctx, o) },
			WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
				return nodes.Watch(ctx, o)
			},
		}, d.cfg.API),
		ObjectType: &corev1.Node{},
		Transform:  slim,
		Handler: cache.ResourceEventHandlerFuncs{
			AddFunc:    func(obj any) { d.Set(obj.(*corev1.Node)) },
			UpdateFunc: func(_, obj any) { d.Set(obj.(*corev1.Node)) },
			DeleteFunc: func(obj any) {
				if last, ok := obj.(cache.DeletedFinalStateUnknown); ok {
					obj = last.Obj
				}
				if n, ok := obj.(*corev1.Node); ok {
					d.Delete(n.Name)
				}
			},
		},
	})
	var wg sync.WaitGroup
	wg.Go(func() {
		if cache.WaitForCacheSync(ctx.Done(), informer.HasSynced) {
			close(d.synced)
		}
	})
	informer.RunWithContext(ctx)
	wg.Wait()
	return nil
}

// Synced closes when every node that there is has been Set.
func (d *Directory) Synced() <-chan struct{} { return d.synced }

// slim keeps of a node what the directory reads: nodes change often, and are
// large.
func slim(obj any) (any, error) {
	n, ok := obj.(*corev1.Node)
	if !ok {
		return obj, nil
	}
	return &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: n.Name, UID: n.UID, ResourceVersion: n.ResourceVersion, Annotations: map[string]string{PortAnnotation: n.Annotations[PortAnnotation]}},
		Spec:       corev1.NodeSpec{PodCIDR: n.Spec.PodCIDR, PodCIDRs: n.Spec.PodCIDRs},
		Status:     corev1.NodeStatus{Addresses: n.Status.Addresses},
	}, nil
}

// Set takes in a node as it now is.
func (d *Directory) Set(n *corev1.Node) {
	p, err := Peer(n)
	if err != nil {
		d.log.Warn("node not understood", "peer", n.Name, "err", err)
	}
	d.mu.Lock()
	old := d.nodes[n.Name]
	d.drop(old)
	var kept []netip.Prefix
	for _, r := range p.Pods {
		if other, taken := d.overlap(r); taken {
			// Whose pods are meant must never be a matter of chance: first come, first served.
			d.log.Warn("range of a node overlaps with another's, and is not used", "peer", n.Name, "range", r.String(), "other", other)
			continue
		}
		kept = append(kept, r)
	}
	p.Pods = kept
	d.nodes[n.Name] = p
	for _, r := range kept {
		d.ranges[r] = n.Name
		d.bits[r.Bits()]++
	}
	d.mu.Unlock()
	if fmt.Sprint(old) != fmt.Sprint(p) {
		d.cfg.Changed(n.Name)
	}
}

// Delete forgets a node.
func (d *Directory) Delete(name string) {
	d.mu.Lock()
	d.drop(d.nodes[name])
	delete(d.nodes, name)
	d.mu.Unlock()
	d.cfg.Changed(name)
}

// drop forgets the ranges of a node. The caller holds d.mu.
func (d *Directory) drop(p link.Peer) {
	for _, r := range p.Pods {
		delete(d.ranges, r)
		if d.bits[r.Bits()]--; d.bits[r.Bits()] == 0 {
			delete(d.bits, r.Bits())
		}
	}
}

// overlap finds a node whose range has addresses in common with r. The caller
// holds d.mu.
func (d *Directory) overlap(r netip.Prefix) (string, bool) {
	for other, name := range d.ranges {
		if other.Overlaps(r) {
			return name, true
		}
	}
	return "", false
}

// Peer implements link.Peers.
func (d *Directory) Peer(name string) (link.Peer, bool) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	p, ok := d.nodes[name]
	return p, ok
}

// Owner implements link.Peers: one look-up for each length of range that there
// is, which is one.
func (d *Directory) Owner(ip netip.Addr) (link.Peer, bool) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	for bits := range d.bits {
		if r, err := ip.Prefix(bits); err == nil {
			if name, ok := d.ranges[r]; ok {
				return d.nodes[name], true
			}
		}
	}
	return link.Peer{}, false
}

// Peer reads a Node. What is missing stays empty: a node that has just come has
// no range yet.
func Peer(n *corev1.Node) (link.Peer, error) {
	p := link.Peer{Name: n.Name}
	port := uint16(link.DefaultPort)
	if s := n.Annotations[PortAnnotation]; s != "" {
		v, err := strconv.ParseUint(s, 10, 16)
		if err != nil || v == 0 {
			return p, fmt.Errorf("annotation %s is %q, want a port", PortAnnotation, s)
		}
		port = uint16(v)
	}
	for _, a := range n.Status.Addresses {
		if a.Type != corev1.NodeInternalIP {
			continue
		}
		ip, err := netip.ParseAddr(a.Address)
		if err != nil {
			return p, fmt.Errorf("its InternalIP: %w", err)
		}
		p.Addr = netip.AddrPortFrom(ip.Unmap(), port)
		break
	}
	list := n.Spec.PodCIDRs
	if len(list) == 0 && n.Spec.PodCIDR != "" {
		list = []string{n.Spec.PodCIDR}
	}
	for _, s := range list {
		r, err := netip.ParsePrefix(s)
		if err != nil {
			return p, fmt.Errorf("its podCIDR: %w", err)
		}
		p.Pods = append(p.Pods, r.Masked())
	}
	return p, nil
}
