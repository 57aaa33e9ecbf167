package apiserver

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"copepod/plane/apiserver/admission"
	"copepod/plane/apiserver/local"
)

// reader answers authorizers, authenticators and admission from a snapshot, each
// in the shape that it asks for. Nothing it gives out may be changed.
type reader struct{ store local.Store }

// Object implements token.Objects.
func (r reader) Object(_ context.Context, gr schema.GroupResource, namespace, name string) (metav1.Object, error) {
	return r.find(gr, namespace, name)
}

func (r reader) find(gr schema.GroupResource, namespace, name string) (local.Object, error) {
	obj, ok := r.store.View().Get(gr, namespace, name)
	if !ok {
		return nil, apierrors.NewNotFound(gr, name)
	}
	return obj, nil
}

// Pod and Node implement nodes.Objects.
func (r reader) Pod(_ context.Context, namespace, name string) (*corev1.Pod, error) {
	obj, err := r.find(corev1.Resource("pods"), namespace, name)
	if err != nil {
		return nil, err
	}
	return obj.(*corev1.Pod), nil
}

func (r reader) Node(_ context.Context, name string) (*corev1.Node, error) {
	obj, err := r.find(corev1.Resource("nodes"), "", name)
	if err != nil {
		return nil, err
	}
	return obj.(*corev1.Node), nil
}

// Role, ClusterRole, RoleBindings and ClusterRoleBindings implement rbac.Lister.
func (r reader) Role(_ context.Context, namespace, name string) (*rbacv1.Role, error) {
	obj, err := r.find(rbacv1.Resource("roles"), namespace, name)
	if err != nil {
		return nil, err
	}
	return obj.(*rbacv1.Role), nil
}

func (r reader) ClusterRole(_ context.Context, name string) (*rbacv1.ClusterRole, error) {
	obj, err := r.find(rbacv1.Resource("clusterroles"), "", name)
	if err != nil {
		return nil, err
	}
	return obj.(*rbacv1.ClusterRole), nil
}

func (r reader) RoleBindings(_ context.Context, namespace string) ([]*rbacv1.RoleBinding, error) {
	var out []*rbacv1.RoleBinding
	for obj := range r.store.View().List(rbacv1.Resource("rolebindings"), namespace) {
		out = append(out, obj.(*rbacv1.RoleBinding))
	}
	return out, nil
}

func (r reader) ClusterRoleBindings(context.Context) ([]*rbacv1.ClusterRoleBinding, error) {
	var out []*rbacv1.ClusterRoleBinding
	for obj := range r.store.View().List(rbacv1.Resource("clusterrolebindings"), "") {
		out = append(out, obj.(*rbacv1.ClusterRoleBinding))
	}
	return out, nil
}

// stored is the reader in the shape of admission.
type stored struct{ reader }

func (s stored) Object(_ context.Context, gr schema.GroupResource, namespace, name string) (admission.Object, error) {
	return s.find(gr, namespace, name)
}

func (s stored) Each(_ context.Context, gr schema.GroupResource, namespace string, fn func(admission.Object) bool) error {
	for obj := range s.store.View().List(gr, namespace) {
		if !fn(obj) {
			break
		}
	}
	return nil
}
