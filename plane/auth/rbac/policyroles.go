package rbac

import (
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/authentication/serviceaccount"
	"k8s.io/apiserver/pkg/authentication/user"
)

// Labels by which ClusterRoles, such as those of custom resources, add their
// rules to admin, edit and view.
const (
	AggregateToAdmin = "rbac.authorization.k8s.io/aggregate-to-admin"
	AggregateToEdit  = "rbac.authorization.k8s.io/aggregate-to-edit"
	AggregateToView  = "rbac.authorization.k8s.io/aggregate-to-view"
)

// userRoles are meant for people: cluster-admin everywhere; admin, edit and view
// in the namespaces that a binding names. Each of the three contains the next.
func userRoles() []*rbacv1.ClusterRole {
	return []*rbacv1.ClusterRole{
		clusterRole("cluster-admin", allow("*", "*", "*"), allowPaths("*", "*")),
		aggregated("admin", AggregateToAdmin),
		labelled(aggregated("edit", AggregateToEdit), AggregateToAdmin),
		labelled(aggregated("view", AggregateToView), AggregateToEdit),
		labelled(clusterRole("system:aggregate-to-admin", adminRules()...), AggregateToAdmin),
		labelled(clusterRole("system:aggregate-to-edit", editRules()...), AggregateToEdit),
		labelled(clusterRole("system:aggregate-to-view", viewRules()...), AggregateToView),
	}
}

func aggregated(name, label string) *rbacv1.ClusterRole {
	r := clusterRole(name)
	r.AggregationRule = &rbacv1.AggregationRule{
		ClusterRoleSelectors: []metav1.LabelSelector{{MatchLabels: map[string]string{label: "true"}}},
	}
	return r
}

func labelled(r *rbacv1.ClusterRole, label string) *rbacv1.ClusterRole {
	r.Labels[label] = "true"
	return r
}

// adminRules are what admin has over edit: giving rights to others.
func adminRules() []rbacv1.PolicyRule {
	return []rbacv1.PolicyRule{
		allow("create", "authorization.k8s.io", "localsubjectaccessreviews"),
		allow(read+" "+write, rbacv1.GroupName, "roles rolebindings"),
	}
}

// editRules change everything that users own in a namespace. Secrets, exec and
// proxies are read here, not in view: they lead to the rights of others.
func editRules() []rbacv1.PolicyRule {
	return []rbacv1.PolicyRule{
		allow(read, core, "pods/attach pods/proxy pods/exec pods/portforward secrets services/proxy"),
		allow("impersonate", core, "serviceaccounts"),
		allow(write, core, "pods pods/attach pods/proxy pods/exec pods/portforward"),
		allow("create", core, "pods/eviction"),
		allow(write, core, "replicationcontrollers replicationcontrollers/scale serviceaccounts services services/proxy"+
			" persistentvolumeclaims configmaps secrets events"),
		allow("create", core, "serviceaccounts/token"),
		allow(write, "apps", "statefulsets statefulsets/scale daemonsets deployments deployments/scale deployments/rollback"+
			" replicasets replicasets/scale"),
		allow(write, "autoscaling", "horizontalpodautoscalers"),
		allow(write, "batch", "jobs cronjobs"),
		allow(write, "extensions", "daemonsets deployments deployments/scale deployments/rollback ingresses"+
			" replicasets replicasets/scale replicationcontrollers/scale networkpolicies"),
		allow(write, "policy", "poddisruptionbudgets"),
		allow(write, "networking.k8s.io", "networkpolicies ingresses"),
		allow(read+" "+write, "coordination.k8s.io", "leases"),
	}
}

func viewRules() []rbacv1.PolicyRule {
	return []rbacv1.PolicyRule{
		allow(read, core, "pods replicationcontrollers replicationcontrollers/scale serviceaccounts services services/status"+
			" endpoints persistentvolumeclaims persistentvolumeclaims/status configmaps"),
		allow(read, core, "limitranges resourcequotas bindings events pods/status resourcequotas/status namespaces/status"+
			" replicationcontrollers/status pods/log"),
		// Bound in a namespace, this lets one see that namespace and no other.
		allow(read, core, "namespaces"),
		allow(read, "discovery.k8s.io", "endpointslices"),
		allow(read, "apps", "controllerrevisions statefulsets statefulsets/status statefulsets/scale daemonsets daemonsets/status"+
			" deployments deployments/status deployments/scale replicasets replicasets/status replicasets/scale"),
		allow(read, "autoscaling", "horizontalpodautoscalers horizontalpodautoscalers/status"),
		allow(read, "batch", "jobs cronjobs cronjobs/status jobs/status"),
		allow(read, "extensions", "daemonsets daemonsets/status deployments deployments/scale deployments/status ingresses"+
			" ingresses/status replicasets replicasets/scale replicasets/status replicationcontrollers/scale networkpolicies"),
		allow(read, "policy", "poddisruptionbudgets poddisruptionbudgets/status"),
		allow(read, "networking.k8s.io", "networkpolicies ingresses ingresses/status"),
	}
}

// systemRoles are meant for parts of the cluster and for what everyone may know.
func systemRoles() []*rbacv1.ClusterRole {
	const (
		certificates = "certificates.k8s.io"
		csr          = "system:certificates.k8s.io:certificatesigningrequests:"
	)
	health := []string{"/livez", "/readyz", "/healthz"}
	return []*rbacv1.ClusterRole{
		clusterRole("system:discovery", allowPaths("get", append(health,
			"/version", "/version/", "/openapi", "/openapi/*", "/api", "/api/*", "/apis", "/apis/*")...)),
		clusterRole("system:monitoring", allowPaths("get", append(health,
			"/metrics", "/metrics/slis", "/livez/*", "/readyz/*", "/healthz/*")...)),
		clusterRole("system:basic-user",
			allow("create", "authorization.k8s.io", "selfsubjectaccessreviews selfsubjectrulesreviews"),
			allow("create", "authentication.k8s.io", "selfsubjectreviews")),
		clusterRole("system:public-info-viewer", allowPaths("get", append(health, "/version", "/version/")...)),
		clusterRole("system:service-account-issuer-discovery", allowPaths("get",
			"/.well-known/openid-configuration", "/.well-known/openid-configuration/", "/openid/v1/jwks", "/openid/v1/jwks/")),
		clusterRole("system:node", NodeRules()...),
		clusterRole("system:node-bootstrapper", allow("create "+read, certificates, "certificatesigningrequests")),
		clusterRole("system:node-problem-detector",
			allow("get", core, "nodes"),
			allow("patch", core, "nodes/status"),
			recordEvents()),
		clusterRole("system:node-proxier",
			allow("list watch", core, "services endpoints"),
			allow(read, core, "nodes"),
			allow("list watch", "discovery.k8s.io", "endpointslices"),
			recordEvents()),
		clusterRole("system:kubelet-api-admin",
			allow(read, core, "nodes"),
			allow("proxy", core, "nodes"),
			allow("*", core, "nodes/proxy nodes/metrics nodes/stats nodes/log nodes/healthz nodes/pods nodes/configz")),
		clusterRole("system:auth-delegator", reviewOthers()...),
		clusterRole("system:kube-aggregator", allow(read, core, "services endpoints")),
		clusterRole("system:kube-dns", allow("list watch", core, "endpoints services"),
			allow("list watch", "discovery.k8s.io", "endpointslices")),
		clusterRole("system:kube-controller-manager", managerRules()...),
		clusterRole("system:kube-scheduler", schedulerRules()...),
		clusterRole("system:volume-scheduler",
			allow(read+" update patch", core, "persistentvolumes persistentvolumeclaims"),
			allow(read, "storage.k8s.io", "storageclasses")),
		clusterRole("system:persistent-volume-provisioner",
			allow(read+" create delete", core, "persistentvolumes"),
			allow(read+" update", core, "persistentvolumeclaims"),
			allow(read, "storage.k8s.io", "storageclasses"),
			allow("watch", core, "events"),
			recordEvents()),
		clusterRole(csr+"nodeclient", allow("create", certificates, "certificatesigningrequests/nodeclient")),
		clusterRole(csr+"selfnodeclient", allow("create", certificates, "certificatesigningrequests/selfnodeclient")),
	}
}

// reviewOthers lets a server ask us who its callers are and what they may do.
func reviewOthers() []rbacv1.PolicyRule {
	return []rbacv1.PolicyRule{
		allow("create", "authentication.k8s.io", "tokenreviews"),
		allow("create", "authorization.k8s.io", "subjectaccessreviews"),
	}
}

// NodeRules are the upper bound of what a node may do. Package nodes narrows them
// to its own objects; the role system:node has them too, but nobody is bound to
// it. Unlike in Kubernetes a node attaches no volumes, so storage is not in them.
func NodeRules() []rbacv1.PolicyRule {
	return append(reviewOthers(),
		allow("create", "authorization.k8s.io", "localsubjectaccessreviews"),
		allow(read, core, "services"),
		allow("create "+read, core, "nodes"),
		allow("update patch", core, "nodes nodes/status"),
		allow("create update patch", core, "events"),
		allow(read, core, "pods"),
		allow("create delete", core, "pods"),
		allow("update patch", core, "pods/status"),
		allow("create", core, "pods/eviction"),
		allow(read, core, "secrets configmaps"),
		allow("get", core, "persistentvolumeclaims"),
		allow("create "+read, "certificates.k8s.io", "certificatesigningrequests"),
		allow("get create update patch delete", "coordination.k8s.io", "leases"),
		allow("create", core, "serviceaccounts/token"),
		allow(read, "node.k8s.io", "runtimeclasses"),
		// Our nodes route Services themselves, which Kubernetes leaves to
		// kube-proxy and its role.
		allow(read, core, "endpoints"),
		allow(read, "discovery.k8s.io", "endpointslices"),
		allow("create update patch", "events.k8s.io", "events"),
	)
}

func managerRules() []rbacv1.PolicyRule {
	return append(reviewOthers(),
		recordEvents(),
		allow("create", "coordination.k8s.io", "leases"),
		allow("get update", "coordination.k8s.io", "leases", "kube-controller-manager"),
		allow("create", core, "secrets serviceaccounts"),
		allow("delete", core, "secrets"),
		allow("get", core, "namespaces secrets serviceaccounts configmaps"),
		allow("update", core, "secrets serviceaccounts"),
		allow("list watch", "*", "*"),
		allow("create", core, "serviceaccounts/token"),
	)
}

func schedulerRules() []rbacv1.PolicyRule {
	return append(reviewOthers(),
		recordEvents(),
		allow("create", "coordination.k8s.io", "leases"),
		allow("get update", "coordination.k8s.io", "leases", "kube-scheduler"),
		allow(read, core, "nodes namespaces"),
		allow(read+" delete", core, "pods"),
		allow("create", core, "pods/binding bindings"),
		allow("patch update", core, "pods/status"),
		allow(read, core, "services replicationcontrollers"),
		allow(read, "apps extensions", "replicasets"),
		allow(read, "apps", "statefulsets"),
		allow(read, "policy", "poddisruptionbudgets"),
		allow(read, "scheduling.k8s.io", "priorityclasses"),
		allow(read, core, "persistentvolumeclaims persistentvolumes"),
		allow(read, "storage.k8s.io", "csinodes csidrivers csistoragecapacities"),
	)
}

func systemBindings() []*rbacv1.ClusterRoleBinding {
	everyone := []rbacv1.Subject{groupSubject(user.AllAuthenticated), groupSubject(user.AllUnauthenticated)}
	return []*rbacv1.ClusterRoleBinding{
		clusterBinding("cluster-admin", groupSubject(user.SystemPrivilegedGroup)),
		clusterBinding("system:monitoring", groupSubject(user.MonitoringGroup)),
		clusterBinding("system:discovery", groupSubject(user.AllAuthenticated)),
		clusterBinding("system:basic-user", groupSubject(user.AllAuthenticated)),
		clusterBinding("system:public-info-viewer", everyone...),
		clusterBinding("system:service-account-issuer-discovery", groupSubject(serviceaccount.AllServiceAccountsGroup)),
		clusterBinding("system:node-proxier", userSubject(user.KubeProxy)),
		clusterBinding("system:kube-controller-manager", userSubject(user.KubeControllerManager)),
		clusterBinding("system:kube-dns", accountSubject("kube-dns")),
		clusterBinding("system:kube-scheduler", userSubject(user.KubeScheduler)),
		clusterBinding("system:volume-scheduler", userSubject(user.KubeScheduler)),
		// Nobody: nodes get their rights from the Node authorizer. The binding is
		// there for those who look for it.
		clusterBinding("system:node"),
	}
}
