package kinds

import (
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	eventsv1 "k8s.io/api/events/v1"
	nodev1 "k8s.io/api/node/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"copepod/plane/apiserver/scheme"
)

// eventTTL is how long an event is kept, in seconds: kube-apiserver's default.
const eventTTL = 3600

// table lists every kind. Rows with more to say than a few lines live in the
// file of their noun.
func table() []*Kind {
	return []*Kind{
		namespaces(), nodes(), pods(), services(), serviceAccounts(),
		deployments(), replicaSets(),
		{
			Version: corev1.SchemeGroupVersion, Plural: "configmaps", Singular: "configmap", Kind: "ConfigMap",
			Object: &corev1.ConfigMap{}, List: &corev1.ConfigMapList{}, Short: []string{"cm"},
		},
		{
			Version: corev1.SchemeGroupVersion, Plural: "secrets", Singular: "secret", Kind: "Secret",
			Object: &corev1.Secret{}, List: &corev1.SecretList{},
			Update: change(func(secret, old *corev1.Secret) {
				if secret.Type == "" {
					secret.Type = old.Type
				}
			}),
			Fields: selectors(func(secret *corev1.Secret, set fields.Set) { set["type"] = string(secret.Type) }),
		},
		{
			Version: corev1.SchemeGroupVersion, Plural: "endpoints", Singular: "endpoints", Kind: "Endpoints",
			//lint:ignore SA1019 clients of old still read it
			Object: &corev1.Endpoints{}, List: &corev1.EndpointsList{}, Short: []string{"ep"}, CreateOnUpdate: true,
		},
		{
			Version: corev1.SchemeGroupVersion, Plural: "events", Singular: "event", Kind: "Event",
			Object: &corev1.Event{}, List: &corev1.EventList{}, Short: []string{"ev"},
			CreateOnUpdate: true, NoDependents: true, TTL: eventTTL, Fields: selectors(eventFields),
		},
		{
			Version: discoveryv1.SchemeGroupVersion, Plural: "endpointslices", Singular: "endpointslice", Kind: "EndpointSlice",
			Object: &discoveryv1.EndpointSlice{}, List: &discoveryv1.EndpointSliceList{},
			Generation: changed(endpointSliceChanged),
		},
		{
			Version: coordinationv1.SchemeGroupVersion, Plural: "leases", Singular: "lease", Kind: "Lease",
			Object: &coordinationv1.Lease{}, List: &coordinationv1.LeaseList{}, CreateOnUpdate: true, Versioned: true,
		},
		{
			Version: nodev1.SchemeGroupVersion, Plural: "runtimeclasses", Singular: "runtimeclass", Kind: "RuntimeClass", Cluster: true,
			Object: &nodev1.RuntimeClass{}, List: &nodev1.RuntimeClassList{}, Versioned: true,
		},
		{
			Version: schedulingv1.SchemeGroupVersion, Plural: "priorityclasses", Singular: "priorityclass", Kind: "PriorityClass", Cluster: true,
			Object: &schedulingv1.PriorityClass{}, List: &schedulingv1.PriorityClassList{}, Short: []string{"pc"},
			Generation: func(_, _ runtime.Object) bool { return false },
		},
		role(&Kind{Plural: "clusterroles", Singular: "clusterrole", Kind: "ClusterRole", Cluster: true,
			Object: &rbacv1.ClusterRole{}, List: &rbacv1.ClusterRoleList{}}),
		role(&Kind{Plural: "clusterrolebindings", Singular: "clusterrolebinding", Kind: "ClusterRoleBinding", Cluster: true,
			Object: &rbacv1.ClusterRoleBinding{}, List: &rbacv1.ClusterRoleBindingList{}}),
		role(&Kind{Plural: "roles", Singular: "role", Kind: "Role", Object: &rbacv1.Role{}, List: &rbacv1.RoleList{}}),
		role(&Kind{Plural: "rolebindings", Singular: "rolebinding", Kind: "RoleBinding",
			Object: &rbacv1.RoleBinding{}, List: &rbacv1.RoleBindingList{}}),
	}
}

func role(k *Kind) *Kind {
	k.Version, k.CreateOnUpdate = rbacv1.SchemeGroupVersion, true
	return k
}

func eventFields(e *corev1.Event, set fields.Set) {
	source := e.Source.Component
	if source == "" {
		source = e.ReportingController
	}
	set["involvedObject.kind"] = e.InvolvedObject.Kind
	set["involvedObject.namespace"] = e.InvolvedObject.Namespace
	set["involvedObject.name"] = e.InvolvedObject.Name
	set["involvedObject.uid"] = string(e.InvolvedObject.UID)
	set["involvedObject.apiVersion"] = e.InvolvedObject.APIVersion
	set["involvedObject.resourceVersion"] = e.InvolvedObject.ResourceVersion
	set["involvedObject.fieldPath"] = e.InvolvedObject.FieldPath
	set["reason"] = e.Reason
	set["reportingComponent"] = e.ReportingController
	set["source"] = source
	set["type"] = e.Type
}

// endpointSliceChanged counts labels and annotations too, and nothing else of
// metadata: consumers compare generations to skip work.
func endpointSliceChanged(slice, old *discoveryv1.EndpointSlice) bool {
	return slice.AddressType != old.AddressType ||
		!equality.Semantic.DeepEqual(slice.Endpoints, old.Endpoints) ||
		!equality.Semantic.DeepEqual(slice.Ports, old.Ports) ||
		!equality.Semantic.DeepEqual(slice.Labels, old.Labels) ||
		!equality.Semantic.DeepEqual(slice.Annotations, old.Annotations)
}

// addEventsAgain shows the stored events under events.k8s.io too, where new ones
// follow the stricter rules of that group.
func (s *Set) addEventsAgain(sch *scheme.Scheme) {
	events := s.resources[corev1.Resource("events")]
	strict := *events.Store.CreateStrategy.(*strategy)
	rules := rulesOf(eventsv1.SchemeGroupVersion.WithKind("Event").GroupKind())
	judge := func(f func(obj, old runtime.Object) field.ErrorList) func(obj, old runtime.Object) field.ErrorList {
		return func(obj, old runtime.Object) field.ErrorList {
			var events [2]eventsv1.Event
			for i, in := range []runtime.Object{obj, old} {
				if err := sch.Convert(in, &events[i], nil); err != nil {
					return field.ErrorList{field.InternalError(nil, err)}
				}
			}
			return f(&events[0], &events[1])
		}
	}
	create := judge(func(obj, _ runtime.Object) field.ErrorList { return rules.Create(obj) })
	strict.rules.Create = func(obj runtime.Object) field.ErrorList { return create(obj, obj) }
	strict.rules.Update = judge(rules.Update)
	store := *events.Store
	store.CreateStrategy, store.UpdateStrategy = &strict, &strict
	s.Add(eventsv1.SchemeGroupVersion, "events", &collection{&store, events.Kind})
}
