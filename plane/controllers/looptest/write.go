package looptest

import (
	"context"
	"errors"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"copepod/plane/controllers/api"
)

// Create adds one object.
func (a *API) Create(ctx context.Context, o api.Object) (api.Object, error) {
	objs, errs := a.CreateAll(ctx, []api.Object{o})
	return objs[0], errs[0]
}

// CreateAll adds objects, each with its own answer.
func (a *API) CreateAll(_ context.Context, objs []api.Object) ([]api.Object, []error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.entries++
	made, errs := make([]api.Object, len(objs)), make([]error, len(objs))
	for i, o := range objs {
		made[i], errs[i] = a.create(o)
	}
	return made, errs
}

func (a *API) create(o api.Object) (api.Object, error) {
	gr := resourceOf(o)
	if err := a.refuse("create", o); err != nil {
		return nil, err
	}
	a.serial++
	name := a.name(o)
	if _, err := a.get(gr, o.GetNamespace(), name); err == nil {
		return nil, apierrors.NewAlreadyExists(gr, name)
	}
	if ns, ok := a.table(api.Namespaces).Get(path("", o.GetNamespace())); ok && ns.GetDeletionTimestamp() != nil {
		err := apierrors.NewForbidden(gr, name, errors.New("namespace is being terminated"))
		err.ErrStatus.Details.Causes = append(err.ErrStatus.Details.Causes, metav1.StatusCause{Type: corev1.NamespaceTerminatingCause})
		return nil, err
	}
	o = o.DeepCopyObject().(api.Object)
	o.SetName(name)
	o.SetUID(uid(a.serial))
	if c := o.GetCreationTimestamp(); c.IsZero() {
		o.SetCreationTimestamp(*now())
	}
	if field(o, "Spec").IsValid() {
		o.SetGeneration(1)
	}
	switch o := o.(type) {
	case *corev1.Pod:
		if o.Status.Phase == "" {
			o.Status.Phase = corev1.PodPending
		}
	case *corev1.Namespace:
		o.Spec.Finalizers = []corev1.FinalizerName{corev1.FinalizerKubernetes}
		o.Status.Phase = corev1.NamespaceActive
	}
	return a.commit(gr, o, nil), nil
}

// Update writes everything but the status.
func (a *API) Update(_ context.Context, o api.Object) (api.Object, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.entries++
	return a.update(o, "")
}

// UpdateStatus writes the status only.
func (a *API) UpdateStatus(ctx context.Context, o api.Object) (api.Object, error) {
	objs, errs := a.UpdateStatusAll(ctx, []api.Object{o})
	return objs[0], errs[0]
}

// UpdateStatusAll writes statuses, each with its own answer.
func (a *API) UpdateStatusAll(_ context.Context, objs []api.Object) ([]api.Object, []error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.entries++
	done, errs := make([]api.Object, len(objs)), make([]error, len(objs))
	for i, o := range objs {
		done[i], errs[i] = a.update(o, "status")
	}
	return done, errs
}

func (a *API) update(o api.Object, subresource string) (api.Object, error) {
	gr := resourceOf(o)
	if err := a.refuse("update", o); err != nil {
		return nil, err
	}
	old, err := a.get(gr, o.GetNamespace(), o.GetName())
	if err != nil {
		return nil, err
	}
	if v := o.GetResourceVersion(); v != "" && v != old.GetResourceVersion() {
		return nil, apierrors.NewConflict(gr, o.GetName(), errors.New("the object has been modified; please apply your changes to the latest version and try again"))
	}
	var next api.Object
	switch subresource {
	case "status":
		next = old.DeepCopyObject().(api.Object)
		keep(next, o.DeepCopyObject().(api.Object), "Status")
	default:
		next = o.DeepCopyObject().(api.Object)
		keep(next, old.DeepCopyObject().(api.Object), "Status")
	}
	next.SetUID(old.GetUID())
	next.SetCreationTimestamp(old.GetCreationTimestamp())
	next.SetDeletionTimestamp(old.GetDeletionTimestamp())
	next.SetGeneration(old.GetGeneration())
	next.SetResourceVersion(old.GetResourceVersion())
	if !sameSpec(next, old) {
		next.SetGeneration(old.GetGeneration() + 1)
	}
	if equal(next, old) {
		return old, nil
	}
	if next.GetDeletionTimestamp() != nil && finished(next) {
		return a.commit(gr, nil, old), nil
	}
	return a.commit(gr, next, old), nil
}

// finished tells whether nothing keeps a deleted object any longer. Pods stay
// until their node lets go.
func finished(o api.Object) bool {
	switch o := o.(type) {
	case *corev1.Namespace:
		return len(o.Finalizers) == 0 && len(o.Spec.Finalizers) == 0
	case *corev1.Pod:
		return len(o.Finalizers) == 0 && o.DeletionGracePeriodSeconds != nil && *o.DeletionGracePeriodSeconds == 0
	}
	return len(o.GetFinalizers()) == 0
}

// Modify reads, changes and writes, again on conflict.
func (a *API) Modify(_ context.Context, gr schema.GroupResource, namespace, name, subresource string, change func(api.Object) error) (api.Object, error) {
	for {
		a.mu.Lock()
		old, err := a.get(gr, namespace, name)
		a.mu.Unlock()
		if err != nil {
			return nil, err
		}
		next := old.DeepCopyObject().(api.Object)
		if err := change(next); err != nil {
			return nil, err
		}
		if equal(next, old) {
			return old, nil
		}
		a.mu.Lock()
		a.entries++
		o, err := a.update(next, subresource)
		a.mu.Unlock()
		if !apierrors.IsConflict(err) {
			return o, err
		}
	}
}

// Delete asks for one object to go.
func (a *API) Delete(_ context.Context, gr schema.GroupResource, namespace, name string, opts metav1.DeleteOptions) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.entries++
	return a.remove(gr, namespace, name, opts)
}

// DeleteAll asks for many objects to go, each with its own answer.
func (a *API) DeleteAll(_ context.Context, gr schema.GroupResource, names []types.NamespacedName, opts metav1.DeleteOptions) []error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.entries++
	errs := make([]error, len(names))
	for i, n := range names {
		errs[i] = a.remove(gr, n.Namespace, n.Name, opts)
	}
	return errs
}

func (a *API) remove(gr schema.GroupResource, namespace, name string, opts metav1.DeleteOptions) error {
	old, err := a.get(gr, namespace, name)
	if err != nil {
		return err
	}
	if err := a.refuse("delete", old); err != nil {
		return err
	}
	if p := opts.Preconditions; p != nil && p.UID != nil && *p.UID != old.GetUID() {
		return apierrors.NewConflict(gr, name, errors.New("the UID in the precondition does not match"))
	}
	next := old.DeepCopyObject().(api.Object)
	next.SetFinalizers(finalizersFor(next.GetFinalizers(), opts.PropagationPolicy))
	if next.GetDeletionTimestamp() == nil {
		next.SetDeletionTimestamp(now())
		next.SetGeneration(next.GetGeneration() + 1)
	}
	if pod, ok := next.(*corev1.Pod); ok {
		grace := graceOf(pod, opts)
		pod.DeletionGracePeriodSeconds = &grace
	}
	if ns, ok := next.(*corev1.Namespace); ok {
		ns.Status.Phase = corev1.NamespaceTerminating
	}
	if finished(next) {
		a.commit(gr, nil, old)
		return nil
	}
	next.SetGeneration(old.GetGeneration())
	if old.GetDeletionTimestamp() == nil || !equal(next, old) {
		a.commit(gr, next, old)
	}
	return nil
}

func graceOf(pod *corev1.Pod, opts metav1.DeleteOptions) int64 {
	switch {
	case pod.Spec.NodeName == "", pod.Status.Phase == corev1.PodSucceeded, pod.Status.Phase == corev1.PodFailed:
		return 0
	case opts.GracePeriodSeconds != nil:
		return *opts.GracePeriodSeconds
	case pod.Spec.TerminationGracePeriodSeconds != nil:
		return *pod.Spec.TerminationGracePeriodSeconds
	}
	return corev1.DefaultTerminationGracePeriodSeconds
}

func finalizersFor(list []string, policy *metav1.DeletionPropagation) []string {
	if policy == nil {
		return list
	}
	rest := slices.DeleteFunc(slices.Clone(list), func(f string) bool {
		return f == metav1.FinalizerOrphanDependents || f == metav1.FinalizerDeleteDependents
	})
	switch *policy {
	case metav1.DeletePropagationOrphan:
		return append(rest, metav1.FinalizerOrphanDependents)
	case metav1.DeletePropagationForeground:
		return append(rest, metav1.FinalizerDeleteDependents)
	}
	return rest
}

// BindAll puts pods on nodes, each with its own answer.
func (a *API) BindAll(_ context.Context, bindings []*corev1.Binding) []error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.entries++
	errs := make([]error, len(bindings))
	for i, b := range bindings {
		errs[i] = a.bind(b)
	}
	return errs
}

func (a *API) bind(b *corev1.Binding) error {
	old, err := a.get(api.Pods, b.Namespace, b.Name)
	if err != nil {
		return err
	}
	if err := a.refuse("bind", old); err != nil {
		return err
	}
	pod := old.(*corev1.Pod)
	if pod.Spec.NodeName != "" || pod.DeletionTimestamp != nil {
		return apierrors.NewConflict(api.Pods, pod.Name, errors.New("pod "+pod.Name+" is already assigned to node "+pod.Spec.NodeName))
	}
	a.commit(api.Pods, bound(pod.DeepCopy(), b.Target.Name), old)
	return nil
}
