package kinds

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/registry/generic/registry"
	"k8s.io/apiserver/pkg/util/dryrun"
)

// Allocator gives services their addresses and ports.
type Allocator interface {
	// Create fills in and claims what a new service needs. done keeps or gives
	// back the claims, by whether the service was stored.
	Create(ctx context.Context, svc *corev1.Service, dryRun bool) (done func(ctx context.Context, stored bool), err error)
	// Update claims what svc needs beyond old; done also releases what svc no
	// longer needs.
	Update(ctx context.Context, svc, old *corev1.Service, dryRun bool) (done func(ctx context.Context, stored bool), err error)
	// Release gives back everything of a deleted service.
	Release(ctx context.Context, svc *corev1.Service)
}

func services() *Kind {
	return &Kind{
		Version: corev1.SchemeGroupVersion, Plural: "services", Singular: "service", Kind: "Service",
		Object: &corev1.Service{}, List: &corev1.ServiceList{}, Short: []string{"svc"}, Categories: []string{"all"},
		Status:         true,
		CreateOnUpdate: true,
		ReturnDeleted:  true,
		Fields: selectors(func(svc *corev1.Service, set fields.Set) {
			set["spec.clusterIP"] = svc.Spec.ClusterIP
			set["spec.type"] = string(svc.Spec.Type)
		}),
		Complete: func(s *registry.Store, cfg Config) {
			if cfg.Services != nil {
				allocate(s, cfg.Services)
			}
		},
	}
}

func allocate(s *registry.Store, a Allocator) {
	s.BeginCreate = func(ctx context.Context, obj runtime.Object, opts *metav1.CreateOptions) (registry.FinishFunc, error) {
		done, err := a.Create(ctx, obj.(*corev1.Service), dryrun.IsDryRun(opts.DryRun))
		return registry.FinishFunc(done), err
	}
	s.BeginUpdate = func(ctx context.Context, obj, old runtime.Object, opts *metav1.UpdateOptions) (registry.FinishFunc, error) {
		done, err := a.Update(ctx, obj.(*corev1.Service), old.(*corev1.Service), dryrun.IsDryRun(opts.DryRun))
		return registry.FinishFunc(done), err
	}
	s.AfterDelete = func(obj runtime.Object, opts *metav1.DeleteOptions) {
		if !dryrun.IsDryRun(opts.DryRun) {
			a.Release(context.Background(), obj.(*corev1.Service))
		}
	}
}
