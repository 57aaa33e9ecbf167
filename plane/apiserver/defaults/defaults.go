// Package defaults fills the fields that a client left out with the values
// that Kubernetes documents for them. It knows the v1 types of k8s.io/api and
// nothing else; it never learns who asked, what is stored or what time it is.
//
// There is one Go type for each kind here, so the few things that Kubernetes
// does while it converts to its internal types are done here too: a secret's
// stringData is folded into data, and pairs that say the same thing twice
// (podIP and podIPs, clusterIP and clusterIPs, serviceAccountName and
// serviceAccount) are brought in step.
//
//	scheme := runtime.NewScheme()
//	corev1.AddToScheme(scheme)
//	defaults.Register(scheme)
//	scheme.Default(&pod)
//
// Defaulting is idempotent: an object that was defaulted does not change when
// it is defaulted again.
package defaults

import (
	"k8s.io/apimachinery/pkg/runtime"
)

// Register adds the defaulting function of every kind that has defaults. Kinds
// without any (Event, Lease, RuntimeClass, ConfigMap, Scale…) are left alone.
func Register(s *runtime.Scheme) {
	add(s, pod)
	add(s, podTemplate)
	add(s, service)
	add(s, endpoints)
	add(s, endpointSlice)
	add(s, secret)
	add(s, namespace)
	add(s, node)
	add(s, deployment)
	add(s, replicaSet)
	add(s, roleBinding)
	add(s, clusterRoleBinding)
	add(s, priorityClass)
	add(s, tokenRequest)
}

func add[T runtime.Object](s *runtime.Scheme, fill func(T)) {
	var kind T // the scheme looks only at the type
	s.AddTypeDefaultingFunc(kind, func(obj any) { fill(obj.(T)) })
}

// set gives *field the value, unless it has one already.
func set[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// point gives a pointer field a pointer to the value, unless it points already.
func point[T any](field **T, value T) {
	if *field == nil {
		*field = &value
	}
}
