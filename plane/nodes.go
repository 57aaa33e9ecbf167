package plane

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/apiserver/pkg/authorization/union"

	"copepod/plane/apiserver/local"
	"copepod/plane/auth/nodes"
)

var pods = corev1.Resource("pods")

// relations answers what a node's pods refer to. The graph follows the pod watch,
// and a node may ask for a pod's secret before the graph has heard of the pod:
// then the store itself is asked.
type relations struct {
	graph nodes.Graph
	view  func() local.View
}

// Reaches implements nodes.Relations.
func (r *relations) Reaches(node, resource, namespace, name string) bool {
	if r.graph.Reaches(node, resource, namespace, name) {
		return true
	}
	var now nodes.Graph
	for obj := range r.view().List(pods, namespace) {
		if pod, ok := obj.(*corev1.Pod); ok && pod.Spec.NodeName == node {
			now.Set(pod)
		}
	}
	return now.Reaches(node, resource, namespace, name)
}

// follow keeps the graph up to date until ctx ends.
func (r *relations) follow(ctx context.Context, client *local.Client) error {
	for ctx.Err() == nil {
		view := client.View()
		events, err := client.Watch(ctx, pods, view.Revision())
		if err != nil {
			return err
		}
		for obj := range view.List(pods, "") {
			r.set(obj)
		}
		for batch := range events {
			for _, e := range batch {
				if e.Type == watch.Deleted {
					r.graph.Delete(e.Object.GetNamespace(), e.Object.GetName())
				} else {
					r.set(e.Object)
				}
			}
		}
	}
	return nil
}

func (r *relations) set(obj local.Object) {
	if pod, ok := obj.(*corev1.Pod); ok {
		r.graph.Set(pod)
	}
}

// authorizers are asked before RBAC.
func (r *relations) authorizers() []union.NamedAuthorizer {
	return []union.NamedAuthorizer{{AuthorizerName: "node", Authorizer: nodes.NewAuthorizer(r)}}
}
