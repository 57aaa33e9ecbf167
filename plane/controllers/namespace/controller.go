// Package namespace empties namespaces that are being deleted and lets them go:
// pods first, then everything else, then the finalizer. While something is left,
// conditions on the namespace say what. It knows resources as rows of a table and
// nothing of their kinds.
//
//	c := namespace.New(namespace.Config{Client: client, Namespaces: nss, Pods: book})
//	err := c.Run(ctx)
package namespace

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"copepod/plane/controllers/api"
	"copepod/plane/controllers/cache"
	"copepod/plane/controllers/loop"
	"copepod/plane/controllers/pods"
)

// Client is what the controller asks of the cluster.
type Client interface {
	View() api.View
	DeleteAll(ctx context.Context, gr schema.GroupResource, names []types.NamespacedName, opts metav1.DeleteOptions) []error
	Modify(ctx context.Context, gr schema.GroupResource, namespace, name, subresource string, change func(api.Object) error) (api.Object, error)
}

// Config is what a controller works with; every field but Resources and Loop is
// needed.
type Config struct {
	Client     Client
	Namespaces *cache.Cache[*corev1.Namespace]
	Pods       *pods.Book
	// Resources are those that a namespace may hold; default api.Resources.
	Resources []api.Resource
	Loop      loop.Config
}

// Controller reconciles namespaces, keyed by name.
type Controller struct {
	Config
	*loop.Loop[string]
}

// New subscribes to the caches, which must not run yet.
func New(cfg Config) *Controller {
	if cfg.Resources == nil {
		cfg.Resources = api.Resources()
	}
	c := &Controller{Config: cfg}
	c.Loop = loop.New(cfg.Loop, c.reconcile)
	cfg.Namespaces.OnChange(func(ch cache.Change[*corev1.Namespace]) {
		if ch.HasNew && ch.New.DeletionTimestamp != nil {
			c.Add(ch.Key.Name)
		}
	})
	cfg.Pods.OnChange(func(ch cache.Change[*pods.Pod]) {
		if ch.HasNew {
			return
		}
		if ns, ok := c.Namespaces.Get(types.NamespacedName{Name: ch.Key.Namespace}); ok && ns.DeletionTimestamp != nil {
			c.Add(ns.Name)
		}
	})
	return c
}

const (
	// gather is how long a namespace that is being emptied rests between looks.
	gather = 50 * time.Millisecond
	// poll is how often it is looked at when nothing tells of progress.
	poll = time.Second
	// batch bounds one deletion request.
	batch = 500
)

func (c *Controller) reconcile(ctx context.Context, name string) (loop.Result, error) {
	ns, ok := c.Namespaces.Get(types.NamespacedName{Name: name})
	if !ok || ns.DeletionTimestamp == nil {
		return loop.Result{}, nil
	}
	if !slices.Contains(ns.Spec.Finalizers, corev1.FinalizerKubernetes) {
		return loop.Result{}, nil // someone else's finalizer keeps it
	}
	left := c.empty(ctx, name)
	if err := c.report(ctx, ns, left); err != nil {
		return loop.Result{}, err
	}
	if len(left.refused) > 0 {
		return loop.Result{}, fmt.Errorf("namespace %s: %w", name, errors.Join(left.refused...))
	}
	if !left.empty() {
		return loop.Result{After: poll, Rest: gather}, nil
	}
	return loop.Result{}, c.letGo(ctx, ns)
}

// empty asks everything in the namespace to go and counts what is left. Other
// things wait for the pods, which may need them to stop well.
func (c *Controller) empty(ctx context.Context, name string) census {
	left := census{remaining: map[string]int{}, finalizers: map[string]int{}}
	c.sweep(ctx, name, api.Pods, &left)
	if !left.empty() || len(left.refused) > 0 {
		return left
	}
	for _, r := range c.Resources {
		if r.Namespaced && r.GroupResource != api.Pods {
			c.sweep(ctx, name, r.GroupResource, &left)
		}
	}
	return left
}

// sweep deletes the objects of one resource.
func (c *Controller) sweep(ctx context.Context, namespace string, gr schema.GroupResource, left *census) {
	var names []types.NamespacedName
	for o := range c.Client.View().List(gr, namespace) {
		if o.GetDeletionTimestamp() == nil {
			names = append(names, api.Key(o))
		}
	}
	background := metav1.DeletePropagationBackground
	for part := range slices.Chunk(names, batch) {
		for _, err := range c.Client.DeleteAll(ctx, gr, part, metav1.DeleteOptions{PropagationPolicy: &background}) {
			if err != nil && !apierrors.IsNotFound(err) {
				left.refused = append(left.refused, err)
				break
			}
		}
	}
	for o := range c.Client.View().List(gr, namespace) {
		left.remaining[gr.String()]++
		for _, f := range o.GetFinalizers() {
			left.finalizers[f]++
		}
	}
}

func (c *Controller) report(ctx context.Context, ns *corev1.Namespace, left census) error {
	next := conditions(ns.Status.Conditions, left, time.Now())
	if ns.Status.Phase == corev1.NamespaceTerminating && equality.Semantic.DeepEqual(next, ns.Status.Conditions) {
		return nil
	}
	return c.modify(ctx, ns, "status", func(n *corev1.Namespace) {
		n.Status.Phase, n.Status.Conditions = corev1.NamespaceTerminating, next
	})
}

// letGo takes the finalizer off; the API server then removes the namespace.
func (c *Controller) letGo(ctx context.Context, ns *corev1.Namespace) error {
	return c.modify(ctx, ns, "finalize", func(n *corev1.Namespace) {
		n.Spec.Finalizers = slices.DeleteFunc(slices.Clone(n.Spec.Finalizers), func(f corev1.FinalizerName) bool { return f == corev1.FinalizerKubernetes })
	})
}

// errReplaced stops a change of a namespace whose name another one has taken.
var errReplaced = errors.New("another namespace has its name now")

func (c *Controller) modify(ctx context.Context, ns *corev1.Namespace, subresource string, change func(*corev1.Namespace)) error {
	_, err := c.Client.Modify(ctx, api.Namespaces, "", ns.Name, subresource, func(o api.Object) error {
		if o.GetUID() != ns.UID {
			return errReplaced
		}
		change(o.(*corev1.Namespace))
		return nil
	})
	if err == nil || apierrors.IsNotFound(err) || errors.Is(err, errReplaced) {
		return nil
	}
	return fmt.Errorf("namespace %s: %s: %w", ns.Name, subresource, err)
}
