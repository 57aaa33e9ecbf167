package kinds

import (
	"context"
	"errors"
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/managedfields"
	"k8s.io/apiserver/pkg/registry/generic/registry"
	"k8s.io/apiserver/pkg/registry/rest"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"
)

// scalable reads and writes the replicas of one kind.
type scalable interface {
	replicas(obj runtime.Object) (desired, current int32, selector *metav1.LabelSelector)
	setReplicas(obj runtime.Object, n int32)
}

type deploymentScale struct{}

func (deploymentScale) replicas(obj runtime.Object) (int32, int32, *metav1.LabelSelector) {
	d := obj.(*appsv1.Deployment)
	return orOne(d.Spec.Replicas), d.Status.Replicas, d.Spec.Selector
}

func (deploymentScale) setReplicas(obj runtime.Object, n int32) {
	obj.(*appsv1.Deployment).Spec.Replicas = &n
}

type replicaSetScale struct{}

func (replicaSetScale) replicas(obj runtime.Object) (int32, int32, *metav1.LabelSelector) {
	rs := obj.(*appsv1.ReplicaSet)
	return orOne(rs.Spec.Replicas), rs.Status.Replicas, rs.Spec.Selector
}

func (replicaSetScale) setReplicas(obj runtime.Object, n int32) {
	obj.(*appsv1.ReplicaSet).Spec.Replicas = &n
}

func orOne(n *int32) int32 {
	if n == nil {
		return 1
	}
	return *n
}

// replicaPaths tell which field of the parent the Scale's replicas stand for.
var replicaPaths = managedfields.ResourcePathMappings{
	appsv1.SchemeGroupVersion.String(): fieldpath.MakePathOrDie("spec", "replicas"),
}

// scaleStorage serves …/scale as autoscaling/v1 Scale.
type scaleStorage struct {
	store  *registry.Store
	access scalable
}

func (s *scaleStorage) New() runtime.Object { return &autoscalingv1.Scale{} }
func (s *scaleStorage) Destroy()            {}

func (s *scaleStorage) GroupVersionKind(schema.GroupVersion) schema.GroupVersionKind {
	return autoscalingv1.SchemeGroupVersion.WithKind("Scale")
}

func (s *scaleStorage) Get(ctx context.Context, name string, opts *metav1.GetOptions) (runtime.Object, error) {
	obj, err := s.store.Get(ctx, name, opts)
	if err != nil {
		return nil, apierrors.NewNotFound(s.store.DefaultQualifiedResource, name)
	}
	return s.scale(obj)
}

func (s *scaleStorage) Update(ctx context.Context, name string, info rest.UpdatedObjectInfo, create rest.ValidateObjectFunc,
	update rest.ValidateObjectUpdateFunc, _ bool, opts *metav1.UpdateOptions) (runtime.Object, bool, error) {
	obj, _, err := s.store.Update(ctx, name, &scaleChange{info, s},
		func(ctx context.Context, obj runtime.Object) error {
			scale, err := s.scale(obj)
			if err != nil {
				return err
			}
			return create(ctx, scale)
		},
		func(ctx context.Context, obj, old runtime.Object) error {
			scale, err := s.scale(obj)
			if err != nil {
				return err
			}
			oldScale, err := s.scale(old)
			if err != nil {
				return err
			}
			return update(ctx, scale, oldScale)
		}, false, opts)
	if err != nil {
		return nil, false, err
	}
	scale, err := s.scale(obj)
	return scale, false, err
}

func (s *scaleStorage) ConvertToTable(ctx context.Context, obj, opts runtime.Object) (*metav1.Table, error) {
	return rest.NewDefaultTableConvertor(s.store.DefaultQualifiedResource).ConvertToTable(ctx, obj, opts)
}

// scale shows an object as its Scale.
func (s *scaleStorage) scale(obj runtime.Object) (*autoscalingv1.Scale, error) {
	desired, current, labelSelector := s.access.replicas(obj)
	selector, err := metav1.LabelSelectorAsSelector(labelSelector)
	if err != nil {
		return nil, apierrors.NewBadRequest(err.Error())
	}
	object := obj.(metav1.Object)
	managed, err := s.managed(object).ToSubresource()
	if err != nil {
		return nil, err
	}
	return &autoscalingv1.Scale{
		ObjectMeta: metav1.ObjectMeta{
			Name: object.GetName(), Namespace: object.GetNamespace(), UID: object.GetUID(),
			ResourceVersion: object.GetResourceVersion(), CreationTimestamp: object.GetCreationTimestamp(),
			ManagedFields: managed,
		},
		Spec:   autoscalingv1.ScaleSpec{Replicas: desired},
		Status: autoscalingv1.ScaleStatus{Replicas: current, Selector: selector.String()},
	}, nil
}

func (s *scaleStorage) managed(parent metav1.Object) *managedfields.ScaleHandler {
	return managedfields.NewScaleHandler(parent.GetManagedFields(), appsv1.SchemeGroupVersion, replicaPaths)
}

// scaleChange turns a change of the Scale into a change of the object.
type scaleChange struct {
	rest.UpdatedObjectInfo
	*scaleStorage
}

func (c *scaleChange) UpdatedObject(ctx context.Context, old runtime.Object) (runtime.Object, error) {
	parent := old.DeepCopyObject()
	object := parent.(metav1.Object)
	if object.GetResourceVersion() == "" { // there is nothing to scale
		return nil, apierrors.NewNotFound(c.store.DefaultQualifiedResource, object.GetName())
	}
	before, err := c.scale(parent)
	if err != nil {
		return nil, err
	}
	obj, err := c.UpdatedObjectInfo.UpdatedObject(ctx, before)
	if err != nil {
		return nil, err
	}
	scale, ok := obj.(*autoscalingv1.Scale)
	if !ok {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("expected input object type to be Scale, but %T", obj))
	}
	gk := autoscalingv1.SchemeGroupVersion.WithKind("Scale").GroupKind()
	if errs := rulesOf(gk).Create(scale); len(errs) > 0 {
		return nil, apierrors.NewInvalid(gk, scale.Name, errs)
	}
	if scale.ResourceVersion != "" && scale.ResourceVersion != object.GetResourceVersion() {
		return nil, apierrors.NewConflict(c.store.DefaultQualifiedResource, object.GetName(), errStale)
	}
	c.access.setReplicas(parent, scale.Spec.Replicas)
	entries, err := c.managed(object).ToParent(scale.ManagedFields)
	if err != nil {
		return nil, err
	}
	object.SetManagedFields(entries)
	return parent, nil
}

var errStale = errors.New(registry.OptimisticLockErrorMsg)
