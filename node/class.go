package node

import (
	"context"
	"fmt"

	nodev1 "k8s.io/api/node/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	kruntime "k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"

	"copepod/node/desired"
	"copepod/node/objects"
	"copepod/node/runtime"
)

// classes finds the runtime of a pod by its RuntimeClass (KEP-585). It follows
// them all, for there are few, so that no pod waits for an answer.
type classes struct {
	api      kubernetes.Interface
	wasm     runtime.Runtime
	kept     objects.Cache
	offline  func() bool
	store    cache.Store
	informer cache.Controller
}

// handlers are the names under which others run plain WASI programs; manifests
// written for them work here.
var handlers = map[string]bool{
	"wasm": true, "wasi": true, "wasmtime": true, "wasmedge": true, "wasmer": true, "wamr": true, "spin": true, "slight": true,
	"wasmtime-spin-v2": true, "io.containerd.wasmtime.v1": true, "io.containerd.wasmedge.v1": true, "io.containerd.wasmer.v1": true,
}

func newClasses(api kubernetes.Interface, wasm runtime.Runtime, kept objects.Cache, offline func() bool) *classes {
	c := &classes{api: api, wasm: wasm, kept: kept, offline: offline}
	client := api.NodeV1().RuntimeClasses()
	c.store, c.informer = cache.NewInformerWithOptions(cache.InformerOptions{
		ListerWatcher: cache.ToListWatcherWithWatchListSemantics(&cache.ListWatch{
			ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (kruntime.Object, error) {
				return client.List(ctx, o)
			},
			WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
				return client.Watch(ctx, o)
			},
		}, api),
		ObjectType: &nodev1.RuntimeClass{},
		Transform:  slim,
		Handler:    cache.ResourceEventHandlerFuncs{},
	})
	return c
}

// follow keeps the classes up to date until ctx ends.
func (c *classes) follow(ctx context.Context) error {
	c.informer.RunWithContext(ctx)
	return nil
}

// runtime is the runtime of a pod's runtimeClassName.
func (c *classes) runtime(ctx context.Context, class string) (runtime.Runtime, error) {
	if class == "" {
		return c.wasm, nil
	}
	rc, err := c.find(ctx, class)
	if err != nil {
		return nil, err
	}
	if handlers[rc.Handler] {
		return c.wasm, nil
	}
	if more, ok := c.wasm.(runtime.Handlers); ok {
		if rt, ok := more.Handler(rc.Handler); ok {
			return rt, nil
		}
	}
	return nil, fmt.Errorf("RuntimeClass %q: no runtime for handler %q is configured on this node, only wasm, wasm-cgi and wasm-http", class, rc.Handler)
}

// find is a class as the API has it, or, without the API, as it was when a pod
// asked for it last.
func (c *classes) find(ctx context.Context, class string) (*nodev1.RuntimeClass, error) {
	ref := objects.Ref{Kind: desired.RuntimeClass, Name: class}
	if obj, ok, _ := c.store.GetByKey(class); ok {
		c.kept.Save(ref, obj.(*nodev1.RuntimeClass))
		return obj.(*nodev1.RuntimeClass), nil
	}
	if c.offline() {
		if obj, ok := c.kept.Load(ref); ok {
			return obj.(*nodev1.RuntimeClass), nil
		}
	}
	rc, err := c.api.NodeV1().RuntimeClasses().Get(ctx, class, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		return nil, fmt.Errorf("RuntimeClass %q not found", class)
	case err != nil:
		return nil, fmt.Errorf("RuntimeClass %q: %w", class, err)
	}
	c.kept.Save(ref, rc)
	return rc, nil
}
