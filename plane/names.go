package plane

import (
	"context"
	"net"
	"slices"
	"sync"

	corev1 "k8s.io/api/core/v1"

	"copepod/plane/apiserver/local"
)

var nodeObjects = corev1.Resource("nodes")

// maxNames bounds the names in one certificate: TLS gives it 64 KiB.
const maxNames = 2000

// names is what the API's certificate is valid for: this machine's own names,
// and the addresses of all nodes, because a node without a plane hands its API
// port's connections through to this one.
type names struct {
	own []string

	mu    sync.Mutex // guards what follows
	nodes []string
}

func (n *names) all() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	all := slices.Concat(n.own, n.nodes)
	slices.Sort(all)
	return slices.Compact(all)
}

// set replaces the addresses of nodes, and says whether that changed anything.
func (n *names) set(nodes []string) bool {
	slices.Sort(nodes)
	nodes = slices.Compact(nodes)
	if len(nodes) > maxNames {
		nodes = nodes[:maxNames]
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if slices.Equal(n.nodes, nodes) {
		return false
	}
	n.nodes = nodes
	return true
}

// follow has the certificate issued anew whenever a node has another address.
func (n *names) follow(ctx context.Context, client *local.Client, renew func(context.Context) error) error {
	for ctx.Err() == nil {
		view := client.View()
		events, err := client.Watch(ctx, nodeObjects, view.Revision())
		if err != nil {
			return err
		}
		if n.set(addresses(view)) {
			if err := renew(ctx); err != nil {
				return err
			}
		}
		for range events {
			if n.set(addresses(client.View())) {
				if err := renew(ctx); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// addresses are the internal IP addresses of all nodes. Names are left out: what
// a node calls itself must not become a name of the API.
func addresses(view local.View) []string {
	var all []string
	for obj := range view.List(nodeObjects, "") {
		node, ok := obj.(*corev1.Node)
		if !ok {
			continue
		}
		for _, a := range node.Status.Addresses {
			if a.Type == corev1.NodeInternalIP && net.ParseIP(a.Address) != nil {
				all = append(all, a.Address)
			}
		}
	}
	return all
}
