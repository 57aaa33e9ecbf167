// Package endpointslice keeps, for each Service with a selector, EndpointSlices
// with the addresses of the pods that it selects and whether they are ready,
// serving or terminating. It knows Services, pods and the zones of nodes; how
// traffic gets there is another part's business.
//
//	c := endpointslice.New(endpointslice.Config{Client: client, Services: svcs, Nodes: nodes, Slices: slices, Pods: book})
//	err := c.Run(ctx)
package endpointslice

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"copepod/plane/controllers/api"
	"copepod/plane/controllers/cache"
	"copepod/plane/controllers/loop"
	"copepod/plane/controllers/pods"
)

// Client is what the controller asks of the cluster.
type Client interface {
	CreateAll(ctx context.Context, objs []api.Object) ([]api.Object, []error)
	Update(ctx context.Context, o api.Object) (api.Object, error)
	Delete(ctx context.Context, gr schema.GroupResource, namespace, name string, opts metav1.DeleteOptions) error
}

// Config is what a controller works with; every field but Loop is needed.
type Config struct {
	Client   Client
	Services *cache.Cache[*corev1.Service]
	Nodes    *cache.Cache[*corev1.Node]
	Slices   *cache.Cache[*discoveryv1.EndpointSlice]
	Pods     *pods.Book
	Loop     loop.Config
}

// Controller reconciles the slices of Services.
type Controller struct {
	Config
	*loop.Loop[types.NamespacedName]
	inNamespace *cache.Index[string, *corev1.Service]
	ofService   *cache.Index[types.NamespacedName, *discoveryv1.EndpointSlice]

	mu      sync.Mutex // guards written
	written map[types.UID]string
}

// Project keeps the slices that this controller manages and leaves out others.
func Project(o api.Object) (*discoveryv1.EndpointSlice, bool) {
	slice, ok := o.(*discoveryv1.EndpointSlice)
	return slice, ok && slice.Labels[discoveryv1.LabelManagedBy] == ManagedBy
}

// New subscribes to the caches, which must not run yet.
func New(cfg Config) *Controller {
	c := &Controller{Config: cfg, written: map[types.UID]string{}}
	c.Loop = loop.New(cfg.Loop, c.reconcile)
	c.inNamespace = cache.NewIndex(cfg.Services, func(s *corev1.Service) []string { return []string{s.Namespace} })
	c.ofService = cache.NewIndex(cfg.Slices, func(s *discoveryv1.EndpointSlice) []types.NamespacedName {
		return []types.NamespacedName{serviceOf(s)}
	})
	cfg.Services.OnChange(func(ch cache.Change[*corev1.Service]) { c.Add(ch.Key) })
	cfg.Slices.OnChange(c.sliceChanged)
	cfg.Pods.OnChange(c.podChanged)
	return c
}

func serviceOf(s *discoveryv1.EndpointSlice) types.NamespacedName {
	return types.NamespacedName{Namespace: s.Namespace, Name: s.Labels[discoveryv1.LabelServiceName]}
}

// sliceChanged repairs what others did to a slice; our own writes need no look.
func (c *Controller) sliceChanged(ch cache.Change[*discoveryv1.EndpointSlice]) {
	if !ch.HasNew {
		c.mu.Lock()
		delete(c.written, ch.Old.UID)
		c.mu.Unlock()
		c.Add(serviceOf(ch.Old))
		return
	}
	c.mu.Lock()
	own := c.written[ch.New.UID] == ch.New.ResourceVersion
	c.mu.Unlock()
	if !own {
		c.Add(serviceOf(ch.New))
	}
}

func (c *Controller) podChanged(ch cache.Change[*pods.Pod]) {
	if ch.HadOld && ch.HasNew && !matters(ch.Old, ch.New) {
		return
	}
	if c.inNamespace.Len(ch.Key.Namespace) == 0 {
		return
	}
	for _, svc := range c.inNamespace.List(ch.Key.Namespace) {
		sel := selectorOf(svc)
		if ch.HadOld && sel.Matches(ch.Old.Labels) || ch.HasNew && sel.Matches(ch.New.Labels) {
			c.Add(api.Key(svc))
		}
	}
}

// matters leaves out what no endpoint shows.
func matters(old, new *pods.Pod) bool {
	return old.UID != new.UID || old.Labels != new.Labels || old.Ready != new.Ready || old.Deleting != new.Deleting ||
		old.Terminal() != new.Terminal() || old.Node != new.Node || old.PortSet() != new.PortSet() ||
		!slices.Equal(old.IPs, new.IPs)
}

// selectorOf matches nothing when the Service has none or needs no slices: its
// user keeps the slices then.
func selectorOf(svc *corev1.Service) labels.Selector {
	if len(svc.Spec.Selector) == 0 || svc.Spec.Type == corev1.ServiceTypeExternalName {
		return labels.Nothing()
	}
	return labels.SelectorFromValidatedSet(svc.Spec.Selector)
}

// costly is how long a plan may take before its Service has to rest, four times
// as long: so the largest Services cost a fifth of one worker at most.
const costly = 2 * time.Millisecond

func (c *Controller) reconcile(ctx context.Context, key types.NamespacedName) (loop.Result, error) {
	svc, ok := c.Services.Get(key)
	if !ok || svc.DeletionTimestamp != nil || len(svc.Spec.Selector) == 0 || svc.Spec.Type == corev1.ServiceTypeExternalName {
		return loop.Result{}, nil // owned slices go with their Service
	}
	start := time.Now()
	s := plan(svc, c.Pods.Matching(key.Namespace, selectorOf(svc)), c.ofService.List(key), c.zone)
	took := time.Since(start)
	if err := c.act(ctx, s); err != nil {
		return loop.Result{}, fmt.Errorf("service %s: %w", key, err)
	}
	if took < costly {
		return loop.Result{}, nil
	}
	return loop.Result{Rest: 4 * took}, nil
}

func (c *Controller) zone(node string) string {
	if n, ok := c.Nodes.Get(types.NamespacedName{Name: node}); ok {
		return n.Labels[corev1.LabelTopologyZone]
	}
	return ""
}

func (c *Controller) act(ctx context.Context, s steps) error {
	if err := c.create(ctx, s.create); err != nil {
		return err
	}
	var g errgroup.Group
	g.SetLimit(16) // writes of one instant share a log entry
	for _, slice := range s.update {
		g.Go(func() error {
			o, err := c.Client.Update(ctx, slice)
			if err != nil {
				return fmt.Errorf("endpointslice %s: %w", slice.Name, err)
			}
			c.wrote(o)
			return nil
		})
	}
	for _, slice := range s.remove {
		g.Go(func() error {
			err := c.Client.Delete(ctx, api.EndpointSlices, slice.Namespace, slice.Name, metav1.DeleteOptions{Preconditions: metav1.NewUIDPreconditions(string(slice.UID))})
			if err != nil && !apierrors.IsNotFound(err) {
				return fmt.Errorf("endpointslice %s: %w", slice.Name, err)
			}
			return nil
		})
	}
	return g.Wait()
}

func (c *Controller) create(ctx context.Context, list []*discoveryv1.EndpointSlice) error {
	if len(list) == 0 {
		return nil
	}
	objs := make([]api.Object, len(list))
	for i, slice := range list {
		objs[i] = slice
	}
	made, errs := c.Client.CreateAll(ctx, objs)
	var first error
	for i, err := range errs {
		switch {
		case err == nil:
			c.wrote(made[i])
		case apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause):
		case first == nil:
			first = fmt.Errorf("create endpointslice: %w", err)
		}
	}
	return first
}

func (c *Controller) wrote(o api.Object) {
	c.mu.Lock()
	c.written[o.GetUID()] = o.GetResourceVersion()
	c.mu.Unlock()
	c.Slices.Put(o)
}
