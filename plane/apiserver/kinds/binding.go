package kinds

import (
	"context"
	"fmt"
	"maps"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/registry/generic/registry"
	"k8s.io/apiserver/pkg/registry/rest"
	"k8s.io/apiserver/pkg/storage"
	storageerr "k8s.io/apiserver/pkg/storage/errors"
	"k8s.io/apiserver/pkg/util/dryrun"
)

// bindingStorage serves pods/binding: it gives a pod its node, once.
type bindingStorage struct{ store *registry.Store }

func (b *bindingStorage) New() runtime.Object   { return &corev1.Binding{} }
func (b *bindingStorage) Destroy()              {}
func (b *bindingStorage) NamespaceScoped() bool { return true }

func (b *bindingStorage) Create(ctx context.Context, name string, obj runtime.Object, validate rest.ValidateObjectFunc,
	opts *metav1.CreateOptions) (runtime.Object, error) {
	binding, ok := obj.(*corev1.Binding)
	if !ok {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("not a Binding object: %#v", obj))
	}
	if name != binding.Name {
		return nil, apierrors.NewBadRequest("name in URL does not match name in Binding object")
	}
	if err := CheckBinding(binding); err != nil {
		return nil, err
	}
	if validate != nil {
		if err := validate(ctx, binding.DeepCopyObject()); err != nil {
			return nil, err
		}
	}
	key, err := b.store.KeyFunc(ctx, name)
	if err != nil {
		return nil, err
	}
	var preconditions *storage.Preconditions
	if binding.UID != "" || binding.ResourceVersion != "" {
		preconditions = &storage.Preconditions{}
		if binding.UID != "" {
			preconditions.UID = &binding.UID
		}
		if binding.ResourceVersion != "" {
			preconditions.ResourceVersion = &binding.ResourceVersion
		}
	}
	err = b.store.Storage.GuaranteedUpdate(ctx, key, &corev1.Pod{}, false, preconditions,
		storage.SimpleUpdate(func(obj runtime.Object) (runtime.Object, error) {
			pod := obj.(*corev1.Pod)
			if err := Bind(pod, binding); err != nil {
				return nil, err
			}
			return pod, nil
		}), dryrun.IsDryRun(opts.DryRun), nil)
	if err != nil {
		return nil, BindingError(err, name)
	}
	return &metav1.Status{Status: metav1.StatusSuccess}, nil
}

// PreserveRequestObjectMetaSystemFieldsOnSubresourceCreate keeps the UID of a
// binding: it says which pod of this name is meant.
func (b *bindingStorage) PreserveRequestObjectMetaSystemFieldsOnSubresourceCreate() bool { return true }

// CheckBinding judges a binding alone, without its pod.
func CheckBinding(binding *corev1.Binding) error {
	gk := corev1.SchemeGroupVersion.WithKind("Binding").GroupKind()
	if errs := rulesOf(gk).Create(binding); len(errs) > 0 {
		return apierrors.NewInvalid(gk, binding.Name, errs)
	}
	return nil
}

// Bind writes the node into the pod, or tells why the pod cannot have one. It
// changes only fields of pod that a shallow copy with its own Status.Conditions
// owns, so callers may hand in such a copy.
func Bind(pod *corev1.Pod, binding *corev1.Binding) error {
	if binding.UID != "" && binding.UID != pod.UID {
		return PreconditionFailed("UID", binding.UID, pod.UID)
	}
	if pod.DeletionTimestamp != nil {
		return fmt.Errorf("pod %s is being deleted, cannot be assigned to a host", pod.Name)
	}
	if pod.Spec.NodeName != "" {
		return fmt.Errorf("pod %v is already assigned to node %q", pod.Name, pod.Spec.NodeName)
	}
	if len(pod.Spec.SchedulingGates) != 0 {
		return fmt.Errorf("pod %v has non-empty .spec.schedulingGates", pod.Name)
	}
	pod.Spec.NodeName = binding.Target.Name
	pod.Annotations = merged(pod.Annotations, binding.Annotations)
	pod.Labels = merged(pod.Labels, binding.Labels)
	setPodCondition(pod, corev1.PodCondition{Type: corev1.PodScheduled, Status: corev1.ConditionTrue})
	return nil
}

// PreconditionFailed says that a write was meant for another object, or for
// another version of it.
func PreconditionFailed(what string, want, got any) error {
	//lint:ignore ST1005 the words are those of Kubernetes
	return fmt.Errorf("Precondition failed: %s in precondition: %v, %s in object meta: %v", what, want, what, got)
}

// BindingError words an error of Bind or of the store as the API does.
func BindingError(err error, name string) error {
	err = storageerr.InterpretGetError(err, corev1.Resource("pods"), name)
	err = storageerr.InterpretUpdateError(err, corev1.Resource("pods"), name)
	if _, ok := err.(*apierrors.StatusError); ok {
		return err
	}
	return apierrors.NewConflict(corev1.Resource("pods/binding"), name, err)
}

// merged gives old with more laid over it; old itself stays as it is.
func merged(old, more map[string]string) map[string]string {
	if len(more) == 0 {
		return old
	}
	out := make(map[string]string, len(old)+len(more))
	maps.Copy(out, old)
	maps.Copy(out, more)
	return out
}

// bindingsStorage serves the older /bindings, which names the pod in the body.
type bindingsStorage struct{ *bindingStorage }

func (b *bindingsStorage) GetSingularName() string { return "binding" }

func (b *bindingsStorage) Create(ctx context.Context, obj runtime.Object, validate rest.ValidateObjectFunc,
	opts *metav1.CreateOptions) (runtime.Object, error) {
	object, ok := obj.(metav1.Object)
	if !ok {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("not a Binding object: %T", obj))
	}
	return b.bindingStorage.Create(ctx, object.GetName(), obj, validate, opts)
}
