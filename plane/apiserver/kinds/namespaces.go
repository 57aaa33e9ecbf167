package kinds

import (
	"context"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apiserver/pkg/registry/generic/registry"
	"k8s.io/apiserver/pkg/registry/rest"
	"k8s.io/apiserver/pkg/storage"
	storageerr "k8s.io/apiserver/pkg/storage/errors"
	"k8s.io/apiserver/pkg/util/dryrun"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"
)

func namespaces() *Kind {
	return &Kind{
		Version: corev1.SchemeGroupVersion, Plural: "namespaces", Singular: "namespace", Kind: "Namespace", Cluster: true,
		Object: &corev1.Namespace{}, List: &corev1.NamespaceList{}, Short: []string{"ns"},
		Status: true,
		Create: on(func(ns *corev1.Namespace) {
			ns.Status.Phase = corev1.NamespaceActive
			if !slices.Contains(ns.Spec.Finalizers, corev1.FinalizerKubernetes) {
				ns.Spec.Finalizers = append(ns.Spec.Finalizers, corev1.FinalizerKubernetes)
			}
			// The label is how selectors reach a namespace by its name.
			if ns.Labels == nil {
				ns.Labels = map[string]string{}
			}
			ns.Labels[corev1.LabelMetadataName] = ns.Name
		}),
		Update: change(func(ns, old *corev1.Namespace) { ns.Spec.Finalizers = old.Spec.Finalizers }),
		Fields: selectors(func(ns *corev1.Namespace, set fields.Set) { set["status.phase"] = string(ns.Status.Phase) }),
		Complete: func(s *registry.Store, _ Config) {
			s.ShouldDeleteDuringUpdate = func(_ context.Context, _ string, obj, _ runtime.Object) bool {
				return len(obj.(*corev1.Namespace).Spec.Finalizers) == 0
			}
		},
		Also: func(r *Resource, _ Config) map[string]Storage {
			finalize := *r.Store
			finalize.UpdateStrategy = finalizeStrategy{r.Store.UpdateStrategy.(*strategy)}
			r.Parts["finalize"] = &finalize
			return map[string]Storage{
				"":         &namespaceStorage{r.Store, r},
				"finalize": &finalizeStorage{&finalize},
			}
		},
	}
}

// store is what a kind serves that is deleted in a way of its own.
type store interface {
	rest.Getter
	rest.Lister
	rest.Watcher
	rest.CreaterUpdater
	rest.Scoper
	rest.SingularNameProvider
	rest.ResetFieldsStrategy
	rest.StorageVersionProvider
	rest.StorageWithReadiness
}

// namespaceStorage deletes in two steps: a namespace turns Terminating, its
// content is removed by a controller, and the last finalizer lets it go. There
// is no deletion of a collection.
type namespaceStorage struct {
	store
	resource *Resource
}

func (n *namespaceStorage) ShortNames() []string { return n.resource.Short }

func (n *namespaceStorage) Delete(ctx context.Context, name string, validate rest.ValidateObjectFunc,
	opts *metav1.DeleteOptions) (runtime.Object, bool, error) {
	obj, err := n.Get(ctx, name, &metav1.GetOptions{})
	if err != nil {
		return nil, false, err
	}
	ns := obj.(*corev1.Namespace)
	if opts == nil {
		opts = metav1.NewDeleteOptions(0)
	}
	preconditions, err := namespacePreconditions(ns, opts)
	if err != nil {
		return nil, false, err
	}
	if ns.DeletionTimestamp.IsZero() {
		out, err := n.terminate(ctx, name, preconditions, validate, dryrun.IsDryRun(opts.DryRun))
		return out, false, err
	}
	if len(ns.Spec.Finalizers) > 0 {
		return ns, false, nil
	}
	return n.resource.Store.Delete(ctx, name, validate, opts)
}

// namespacePreconditions ties a deletion to this namespace and not to a later
// one of its name.
func namespacePreconditions(ns *corev1.Namespace, opts *metav1.DeleteOptions) (*storage.Preconditions, error) {
	if opts.Preconditions == nil {
		opts.Preconditions = &metav1.Preconditions{}
	}
	p := opts.Preconditions
	if p.UID == nil {
		p.UID = &ns.UID
	}
	if *p.UID != ns.UID {
		return nil, apierrors.NewConflict(corev1.Resource("namespaces"), ns.Name,
			PreconditionFailed("UID", *p.UID, ns.UID))
	}
	if p.ResourceVersion != nil && *p.ResourceVersion != ns.ResourceVersion {
		return nil, apierrors.NewConflict(corev1.Resource("namespaces"), ns.Name,
			PreconditionFailed("ResourceVersion", *p.ResourceVersion, ns.ResourceVersion))
	}
	return &storage.Preconditions{UID: p.UID, ResourceVersion: p.ResourceVersion}, nil
}

func (n *namespaceStorage) terminate(ctx context.Context, name string, preconditions *storage.Preconditions,
	validate rest.ValidateObjectFunc, dryRun bool) (runtime.Object, error) {
	s := n.resource.Store
	key, err := s.KeyFunc(ctx, name)
	if err != nil {
		return nil, err
	}
	out := s.NewFunc()
	err = s.Storage.GuaranteedUpdate(ctx, key, out, false, preconditions,
		storage.SimpleUpdate(func(existing runtime.Object) (runtime.Object, error) {
			if err := validate(ctx, existing); err != nil {
				return nil, err
			}
			ns := existing.(*corev1.Namespace)
			if ns.DeletionTimestamp.IsZero() {
				now := metav1.Now()
				ns.DeletionTimestamp = &now
			}
			ns.Status.Phase = corev1.NamespaceTerminating
			return ns, nil
		}), dryRun, nil)
	if err != nil {
		return nil, storageerr.InterpretUpdateError(err, corev1.Resource("namespaces"), name)
	}
	return out, nil
}

// finalizeStrategy lets …/finalize change spec.finalizers and nothing else.
type finalizeStrategy struct{ *strategy }

func (finalizeStrategy) PrepareForUpdate(_ context.Context, obj, old runtime.Object) {
	obj.(*corev1.Namespace).Status = old.(*corev1.Namespace).Status
}

func (finalizeStrategy) ValidateUpdate(_ context.Context, obj, _ runtime.Object) field.ErrorList {
	var errs field.ErrorList
	for i, name := range obj.(*corev1.Namespace).Spec.Finalizers {
		errs = append(errs, validation.ValidateFinalizerName(string(name), field.NewPath("spec", "finalizers").Index(i))...)
	}
	return errs
}

func (finalizeStrategy) WarningsOnUpdate(context.Context, runtime.Object, runtime.Object) []string {
	return nil
}

// finalizeStorage serves namespaces/finalize.
type finalizeStorage struct{ store *registry.Store }

func (f *finalizeStorage) New() runtime.Object { return f.store.New() }
func (f *finalizeStorage) Destroy()            {}

func (f *finalizeStorage) Update(ctx context.Context, name string, info rest.UpdatedObjectInfo, create rest.ValidateObjectFunc,
	update rest.ValidateObjectUpdateFunc, _ bool, opts *metav1.UpdateOptions) (runtime.Object, bool, error) {
	return f.store.Update(ctx, name, info, create, update, false, opts)
}

func (f *finalizeStorage) GetResetFields() map[fieldpath.APIVersion]*fieldpath.Set {
	return f.store.GetResetFields()
}
