package looptest

import (
	"fmt"
	"reflect"

	appsv1 "k8s.io/api/apps/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	nodev1 "k8s.io/api/node/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"copepod/plane/controllers/api"
)

// resourceOf names the resource that an object belongs to.
func resourceOf(o api.Object) schema.GroupResource {
	switch o.(type) {
	case *corev1.Pod:
		return api.Pods
	case *corev1.Node:
		return api.Nodes
	case *corev1.Namespace:
		return api.Namespaces
	case *corev1.Service:
		return api.Services
	case *corev1.ConfigMap:
		return api.ConfigMaps
	case *corev1.Secret:
		return api.Secrets
	case *corev1.ServiceAccount:
		return api.ServiceAccounts
	case *corev1.Event:
		return api.Events
	case *appsv1.Deployment:
		return api.Deployments
	case *appsv1.ReplicaSet:
		return api.ReplicaSets
	case *discoveryv1.EndpointSlice:
		return api.EndpointSlices
	case *coordinationv1.Lease:
		return api.Leases
	case *nodev1.RuntimeClass:
		return api.RuntimeClasses
	case *rbacv1.ClusterRole:
		return api.ClusterRoles
	}
	panic(fmt.Sprintf("looptest has no resource for %T", o))
}

// field is the addressable Spec or Status of an object; invalid when it has none.
func field(o api.Object, name string) reflect.Value {
	return reflect.ValueOf(o).Elem().FieldByName(name)
}

// keep copies one part of an object over the same part of another.
func keep(to, from api.Object, name string) {
	if f := field(to, name); f.IsValid() {
		f.Set(field(from, name))
	}
}

func sameSpec(a, b api.Object) bool {
	f, g := field(a, "Spec"), field(b, "Spec")
	return !f.IsValid() || equality.Semantic.DeepEqual(f.Interface(), g.Interface())
}
