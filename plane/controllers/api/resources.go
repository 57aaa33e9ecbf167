package api

import "k8s.io/apimachinery/pkg/runtime/schema"

// The resources that controllers and the scheduler read and write.
var (
	Namespaces      = schema.GroupResource{Resource: "namespaces"}
	Nodes           = schema.GroupResource{Resource: "nodes"}
	Pods            = schema.GroupResource{Resource: "pods"}
	Services        = schema.GroupResource{Resource: "services"}
	ConfigMaps      = schema.GroupResource{Resource: "configmaps"}
	Secrets         = schema.GroupResource{Resource: "secrets"}
	ServiceAccounts = schema.GroupResource{Resource: "serviceaccounts"}
	Events          = schema.GroupResource{Resource: "events"}
	Deployments     = schema.GroupResource{Group: "apps", Resource: "deployments"}
	ReplicaSets     = schema.GroupResource{Group: "apps", Resource: "replicasets"}
	EndpointSlices  = schema.GroupResource{Group: "discovery.k8s.io", Resource: "endpointslices"}
	Leases          = schema.GroupResource{Group: "coordination.k8s.io", Resource: "leases"}
	RuntimeClasses  = schema.GroupResource{Group: "node.k8s.io", Resource: "runtimeclasses"}
	PriorityClasses = schema.GroupResource{Group: "scheduling.k8s.io", Resource: "priorityclasses"}
	ClusterRoles    = schema.GroupResource{Group: "rbac.authorization.k8s.io", Resource: "clusterroles"}
	Bindings        = schema.GroupResource{Group: "rbac.authorization.k8s.io", Resource: "clusterrolebindings"}
	Roles           = schema.GroupResource{Group: "rbac.authorization.k8s.io", Resource: "roles"}
	RoleBindings    = schema.GroupResource{Group: "rbac.authorization.k8s.io", Resource: "rolebindings"}
)

// Resource is a served resource as a table row: its name, the kind that owner
// references call it, and whether it lives in namespaces.
type Resource struct {
	schema.GroupResource
	Kind       string
	Namespaced bool
}

// Resources lists every resource whose objects may own, be owned, or live in a
// namespace. Deletion of namespaces and of owned objects works through it.
func Resources() []Resource {
	return []Resource{
		{Pods, "Pod", true},
		{ReplicaSets, "ReplicaSet", true},
		{Deployments, "Deployment", true},
		{EndpointSlices, "EndpointSlice", true},
		{Services, "Service", true},
		{ConfigMaps, "ConfigMap", true},
		{Secrets, "Secret", true},
		{ServiceAccounts, "ServiceAccount", true},
		{Leases, "Lease", true},
		{Roles, "Role", true},
		{RoleBindings, "RoleBinding", true},
		{Events, "Event", true},
		{Namespaces, "Namespace", false},
		{Nodes, "Node", false},
		{RuntimeClasses, "RuntimeClass", false},
		{PriorityClasses, "PriorityClass", false},
		{ClusterRoles, "ClusterRole", false},
		{Bindings, "ClusterRoleBinding", false},
	}
}
