package rbac

import (
	"strings"

	rbacv1 "k8s.io/api/rbac/v1"
)

// controllerPrefix and the name of a service account in kube-system make the name
// of that controller's role.
const controllerPrefix = "system:controller:"

// controllerRoles gives each controller an identity of its own with the least
// rights that its work takes.
func controllerRoles() []*rbacv1.ClusterRole {
	const apps = "apps extensions"
	controller := func(name string, rules ...rbacv1.PolicyRule) *rbacv1.ClusterRole {
		return clusterRole(controllerPrefix+name, append(rules, recordEvents())...)
	}
	return append(workloadRoles(),
		controller("clusterrole-aggregation-controller",
			// Any rule may come to any aggregated role, hence escalate.
			allow("escalate "+read+" update patch", rbacv1.GroupName, "clusterroles")),
		controller("certificate-controller",
			allow(read+" delete", "certificates.k8s.io", "certificatesigningrequests"),
			allow("update", "certificates.k8s.io", "certificatesigningrequests/status certificatesigningrequests/approval"),
			allow("approve", "certificates.k8s.io", "signers", "kubernetes.io/kube-apiserver-client-kubelet"),
			allow("sign", "certificates.k8s.io", "signers", "kubernetes.io/legacy-unknown", "kubernetes.io/kube-apiserver-client",
				"kubernetes.io/kube-apiserver-client-kubelet", "kubernetes.io/kubelet-serving"),
			allow("create", "authorization.k8s.io", "subjectaccessreviews")),
		controller("disruption-controller",
			allow(read, apps, "deployments replicasets"),
			allow(read, core, "replicationcontrollers pods"),
			allow(read, "policy", "poddisruptionbudgets"),
			allow(read, "apps", "statefulsets"),
			allow("update", "policy", "poddisruptionbudgets/status"),
			allow("patch update", core, "pods/status"),
			allow("get", "*", "*/scale")),
		controller("endpoint-controller",
			allow(read, core, "services pods"),
			allow(read+" create update delete", core, "endpoints"),
			allow("create", core, "endpoints/restricted")),
		controller("endpointslice-controller",
			allow(read, core, "services pods nodes"),
			// An EndpointSlice that blocks its Service's deletion needs this.
			allow("update", core, "services/finalizers"),
			allow(read+" create update delete", "discovery.k8s.io", "endpointslices")),
		controller("endpointslicemirroring-controller",
			allow(read, core, "services endpoints"),
			allow("update", core, "services/finalizers endpoints/finalizers"),
			allow(read+" create update delete", "discovery.k8s.io", "endpointslices")),
		controller("event-ttl-controller",
			// Kubernetes leaves this to etcd leases; our store has none.
			allow("list watch delete", core+" events.k8s.io", "events")),
		controller("generic-garbage-collector",
			allow(read+" patch update delete", "*", "*")),
		controller("horizontal-pod-autoscaler",
			allow(read, "autoscaling", "horizontalpodautoscalers"),
			allow("update", "autoscaling", "horizontalpodautoscalers/status"),
			allow("get update", "*", "*/scale"),
			allow("list watch", core, "pods"),
			allow("list watch", "metrics.k8s.io", "pods"),
			allow(read, "custom.metrics.k8s.io", "*"),
			allow(read, "external.metrics.k8s.io", "*")),
		controller("namespace-controller",
			allow(read+" delete", core, "namespaces"),
			allow("update", core, "namespaces/finalize namespaces/status"),
			allow(read+" delete deletecollection", "*", "*")),
		controller("node-controller",
			allow(read+" update delete patch", core, "nodes"),
			allow("patch update", core, "nodes/status pods/status"),
			allow(read+" delete", core, "pods"),
			allow(read, "coordination.k8s.io", "leases")),
		controller("pod-garbage-collector",
			allow(read+" delete", core, "pods"),
			allow(read, core, "nodes"),
			allow("update patch", core, "pods/status")),
		controller("resourcequota-controller",
			allow("list watch", "*", "*"),
			allow("update", core, "resourcequotas/status")),
		controller("root-ca-cert-publisher",
			allow(read+" create update", core, "configmaps"),
			allow("list watch", core, "namespaces")),
		controller("service-account-controller",
			allow("create list watch", core, "serviceaccounts"),
			allow("list watch", core, "namespaces")),
		controller("ttl-after-finished-controller",
			allow(read+" delete", "batch", "jobs")),
	)
}

// workloadRoles are of the controllers that make pods, or things that make pods.
// They may update what Kubernetes' ones only patch: adopting a pod in-process is
// an update of the whole object.
func workloadRoles() []*rbacv1.ClusterRole {
	const apps = "apps extensions"
	controller := func(name string, rules ...rbacv1.PolicyRule) *rbacv1.ClusterRole {
		return clusterRole(controllerPrefix+name, append(rules, recordEvents())...)
	}
	return []*rbacv1.ClusterRole{
		controller("cronjob-controller",
			allow(read+" update", "batch", "cronjobs"),
			allow(read+" create update delete patch", "batch", "jobs"),
			allow("update", "batch", "cronjobs/status cronjobs/finalizers"),
			allow("list watch delete", core, "pods")),
		controller("daemon-set-controller",
			allow(read, apps, "daemonsets"),
			allow("update", apps, "daemonsets/status daemonsets/finalizers"),
			allow("list watch", core, "nodes"),
			allow("list watch create delete update patch", core, "pods"),
			allow("create", core, "pods/binding"),
			allow(read+" create delete update patch", "apps", "controllerrevisions")),
		controller("deployment-controller",
			allow(read+" update", apps, "deployments"),
			allow("update", apps, "deployments/status deployments/finalizers"),
			allow(read+" create update patch delete", apps, "replicasets"),
			allow(read+" update", core, "pods")),
		controller("job-controller",
			allow(read+" update patch", "batch", "jobs"),
			allow("update", "batch", "jobs/status jobs/finalizers"),
			allow("list watch create delete update patch", core, "pods")),
		controller("replicaset-controller",
			allow(read+" update", apps, "replicasets"),
			allow("update", apps, "replicasets/status replicasets/finalizers"),
			allow("list watch create delete update patch", core, "pods")),
		controller("statefulset-controller",
			allow(read, "apps", "statefulsets"),
			allow("update", "apps", "statefulsets/status statefulsets/finalizers"),
			allow(read+" create delete update patch", core, "pods"),
			allow("update", core, "pods/finalizers"),
			allow(read+" create delete update patch", "apps", "controllerrevisions"),
			allow(read+" create update delete", core, "persistentvolumeclaims")),
	}
}

// controllerBindings gives every controller's role to the service account that
// the role is named for.
func controllerBindings() []*rbacv1.ClusterRoleBinding {
	var out []*rbacv1.ClusterRoleBinding
	for _, r := range controllerRoles() {
		out = append(out, clusterBinding(r.Name, accountSubject(strings.TrimPrefix(r.Name, controllerPrefix))))
	}
	return out
}
