package cmd

import (
	"context"
	"net"
	"net/http"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"copepod/registry"
)

// images finds the other nodes of the cluster, which may have an image that this
// one lacks.
type images struct {
	client kubernetes.Interface
	id     *identity
	self   string
}

// listTimeout bounds the question who the nodes are.
const listTimeout = 5 * time.Second

// peers are the nodes that are ready. It is asked rarely, when an image without a
// registry host is missing here.
func (i images) peers() []registry.Peer {
	ctx, cancel := context.WithTimeout(context.Background(), listTimeout)
	defer cancel()
	nodes, err := i.client.CoreV1().Nodes().List(ctx, metav1.ListOptions{ResourceVersion: "0"})
	if err != nil {
		return nil // the pull says that it found nobody, and is tried again
	}
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: i.id.nodeTLS(), DisableKeepAlives: true}} // for one pull
	var all []registry.Peer
	for _, n := range nodes.Items {
		if host := serverOf(n); n.Name != i.self && host != "" {
			all = append(all, registry.Peer{Name: n.Name, Host: host, Client: client})
		}
	}
	return all
}

// serverOf is where a node that is ready serves, or "".
func serverOf(n corev1.Node) string {
	port := n.Status.DaemonEndpoints.KubeletEndpoint.Port
	if port == 0 || !isReady(n) {
		return ""
	}
	for _, a := range n.Status.Addresses {
		if a.Type == corev1.NodeInternalIP {
			return net.JoinHostPort(a.Address, strconv.Itoa(int(port)))
		}
	}
	return ""
}

func isReady(n corev1.Node) bool {
	for _, c := range n.Status.Conditions {
		if c.Type == corev1.NodeReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}
