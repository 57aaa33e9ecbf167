package node

import (
	"context"
	"sync"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"
)

// follow hands the pods of this node to their manager as they come and go.
func (n *Node) follow(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	told := make(chan struct{})
	wg.Go(func() { n.wait(ctx, told) })
	select {
	case <-ctx.Done():
		return nil
	case <-n.registered:
	}
	if !n.awaitRange(ctx) { // pods that had an address must find it free
		return nil
	}
	mine := fields.OneTermEqualSelector("spec.nodeName", n.cfg.Name).String()
	pods := n.api.CoreV1().Pods(metav1.NamespaceAll)
	_, informer := cache.NewInformerWithOptions(cache.InformerOptions{
		ListerWatcher: cache.ToListWatcherWithWatchListSemantics(&cache.ListWatch{
			ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
				o.FieldSelector = mine
				return pods.List(ctx, o)
			},
			WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
				o.FieldSelector = mine
				return pods.Watch(ctx, o)
			},
		}, n.api),
		ObjectType: &v1.Pod{},
		Transform:  slim,
		Handler: cache.ResourceEventHandlerFuncs{
			AddFunc: func(obj any) { n.set(obj) },
			UpdateFunc: func(old, obj any) {
				// A pod may have gone and another of its name come while we looked away.
				if a, b := old.(*v1.Pod), obj.(*v1.Pod); a.UID != b.UID {
					n.gone(a)
				}
				n.set(obj)
			},
			DeleteFunc: func(obj any) {
				if last, ok := obj.(cache.DeletedFinalStateUnknown); ok {
					obj = last.Obj
				}
				n.gone(obj.(*v1.Pod))
			},
		},
	})
	wg.Go(func() { informer.RunWithContext(ctx) })
	if !cache.WaitForCacheSync(ctx.Done(), informer.HasSynced) {
		return nil
	}
	close(told)
	n.synced()
	close(n.ready)
	n.log.Info("node is ready", "pods", len(n.pods.Pods()))
	return nil
}

// slim takes out of a pod what no node reads: a third of its size.
func slim(obj any) (any, error) {
	if m, ok := obj.(metav1.Object); ok {
		m.SetManagedFields(nil)
	}
	return obj, nil
}

// changed tells a pod that an object which it refers to has changed.
func (n *Node) changed(uid types.UID) { n.pods.Changed(uid) }
