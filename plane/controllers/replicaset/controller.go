// Package replicaset keeps the number of pods that each ReplicaSet asks for. It
// adopts pods that a ReplicaSet matches, lets go of those it does not, creates
// and deletes in batches, and reports the count. It knows ReplicaSets and pods;
// it has never heard of what made the ReplicaSet, save to spread a deletion over
// the pods of its siblings.
//
//	c := replicaset.New(replicaset.Config{Client: client, ReplicaSets: sets, Pods: book, Events: recorder})
//	err := c.Run(ctx)
package replicaset

import (
	"context"
	"errors"
	"fmt"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"copepod/plane/controllers/api"
	"copepod/plane/controllers/cache"
	"copepod/plane/controllers/loop"
	"copepod/plane/controllers/pods"
	"copepod/plane/controllers/record"
)

// Kind is what owner references of pods call a ReplicaSet.
var Kind = appsv1.SchemeGroupVersion.WithKind("ReplicaSet")

// Client is what the controller asks of the cluster.
type Client interface {
	CreateAll(ctx context.Context, objs []api.Object) ([]api.Object, []error)
	DeleteAll(ctx context.Context, gr schema.GroupResource, names []types.NamespacedName, opts metav1.DeleteOptions) []error
	UpdateStatus(ctx context.Context, o api.Object) (api.Object, error)
	Modify(ctx context.Context, gr schema.GroupResource, namespace, name, subresource string, change func(api.Object) error) (api.Object, error)
}

// Recorder takes events.
type Recorder interface {
	Event(on corev1.ObjectReference, kind, reason, format string, args ...any)
}

// Config is what a controller works with; every field but Loop is needed.
type Config struct {
	Client      Client
	ReplicaSets *cache.Cache[*appsv1.ReplicaSet]
	Pods        *pods.Book
	Events      Recorder
	Loop        loop.Config
}

// Controller reconciles ReplicaSets.
type Controller struct {
	Config
	*loop.Loop[types.NamespacedName]
	siblings    *cache.Index[types.UID, *appsv1.ReplicaSet]
	inNamespace *cache.Index[string, *appsv1.ReplicaSet]
}

// New subscribes to the caches, which must not run yet.
func New(cfg Config) *Controller {
	c := &Controller{Config: cfg}
	c.Loop = loop.New(cfg.Loop, c.reconcile)
	c.siblings = cache.NewIndex(cfg.ReplicaSets, func(rs *appsv1.ReplicaSet) []types.UID {
		if ref := metav1.GetControllerOfNoCopy(rs); ref != nil {
			return []types.UID{ref.UID}
		}
		return nil
	})
	c.inNamespace = cache.NewIndex(cfg.ReplicaSets, func(rs *appsv1.ReplicaSet) []string { return []string{rs.Namespace} })
	cfg.ReplicaSets.OnChange(func(ch cache.Change[*appsv1.ReplicaSet]) { c.Add(ch.Key) })
	cfg.Pods.OnChange(c.podChanged)
	return c
}

// podChanged wakes the owners of a pod before and after a change.
func (c *Controller) podChanged(ch cache.Change[*pods.Pod]) {
	if ch.HadOld && ch.HasNew && !matters(ch.Old, ch.New) {
		return
	}
	if ch.HadOld {
		c.wake(ch.Old)
	}
	if ch.HasNew && (!ch.HadOld || ch.Old.Owner() != ch.New.Owner() || ch.New.Owner().UID == "") {
		c.wake(ch.New)
	}
}

// matters leaves out what no ReplicaSet counts, such as the node or addresses.
func matters(old, new *pods.Pod) bool {
	return old.UID != new.UID || old.Labels != new.Labels || old.Owner() != new.Owner() || old.Phase != new.Phase ||
		old.Ready != new.Ready || !old.ReadySince.Equal(new.ReadySince) || old.Deleting != new.Deleting
}

func (c *Controller) wake(p *pods.Pod) {
	owner := p.Owner()
	switch {
	case owner.Kind == Kind.Kind:
		c.Add(types.NamespacedName{Namespace: p.Key.Namespace, Name: owner.Name})
	case owner.UID == "" && p.Active():
		for _, rs := range c.inNamespace.List(p.Key.Namespace) {
			if sel, err := selectorOf(rs); err == nil && sel.Matches(p.Labels) {
				c.Add(api.Key(rs))
			}
		}
	}
}

// selectorOf refuses the empty selector, which would match every pod.
func selectorOf(rs *appsv1.ReplicaSet) (labels.Selector, error) {
	sel, err := metav1.LabelSelectorAsSelector(rs.Spec.Selector)
	if err != nil {
		return nil, fmt.Errorf("replicaset %s/%s: selector: %w", rs.Namespace, rs.Name, err)
	}
	if sel.Empty() {
		return labels.Nothing(), nil
	}
	return sel, nil
}

func (c *Controller) reconcile(ctx context.Context, key types.NamespacedName) (loop.Result, error) {
	rs, ok := c.ReplicaSets.Get(key)
	if !ok || rs.Spec.Replicas == nil {
		return loop.Result{}, nil
	}
	sel, err := selectorOf(rs)
	if err != nil {
		return loop.Result{}, err
	}
	if err := c.claim(ctx, rs, sel); err != nil {
		return loop.Result{}, err
	}
	failure := c.scale(ctx, rs)
	after, err := c.report(ctx, rs, failure)
	return loop.Result{After: after}, errors.Join(failure, err)
}

// claim settles which pods are the ReplicaSet's.
func (c *Controller) claim(ctx context.Context, rs *appsv1.ReplicaSet, sel labels.Selector) error {
	strays := c.Pods.Strays(rs.Namespace, sel)
	var own []*pods.Pod
	if strayed(sel, c.Pods.Count(rs.UID)) {
		own = c.Pods.Owned(rs.UID)
	}
	adopt, release := claims(rs, sel, strays, own)
	for _, p := range adopt {
		if err := c.adopt(ctx, rs, sel, p); err != nil {
			return fmt.Errorf("replicaset %s/%s: adopt pod %s: %w", rs.Namespace, rs.Name, p.Key.Name, err)
		}
	}
	for _, p := range release {
		if err := c.release(ctx, rs, p); err != nil {
			return fmt.Errorf("replicaset %s/%s: release pod %s: %w", rs.Namespace, rs.Name, p.Key.Name, err)
		}
	}
	return nil
}

func (c *Controller) adopt(ctx context.Context, rs *appsv1.ReplicaSet, sel labels.Selector, p *pods.Pod) error {
	return c.changePod(ctx, p, func(o api.Object) {
		if metav1.GetControllerOfNoCopy(o) == nil && sel.Matches(labels.Set(o.GetLabels())) {
			o.SetOwnerReferences(append(o.GetOwnerReferences(), *metav1.NewControllerRef(rs, Kind)))
		}
	})
}

func (c *Controller) release(ctx context.Context, rs *appsv1.ReplicaSet, p *pods.Pod) error {
	return c.changePod(ctx, p, func(o api.Object) {
		var rest []metav1.OwnerReference
		for _, ref := range o.GetOwnerReferences() {
			if ref.UID != rs.UID {
				rest = append(rest, ref)
			}
		}
		o.SetOwnerReferences(rest)
	})
}

// errReplaced stops a change of a pod whose name another pod has taken.
var errReplaced = errors.New("another pod has its name now")

func (c *Controller) changePod(ctx context.Context, p *pods.Pod, change func(api.Object)) error {
	o, err := c.Client.Modify(ctx, api.Pods, p.Key.Namespace, p.Key.Name, "", func(o api.Object) error {
		if o.GetUID() != p.UID || o.GetDeletionTimestamp() != nil {
			return errReplaced
		}
		change(o)
		return nil
	})
	if apierrors.IsNotFound(err) || errors.Is(err, errReplaced) {
		return nil
	}
	if err == nil {
		c.Pods.Put(o)
	}
	return err
}

// scale creates or deletes what is missing or too many. Its error becomes the
// condition ReplicaFailure.
func (c *Controller) scale(ctx context.Context, rs *appsv1.ReplicaSet) error {
	switch n := missing(rs, c.Pods.Count(rs.UID)); {
	case n > 0:
		return c.create(ctx, rs, n)
	case n < 0:
		return c.delete(ctx, rs, victims(c.Pods.Owned(rs.UID), c.related(rs), -n, time.Now()))
	}
	return nil
}

func (c *Controller) create(ctx context.Context, rs *appsv1.ReplicaSet, n int) error {
	batch := make([]api.Object, n)
	for i := range batch {
		batch[i] = pod(rs)
	}
	made, errs := c.Client.CreateAll(ctx, batch)
	ok := make([]api.Object, 0, n)
	failures := map[string]error{} // by text: a quota refuses every pod in the same words
	for i, err := range errs {
		switch {
		case err == nil:
			ok = append(ok, made[i])
		case apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause):
		default:
			failures[err.Error()] = err
		}
	}
	c.Pods.Put(ok...)
	on := record.Reference(rs, Kind)
	for _, o := range ok {
		c.Events.Event(on, corev1.EventTypeNormal, "SuccessfulCreate", "Created pod: %s", o.GetName())
	}
	return c.failed(on, "FailedCreate", "Error creating: %v", failures)
}

func (c *Controller) delete(ctx context.Context, rs *appsv1.ReplicaSet, list []*pods.Pod) error {
	names := make([]types.NamespacedName, len(list))
	for i, p := range list {
		names[i] = p.Key
	}
	on := record.Reference(rs, Kind)
	failures := map[string]error{}
	for i, err := range c.Client.DeleteAll(ctx, api.Pods, names, metav1.DeleteOptions{}) {
		switch {
		case err == nil:
			c.Pods.Doom(list[i].Key, list[i].UID)
			c.Events.Event(on, corev1.EventTypeNormal, "SuccessfulDelete", "Deleted pod: %s", list[i].Key.Name)
		case apierrors.IsNotFound(err):
			c.Pods.Doom(list[i].Key, list[i].UID)
		default:
			failures[err.Error()] = err
		}
	}
	return c.failed(on, "FailedDelete", "Error deleting: %v", failures)
}

// failed reports each distinct failure once and returns one of them.
func (c *Controller) failed(on corev1.ObjectReference, reason, format string, failures map[string]error) error {
	var first error
	for _, err := range failures {
		c.Events.Event(on, corev1.EventTypeWarning, reason, format, err)
		if first == nil || err.Error() < first.Error() {
			first = err
		}
	}
	return first
}

// related counts active pods by node over the ReplicaSet and its siblings.
func (c *Controller) related(rs *appsv1.ReplicaSet) map[string]int {
	family := []*appsv1.ReplicaSet{rs}
	if ref := metav1.GetControllerOfNoCopy(rs); ref != nil {
		family = c.siblings.List(ref.UID)
	}
	counts := map[string]int{}
	for _, member := range family {
		for _, p := range c.Pods.Owned(member.UID) {
			if p.Active() {
				counts[p.Node]++
			}
		}
	}
	return counts
}

// report writes the status if it changed.
func (c *Controller) report(ctx context.Context, rs *appsv1.ReplicaSet, failure error) (time.Duration, error) {
	var own []*pods.Pod
	if rs.Spec.MinReadySeconds > 0 {
		own = c.Pods.Owned(rs.UID)
	}
	next, after := status(rs, c.Pods.Count(rs.UID), own, failure, time.Now())
	if equality.Semantic.DeepEqual(next, rs.Status) {
		return after, nil
	}
	written := *rs
	written.Status = next
	o, err := c.Client.UpdateStatus(ctx, &written)
	if apierrors.IsNotFound(err) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("replicaset %s/%s: status: %w", rs.Namespace, rs.Name, err)
	}
	c.ReplicaSets.Put(o)
	return after, nil
}
