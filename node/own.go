package node

import (
	"context"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"
)

// heed follows the node's own object. The plane writes there when it takes the
// node for lost; a node that lives says so at once, and not with its next status.
func (n *Node) heed(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case <-n.registered:
	}
	mine := fields.OneTermEqualSelector(metav1.ObjectNameField, n.cfg.Name).String()
	nodes := n.api.CoreV1().Nodes()
	see := func(obj any) {
		if node, ok := obj.(*v1.Node); ok && node.Name == n.cfg.Name {
			n.offer(node)
			n.doubted.Store(writtenOff(node))
			if n.doubted.Load() {
				n.poke()
			}
		}
	}
	_, informer := cache.NewInformerWithOptions(cache.InformerOptions{
		ListerWatcher: cache.ToListWatcherWithWatchListSemantics(&cache.ListWatch{
			ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
				o.FieldSelector = mine
				return nodes.List(ctx, o)
			},
			WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
				o.FieldSelector = mine
				return nodes.Watch(ctx, o)
			},
		}, n.api),
		ObjectType: &v1.Node{},
		Transform:  slim,
		Handler:    cache.ResourceEventHandlerFuncs{AddFunc: see, UpdateFunc: func(_, obj any) { see(obj) }},
	})
	informer.RunWithContext(ctx)
	return nil
}

// writtenOff says that the plane does not know how the node is. A node never
// writes that itself.
func writtenOff(node *v1.Node) bool {
	for i := range node.Status.Conditions {
		if c := &node.Status.Conditions[i]; c.Type == v1.NodeReady {
			return c.Status == v1.ConditionUnknown
		}
	}
	return false
}

// poke ends the wait of beat.
func (n *Node) poke() {
	select {
	case n.poked <- struct{}{}:
	default:
	}
}
