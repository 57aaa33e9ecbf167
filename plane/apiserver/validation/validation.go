// Package validation judges objects by the rules of Kubernetes, with its field
// paths and its words. It knows the v1 types of k8s.io/api, defaulted; it never
// learns what else is stored, so rules that need a second object (is the
// namespace there, is the port free) belong to admission.
//
//	rules, ok := validation.For(schema.GroupKind{Kind: "Pod"})
//	errs := rules.Create(pod) // spec.containers[0].name: Required value
//
// The work is linear in the size of the object, and so is bounded by what the
// server reads; an answer has at most a hundred errors.
package validation

import (
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	eventsv1 "k8s.io/api/events/v1"
	nodev1 "k8s.io/api/node/v1"
	policyv1 "k8s.io/api/policy/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// Rules are the judgements on one kind. No field is nil, and none changes the
// objects.
type Rules struct {
	// Create judges a new object.
	Create func(obj runtime.Object) field.ErrorList
	// Update judges a change of the object, Create's rules included.
	Update func(obj, old runtime.Object) field.ErrorList
	// UpdateStatus judges a change through the status subresource. For a kind
	// without one it is Update.
	UpdateStatus func(obj, old runtime.Object) field.ErrorList
	// Warnings are sentences for the client about an object that is valid. old
	// is nil on create.
	Warnings func(obj, old runtime.Object) []string
}

// For gives the rules of a kind, and false for a kind that we do not serve.
func For(gk schema.GroupKind) (Rules, bool) {
	r, ok := kinds[gk]
	return r, ok
}

var kinds = map[schema.GroupKind]Rules{
	{Kind: "Binding"}:   checks[*corev1.Binding]{create: binding}.rules(),
	{Kind: "ConfigMap"}: checks[*corev1.ConfigMap]{create: configMap, update: configMapUpdate}.rules(),
	//lint:ignore SA1019 Endpoints is deprecated in favour of EndpointSlice, and served.
	{Kind: "Endpoints"}:      checks[*corev1.Endpoints]{create: endpoints, update: endpointsUpdate}.rules(),
	{Kind: "Event"}:          checks[*corev1.Event]{create: event, update: eventUpdate}.rules(),
	{Kind: "Namespace"}:      checks[*corev1.Namespace]{create: namespace, update: namespaceUpdate, status: namespaceStatus}.rules(),
	{Kind: "Node"}:           checks[*corev1.Node]{create: node, update: nodeUpdate, warn: nodeWarnings}.rules(),
	{Kind: "Pod"}:            checks[*corev1.Pod]{create: podCreate, update: podUpdate, status: podStatus, warn: podWarnings}.rules(),
	{Kind: "Secret"}:         checks[*corev1.Secret]{create: secret, update: secretUpdate, warn: secretWarnings}.rules(),
	{Kind: "Service"}:        checks[*corev1.Service]{create: service, update: serviceUpdate, status: serviceStatus, warn: serviceWarnings}.rules(),
	{Kind: "ServiceAccount"}: checks[*corev1.ServiceAccount]{create: serviceAccount, update: serviceAccountUpdate, warn: serviceAccountWarnings}.rules(),

	{Group: "apps", Kind: "Deployment"}:   checks[*appsv1.Deployment]{create: deployment, update: deploymentUpdate, status: deploymentStatus, warn: deploymentWarnings}.rules(),
	{Group: "apps", Kind: "ReplicaSet"}:   checks[*appsv1.ReplicaSet]{create: replicaSet, update: replicaSetUpdate, status: replicaSetStatus, warn: replicaSetWarnings}.rules(),
	{Group: "autoscaling", Kind: "Scale"}: checks[*autoscalingv1.Scale]{create: scale}.rules(),
	{Group: "policy", Kind: "Eviction"}:   checks[*policyv1.Eviction]{create: eviction}.rules(),

	{Group: "coordination.k8s.io", Kind: "Lease"}:         checks[*coordinationv1.Lease]{create: lease, update: leaseUpdate}.rules(),
	{Group: "discovery.k8s.io", Kind: "EndpointSlice"}:    checks[*discoveryv1.EndpointSlice]{create: endpointSlice, update: endpointSliceUpdate, warn: endpointSliceWarnings}.rules(),
	{Group: "events.k8s.io", Kind: "Event"}:               checks[*eventsv1.Event]{create: newEvent, update: newEventUpdate}.rules(),
	{Group: "node.k8s.io", Kind: "RuntimeClass"}:          checks[*nodev1.RuntimeClass]{create: runtimeClass, update: runtimeClassUpdate}.rules(),
	{Group: "scheduling.k8s.io", Kind: "PriorityClass"}:   checks[*schedulingv1.PriorityClass]{create: priorityClass, update: priorityClassUpdate}.rules(),
	{Group: rbacv1.GroupName, Kind: "ClusterRole"}:        checks[*rbacv1.ClusterRole]{create: clusterRole, update: clusterRoleUpdate}.rules(),
	{Group: rbacv1.GroupName, Kind: "ClusterRoleBinding"}: checks[*rbacv1.ClusterRoleBinding]{create: clusterRoleBinding, update: clusterRoleBindingUpdate}.rules(),
	{Group: rbacv1.GroupName, Kind: "Role"}:               checks[*rbacv1.Role]{create: role, update: roleUpdate}.rules(),
	{Group: rbacv1.GroupName, Kind: "RoleBinding"}:        checks[*rbacv1.RoleBinding]{create: roleBinding, update: roleBindingUpdate}.rules(),

	{Group: "authentication.k8s.io", Kind: "SelfSubjectReview"}:       checks[*authenticationv1.SelfSubjectReview]{}.rules(),
	{Group: "authentication.k8s.io", Kind: "TokenRequest"}:            checks[*authenticationv1.TokenRequest]{create: tokenRequest}.rules(),
	{Group: "authentication.k8s.io", Kind: "TokenReview"}:             checks[*authenticationv1.TokenReview]{create: tokenReview}.rules(),
	{Group: "authorization.k8s.io", Kind: "LocalSubjectAccessReview"}: checks[*authorizationv1.LocalSubjectAccessReview]{create: localSubjectAccessReview}.rules(),
	{Group: "authorization.k8s.io", Kind: "SelfSubjectAccessReview"}:  checks[*authorizationv1.SelfSubjectAccessReview]{create: selfSubjectAccessReview}.rules(),
	{Group: "authorization.k8s.io", Kind: "SelfSubjectRulesReview"}:   checks[*authorizationv1.SelfSubjectRulesReview]{}.rules(),
	{Group: "authorization.k8s.io", Kind: "SubjectAccessReview"}:      checks[*authorizationv1.SubjectAccessReview]{create: subjectAccessReview}.rules(),
}

// checks are the rules of a kind, in terms of its Go type. Of those left out,
// update is create, status is update, and the others find nothing.
type checks[T runtime.Object] struct {
	create         func(f *findings, obj T)
	update, status func(f *findings, obj, old T)
	warn           func(w *warnings, obj, old T)
}

func (c checks[T]) rules() Rules {
	if c.create == nil {
		c.create = func(*findings, T) {} // every object of the kind is valid
	}
	if c.update == nil {
		c.update = func(f *findings, obj, _ T) { c.create(f, obj) }
	}
	if c.status == nil {
		c.status = c.update
	}
	if c.warn == nil {
		c.warn = func(*warnings, T, T) {}
	}
	change := func(check func(f *findings, obj, old T)) func(obj, old runtime.Object) field.ErrorList {
		return func(obj, old runtime.Object) field.ErrorList {
			var f findings
			if n, o, ok := pair[T](&f, obj, old); ok {
				check(&f, n, o)
			}
			return f.list
		}
	}
	return Rules{
		Create: func(obj runtime.Object) field.ErrorList {
			var f findings
			if n, _, ok := pair[T](&f, obj, obj); ok {
				c.create(&f, n)
			}
			return f.list
		},
		Update:       change(c.update),
		UpdateStatus: change(c.status),
		Warnings: func(obj, old runtime.Object) []string {
			var w warnings
			n, ok := obj.(T)
			if !ok {
				return nil
			}
			o, _ := old.(T) // nil on create
			c.warn(&w, n, o)
			return w.list
		},
	}
}

// pair gives both objects their Go type, or says that the caller mixed them up.
func pair[T runtime.Object](f *findings, obj, old runtime.Object) (n, o T, ok bool) {
	n, isNew := obj.(T)
	o, isOld := old.(T)
	if !isNew || !isOld {
		f.add(field.InternalError(nil, fmt.Errorf("rules for %T were given %T and %T", n, obj, old)))
	}
	return n, o, isNew && isOld
}
