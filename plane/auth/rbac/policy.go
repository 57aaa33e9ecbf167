package rbac

import (
	"strings"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/authentication/user"
)

// DefaultPolicy returns the roles and bindings that an empty cluster starts with,
// in an order in which they can be created: ClusterRoles and ClusterRoleBindings,
// then Roles and RoleBindings in kube-system and kube-public, which must exist by
// then. Names and rules are those that Kubernetes documents under "Default roles
// and role bindings", without those of parts that we do not have (cloud
// providers, volume attachment, dynamic resources). The rules of aggregated roles
// are filled in. The objects are the caller's own.
//
// Reconcile brings an older cluster up to it.
func DefaultPolicy() []runtime.Object {
	roles := append(userRoles(), append(systemRoles(), controllerRoles()...)...)
	for _, changed := range Aggregate(roles) {
		for i := range roles {
			if roles[i].Name == changed.Name {
				roles[i] = changed
			}
		}
	}
	var out []runtime.Object
	for _, r := range roles {
		out = append(out, r)
	}
	for _, b := range append(systemBindings(), controllerBindings()...) {
		out = append(out, b)
	}
	return append(out, namespacePolicy()...)
}

// Verbs that go together; core is the API group that is spelled "" in rules.
const (
	read  = "get list watch"
	write = "create update patch delete deletecollection"
	core  = "core"
)

// allow builds a rule from words, which keeps the tables below readable as
// policy. names limit it to objects of these names.
func allow(verbs, groups, resources string, names ...string) rbacv1.PolicyRule {
	rule := rbacv1.PolicyRule{
		Verbs:         strings.Fields(verbs),
		APIGroups:     strings.Fields(groups),
		Resources:     strings.Fields(resources),
		ResourceNames: names,
	}
	for i, g := range rule.APIGroups {
		if g == core {
			rule.APIGroups[i] = ""
		}
	}
	return rule
}

// allowPaths builds a rule for paths outside the resource APIs.
func allowPaths(verb string, paths ...string) rbacv1.PolicyRule {
	return rbacv1.PolicyRule{Verbs: []string{verb}, NonResourceURLs: paths}
}

func recordEvents() rbacv1.PolicyRule {
	return allow("create update patch", core+" events.k8s.io", "events")
}

// defaultMeta marks an object as ours to reconcile.
func defaultMeta(namespace, name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{
		Namespace:   namespace,
		Name:        name,
		Labels:      map[string]string{"kubernetes.io/bootstrapping": "rbac-defaults"},
		Annotations: map[string]string{rbacv1.AutoUpdateAnnotationKey: "true"},
	}
}

func clusterRole(name string, rules ...rbacv1.PolicyRule) *rbacv1.ClusterRole {
	return &rbacv1.ClusterRole{
		TypeMeta:   metav1.TypeMeta{APIVersion: rbacv1.SchemeGroupVersion.String(), Kind: "ClusterRole"},
		ObjectMeta: defaultMeta("", name),
		Rules:      rules,
	}
}

func clusterBinding(role string, subjects ...rbacv1.Subject) *rbacv1.ClusterRoleBinding {
	return &rbacv1.ClusterRoleBinding{
		TypeMeta:   metav1.TypeMeta{APIVersion: rbacv1.SchemeGroupVersion.String(), Kind: "ClusterRoleBinding"},
		ObjectMeta: defaultMeta("", role),
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role},
		Subjects:   subjects,
	}
}

func role(namespace, name string, rules ...rbacv1.PolicyRule) *rbacv1.Role {
	return &rbacv1.Role{
		TypeMeta:   metav1.TypeMeta{APIVersion: rbacv1.SchemeGroupVersion.String(), Kind: "Role"},
		ObjectMeta: defaultMeta(namespace, name),
		Rules:      rules,
	}
}

func binding(namespace, name, role string, subjects ...rbacv1.Subject) *rbacv1.RoleBinding {
	return &rbacv1.RoleBinding{
		TypeMeta:   metav1.TypeMeta{APIVersion: rbacv1.SchemeGroupVersion.String(), Kind: "RoleBinding"},
		ObjectMeta: defaultMeta(namespace, name),
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: role},
		Subjects:   subjects,
	}
}

func groupSubject(name string) rbacv1.Subject {
	return rbacv1.Subject{APIGroup: rbacv1.GroupName, Kind: rbacv1.GroupKind, Name: name}
}

func userSubject(name string) rbacv1.Subject {
	return rbacv1.Subject{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: name}
}

// accountSubject is a service account in kube-system, where all parts of the
// control plane have theirs.
func accountSubject(name string) rbacv1.Subject {
	return rbacv1.Subject{Kind: rbacv1.ServiceAccountKind, Namespace: metav1.NamespaceSystem, Name: name}
}

// namespacePolicy is what parts may do in one namespace only: electing leaders in
// kube-system, and learning there whom an extension API server should trust.
func namespacePolicy() []runtime.Object {
	const (
		system  = metav1.NamespaceSystem
		reader  = "extension-apiserver-authentication-reader"
		manager = "system::leader-locking-kube-controller-manager"
		sched   = "system::leader-locking-kube-scheduler"
		signer  = "system:controller:bootstrap-signer"
		cleaner = "system:controller:token-cleaner"
		lists   = "copepod:node-lists"
	)
	leases := "coordination.k8s.io"
	return []runtime.Object{
		role(system, reader, allow(read, core, "configmaps", "extension-apiserver-authentication")),
		role(system, manager,
			allow("create watch list", leases, "leases"),
			allow("get update", leases, "leases", "kube-controller-manager")),
		role(system, sched,
			allow("create watch list", leases, "leases"),
			allow("get update", leases, "leases", "kube-scheduler")),
		role(system, signer, allow(read, core, "secrets")),
		role(system, cleaner, allow("get list watch delete", core, "secrets"), recordEvents()),
		// What every machine follows: who was put out, and what seals gossip.
		role(system, lists,
			allow(read, core, "configmaps", "revoked-nodes"),
			allow(read, core, "secrets", "gossip-keys")),
		role(metav1.NamespacePublic, signer,
			allow(read, core, "configmaps"),
			allow("update", core, "configmaps", "cluster-info"),
			recordEvents()),
		binding(system, "system::"+reader, reader, userSubject(user.KubeControllerManager), userSubject(user.KubeScheduler)),
		binding(system, manager, manager, userSubject(user.KubeControllerManager), accountSubject("kube-controller-manager")),
		binding(system, sched, sched, userSubject(user.KubeScheduler), accountSubject("kube-scheduler")),
		binding(system, signer, signer, accountSubject("bootstrap-signer")),
		binding(system, cleaner, cleaner, accountSubject("token-cleaner")),
		binding(system, lists, lists, groupSubject(user.NodesGroup)),
		binding(metav1.NamespacePublic, signer, signer, accountSubject("bootstrap-signer")),
	}
}
