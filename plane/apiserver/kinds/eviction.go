package kinds

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/registry/rest"
	"k8s.io/apiserver/pkg/util/dryrun"
)

// evictionStorage serves pods/eviction: a deletion that leaves a condition
// behind. Without disruption budgets nothing stands against it.
type evictionStorage struct{ pods *Resource }

func (e *evictionStorage) New() runtime.Object { return &policyv1.Eviction{} }
func (e *evictionStorage) Destroy()            {}

func (e *evictionStorage) GroupVersionKind(schema.GroupVersion) schema.GroupVersionKind {
	return policyv1.SchemeGroupVersion.WithKind("Eviction")
}

func (e *evictionStorage) Create(ctx context.Context, name string, obj runtime.Object, validate rest.ValidateObjectFunc,
	opts *metav1.CreateOptions) (runtime.Object, error) {
	eviction, ok := obj.(*policyv1.Eviction)
	if !ok {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("not a Eviction object: %T", obj))
	}
	if name != eviction.Name {
		return nil, apierrors.NewBadRequest("name in URL does not match name in Eviction object")
	}
	gk := policyv1.SchemeGroupVersion.WithKind("Eviction").GroupKind()
	if errs := rulesOf(gk).Create(eviction); len(errs) > 0 {
		return nil, apierrors.NewInvalid(gk, name, errs)
	}
	deleteOptions := &metav1.DeleteOptions{}
	if eviction.DeleteOptions != nil {
		deleteOptions = eviction.DeleteOptions.DeepCopy()
	}
	if dryrun.IsDryRun(opts.DryRun) {
		if len(deleteOptions.DryRun) > 0 && !dryrun.IsDryRun(deleteOptions.DryRun) {
			return nil, apierrors.NewBadRequest("Non-empty dry run options do not match")
		}
		deleteOptions.DryRun = opts.DryRun
	}
	if validate != nil {
		if err := validate(ctx, eviction.DeepCopyObject()); err != nil {
			return nil, err
		}
	}
	if !dryrun.IsDryRun(deleteOptions.DryRun) {
		if err := e.markDisrupted(ctx, name); err != nil {
			return nil, err
		}
	}
	if _, _, err := e.pods.Store.Delete(ctx, name, validateAll, deleteOptions); err != nil {
		return nil, err
	}
	return &metav1.Status{Status: metav1.StatusSuccess}, nil
}

// markDisrupted writes why the pod ends, for whoever looks at it while it does.
func (e *evictionStorage) markDisrupted(ctx context.Context, name string) error {
	condition := corev1.PodCondition{
		Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue,
		Reason: "EvictionByEvictionAPI", Message: "Eviction API: evicting",
	}
	info := rest.DefaultUpdatedObjectInfo(nil, func(_ context.Context, _, old runtime.Object) (runtime.Object, error) {
		pod := old.DeepCopyObject().(*corev1.Pod)
		if pod.Spec.NodeName != "" && pod.Status.Phase != corev1.PodSucceeded && pod.Status.Phase != corev1.PodFailed {
			setPodCondition(pod, condition)
		}
		return pod, nil
	})
	_, _, err := e.pods.Parts["status"].Update(ctx, name, info, validateAll,
		func(context.Context, runtime.Object, runtime.Object) error { return nil }, false, &metav1.UpdateOptions{})
	return err
}
