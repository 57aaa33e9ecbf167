package apiserver

import (
	"context"
	"fmt"
	"net/http"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"copepod/plane/nodedial"
)

// nodeTransport reaches node servers by the addresses of their Node objects, with
// our client certificate, and believes only the node itself: a log must not come
// from, nor our identity go to, whoever has that address by now.
type nodeTransport struct {
	objects   reader
	transport *http.Transport
}

func newNodeTransport(cfg Config, objects reader) *nodeTransport {
	n := &nodeTransport{objects: objects}
	n.transport = nodedial.New(nodedial.Config{Roots: cfg.Clients, Client: cfg.Node}).Transport(n.address)
	return n
}

func (n *nodeTransport) address(_ context.Context, name string) (string, error) {
	obj, err := n.objects.find(corev1.Resource("nodes"), "", name)
	if err != nil {
		return "", err
	}
	address, err := nodedial.Address(obj.(*corev1.Node))
	if err != nil {
		return "", apierrors.NewServiceUnavailable(fmt.Sprintf("log of a pod on %v", err))
	}
	return address, nil
}

// Host implements kinds.NodeTransport. It is asked before a request is sent, so
// that a node which cannot be reached at all has its own status code.
func (n *nodeTransport) Host(ctx context.Context, name string) (string, error) {
	_, err := n.address(ctx, name)
	return name, err
}

func (n *nodeTransport) Transport() http.RoundTripper { return n.transport }
