// Package deployment rolls Deployments out: a ReplicaSet for each template, grown
// and shrunk step by step within maxSurge and maxUnavailable, with history,
// pause, proportional scaling and a progress deadline. It knows Deployments and
// ReplicaSets; pods only as a count that Recreate waits for.
//
// plan.go, rollout.go and status.go are pure: what to do is a function of the
// Deployment, its ReplicaSets and the time.
//
//	c := deployment.New(deployment.Config{Client: client, Deployments: ds, ReplicaSets: sets, Pods: book, Events: recorder})
//	err := c.Run(ctx)
package deployment

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

// Kind is what owner references of ReplicaSets call a Deployment.
var Kind = appsv1.SchemeGroupVersion.WithKind("Deployment")

// Client is what the controller asks of the cluster.
type Client interface {
	Create(ctx context.Context, o api.Object) (api.Object, error)
	Update(ctx context.Context, o api.Object) (api.Object, error)
	UpdateStatus(ctx context.Context, o api.Object) (api.Object, error)
	Modify(ctx context.Context, gr schema.GroupResource, namespace, name, subresource string, change func(api.Object) error) (api.Object, error)
	Delete(ctx context.Context, gr schema.GroupResource, namespace, name string, opts metav1.DeleteOptions) error
}

// Recorder takes events.
type Recorder interface {
	Event(on corev1.ObjectReference, kind, reason, format string, args ...any)
}

// Config is what a controller works with; every field but Loop is needed.
type Config struct {
	Client      Client
	Deployments *cache.Cache[*appsv1.Deployment]
	ReplicaSets *cache.Cache[*appsv1.ReplicaSet]
	Pods        *pods.Book
	Events      Recorder
	Loop        loop.Config
}

// Controller reconciles Deployments.
type Controller struct {
	Config
	*loop.Loop[types.NamespacedName]
	sets        *cache.Index[family, *appsv1.ReplicaSet]
	inNamespace *cache.Index[string, *appsv1.Deployment]
}

// family groups ReplicaSets by their controller; "" are those without one.
type family struct {
	namespace string
	owner     types.UID
}

func familyOf(rs *appsv1.ReplicaSet) family {
	f := family{namespace: rs.Namespace}
	if ref := metav1.GetControllerOfNoCopy(rs); ref != nil {
		f.owner = ref.UID
	}
	return f
}

// New subscribes to the caches, which must not run yet.
func New(cfg Config) *Controller {
	c := &Controller{Config: cfg}
	c.Loop = loop.New(cfg.Loop, c.reconcile)
	c.sets = cache.NewIndex(cfg.ReplicaSets, func(rs *appsv1.ReplicaSet) []family { return []family{familyOf(rs)} })
	c.inNamespace = cache.NewIndex(cfg.Deployments, func(d *appsv1.Deployment) []string { return []string{d.Namespace} })
	cfg.Deployments.OnChange(func(ch cache.Change[*appsv1.Deployment]) { c.Add(ch.Key) })
	cfg.ReplicaSets.OnChange(func(ch cache.Change[*appsv1.ReplicaSet]) {
		if ch.HadOld {
			c.wake(ch.Old)
		}
		if ch.HasNew {
			c.wake(ch.New)
		}
	})
	cfg.Pods.OnChange(c.podGone)
	return c
}

func (c *Controller) wake(rs *appsv1.ReplicaSet) {
	if ref := metav1.GetControllerOfNoCopy(rs); ref != nil {
		if ref.Kind == Kind.Kind {
			c.Add(types.NamespacedName{Namespace: rs.Namespace, Name: ref.Name})
		}
		return
	}
	for _, d := range c.inNamespace.List(rs.Namespace) {
		if sel, err := selectorOf(d); err == nil && sel.Matches(labels.Set(rs.Labels)) {
			c.Add(api.Key(d))
		}
	}
}

// podGone wakes a Deployment that recreates: it waits for its last old pod.
func (c *Controller) podGone(ch cache.Change[*pods.Pod]) {
	if !ch.HadOld || ch.Old.Terminal() || (ch.HasNew && !ch.New.Terminal()) {
		return
	}
	rs, ok := c.ReplicaSets.Get(types.NamespacedName{Namespace: ch.Key.Namespace, Name: ch.Old.Owner().Name})
	if !ok || rs.UID != ch.Old.Owner().UID {
		return
	}
	ref := metav1.GetControllerOfNoCopy(rs)
	if ref == nil {
		return
	}
	key := types.NamespacedName{Namespace: ch.Key.Namespace, Name: ref.Name}
	if d, ok := c.Deployments.Get(key); ok && !rolling(d) {
		c.Add(key)
	}
}

func selectorOf(d *appsv1.Deployment) (labels.Selector, error) {
	sel, err := metav1.LabelSelectorAsSelector(d.Spec.Selector)
	if err != nil {
		return nil, fmt.Errorf("deployment %s/%s: selector: %w", d.Namespace, d.Name, err)
	}
	if sel.Empty() {
		return labels.Nothing(), nil
	}
	return sel, nil
}

func (c *Controller) reconcile(ctx context.Context, key types.NamespacedName) (loop.Result, error) {
	d, ok := c.Deployments.Get(key)
	if !ok || d.Spec.Replicas == nil {
		return loop.Result{}, nil
	}
	sel, err := selectorOf(d)
	if err != nil {
		return loop.Result{}, err
	}
	if err := c.claim(ctx, d, sel); err != nil {
		return loop.Result{}, err
	}
	s := plan(situation{
		deployment: d, sets: c.sets.List(family{d.Namespace, d.UID}), now: time.Now(),
		pods: func(rs *appsv1.ReplicaSet) int { return c.Pods.Count(rs.UID).Present },
	})
	if err := c.act(ctx, d, s); err != nil {
		return loop.Result{}, fmt.Errorf("deployment %s: %w", key, err)
	}
	return loop.Result{After: s.after}, nil
}

// claim adopts ReplicaSets that have no controller and match, and lets go of
// those that do not match any longer.
func (c *Controller) claim(ctx context.Context, d *appsv1.Deployment, sel labels.Selector) error {
	if d.DeletionTimestamp != nil {
		return nil
	}
	for _, rs := range c.sets.List(family{d.Namespace, ""}) {
		if rs.DeletionTimestamp != nil || !sel.Matches(labels.Set(rs.Labels)) {
			continue
		}
		if err := c.changeSet(ctx, rs, func(o api.Object) {
			if metav1.GetControllerOfNoCopy(o) == nil {
				o.SetOwnerReferences(append(o.GetOwnerReferences(), *metav1.NewControllerRef(d, Kind)))
			}
		}); err != nil {
			return fmt.Errorf("deployment %s/%s: adopt replicaset %s: %w", d.Namespace, d.Name, rs.Name, err)
		}
	}
	for _, rs := range c.sets.List(family{d.Namespace, d.UID}) {
		if rs.DeletionTimestamp != nil || sel.Matches(labels.Set(rs.Labels)) {
			continue
		}
		if err := c.changeSet(ctx, rs, func(o api.Object) {
			var rest []metav1.OwnerReference
			for _, ref := range o.GetOwnerReferences() {
				if ref.UID != d.UID {
					rest = append(rest, ref)
				}
			}
			o.SetOwnerReferences(rest)
		}); err != nil {
			return fmt.Errorf("deployment %s/%s: release replicaset %s: %w", d.Namespace, d.Name, rs.Name, err)
		}
	}
	return nil
}

// errReplaced stops a change of an object whose name another one has taken.
var errReplaced = errors.New("another replicaset has its name now")

func (c *Controller) changeSet(ctx context.Context, rs *appsv1.ReplicaSet, change func(api.Object)) error {
	o, err := c.Client.Modify(ctx, api.ReplicaSets, rs.Namespace, rs.Name, "", func(o api.Object) error {
		if o.GetUID() != rs.UID {
			return errReplaced
		}
		change(o)
		return nil
	})
	if apierrors.IsNotFound(err) || errors.Is(err, errReplaced) {
		return nil
	}
	if err == nil {
		c.ReplicaSets.Put(o)
	}
	return err
}

// act carries out the steps; the first failure ends it and the next reconcile
// plans again from what came about.
func (c *Controller) act(ctx context.Context, d *appsv1.Deployment, s steps) error {
	on := record.Reference(d, Kind)
	if s.create != nil {
		if err := c.create(ctx, d, s.create); err != nil {
			return err
		}
	}
	for _, rs := range s.update {
		o, err := c.Client.Update(ctx, rs)
		if err != nil {
			return fmt.Errorf("replicaset %s: %w", rs.Name, err)
		}
		c.ReplicaSets.Put(o)
	}
	for _, e := range s.events {
		c.Events.Event(on, corev1.EventTypeNormal, e.reason, "%s", e.message)
	}
	for _, rs := range s.remove {
		err := c.Client.Delete(ctx, api.ReplicaSets, rs.Namespace, rs.Name, metav1.DeleteOptions{Preconditions: metav1.NewUIDPreconditions(string(rs.UID))})
		if err != nil && !apierrors.IsNotFound(err) {
			return fmt.Errorf("replicaset %s: %w", rs.Name, err)
		}
	}
	return c.report(ctx, d, s)
}

// report writes the revision, which lives in an annotation, and the status.
func (c *Controller) report(ctx context.Context, d *appsv1.Deployment, s steps) error {
	if s.revision != "" {
		o, err := c.Client.Modify(ctx, api.Deployments, d.Namespace, d.Name, "", func(o api.Object) error {
			a := o.GetAnnotations()
			if a == nil {
				a = map[string]string{}
			}
			a[annotationRevision] = s.revision
			o.SetAnnotations(a)
			return nil
		})
		if err != nil {
			return fmt.Errorf("revision: %w", err)
		}
		d = o.(*appsv1.Deployment)
		c.Deployments.Put(o)
	}
	if equality.Semantic.DeepEqual(d.Status, s.status) {
		return nil
	}
	written := *d
	written.Status = s.status
	return c.writeStatus(ctx, &written)
}

func (c *Controller) writeStatus(ctx context.Context, d *appsv1.Deployment) error {
	o, err := c.Client.UpdateStatus(ctx, d)
	if err != nil {
		return fmt.Errorf("status: %w", err)
	}
	c.Deployments.Put(o)
	return nil
}

// create makes the fresh ReplicaSet. A name that something else has taken is a
// collision of hashes: it is counted in the status, which changes the next name.
func (c *Controller) create(ctx context.Context, d *appsv1.Deployment, rs *appsv1.ReplicaSet) error {
	o, err := c.Client.Create(ctx, rs)
	switch {
	case err == nil:
		c.ReplicaSets.Put(o)
		return nil
	case apierrors.IsAlreadyExists(err):
		return c.collided(ctx, d, rs, err)
	case apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause):
		return err
	}
	reason, message := "ReplicaSetCreateError", fmt.Sprintf("Failed to create new replica set %q: %v", rs.Name, err)
	c.Events.Event(record.Reference(d, Kind), corev1.EventTypeWarning, reason, "%s", message)
	if hasDeadline(d) {
		now := metav1.Now()
		d = d.DeepCopy()
		set(&d.Status, appsv1.DeploymentCondition{
			Type: appsv1.DeploymentProgressing, Status: corev1.ConditionFalse, Reason: reason, Message: message,
			LastUpdateTime: now, LastTransitionTime: now,
		})
		return errors.Join(fmt.Errorf("create replicaset %s: %w", rs.Name, err), c.writeStatus(ctx, d))
	}
	return fmt.Errorf("create replicaset %s: %w", rs.Name, err)
}

func (c *Controller) collided(ctx context.Context, d *appsv1.Deployment, rs *appsv1.ReplicaSet, conflict error) error {
	if known, ok := c.ReplicaSets.Get(api.Key(rs)); ok {
		ref := metav1.GetControllerOfNoCopy(known)
		if ref != nil && ref.UID == d.UID && sameTemplate(&known.Spec.Template, &d.Spec.Template) {
			return nil // made by an earlier reconcile
		}
		d = d.DeepCopy()
		if d.Status.CollisionCount == nil {
			d.Status.CollisionCount = new(int32)
		}
		*d.Status.CollisionCount++
		if err := c.writeStatus(ctx, d); err != nil {
			return err
		}
	}
	return fmt.Errorf("create replicaset %s: %w", rs.Name, conflict)
}
