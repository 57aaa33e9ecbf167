package validation_test

import (
	"strings"
	"testing"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	nodev1 "k8s.io/api/node/v1"
	policyv1 "k8s.io/api/policy/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
)

func TestConfigMapsAndSecretsAreJudged(t *testing.T) {
	const frozen = "Forbidden: field is immutable when `immutable` is set"
	creates[*corev1.ConfigMap]{
		{"a key that is no file name", func(c *corev1.ConfigMap) { c.Data = map[string]string{"a/b": ""} }, `data[a/b]: Invalid value: "a/b": a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')`},
		{"a key twice", func(c *corev1.ConfigMap) {
			c.Data, c.BinaryData = map[string]string{"a": ""}, map[string][]byte{"a": nil}
		}, `data[a]: Invalid value: "a": duplicate of key present in binaryData`},
		{"a mebibyte", func(c *corev1.ConfigMap) { c.Data = map[string]string{"a": strings.Repeat("x", 1<<20)} }, ""},
		{"more than a mebibyte", func(c *corev1.ConfigMap) {
			c.Data, c.BinaryData = map[string]string{"a": strings.Repeat("x", 1<<20)}, map[string][]byte{"b": []byte("x")}
		}, "[]: Too long: may not be more than 1048576 bytes"},
	}.run(t, gk("", "ConfigMap"))
	runUpdates(t, gk("", "ConfigMap"), update, updates[*corev1.ConfigMap]{
		{"data", nil, func(c *corev1.ConfigMap) { c.Data = map[string]string{"a": "b"} }, ""},
		{"data of an immutable one", func(c *corev1.ConfigMap) { c.Immutable = ptr.To(true) }, func(c *corev1.ConfigMap) {
			c.Data, c.BinaryData, c.Immutable = map[string]string{"a": "b"}, map[string][]byte{"c": nil}, nil
		}, "immutable: " + frozen + "\ndata: " + frozen + "\nbinaryData: " + frozen},
	})
	creates[*corev1.Secret]{
		{"more than a mebibyte", func(s *corev1.Secret) { s.Data = map[string][]byte{"a": make([]byte, 1<<20+1)} }, "data: Too long: may not be more than 1048576 bytes"},
		{"registry login that is not JSON", func(s *corev1.Secret) {
			s.Type, s.Data = corev1.SecretTypeDockerConfigJson, map[string][]byte{".dockerconfigjson": []byte("hunter2")}
		}, `data[.dockerconfigjson]: Invalid value: "<secret contents redacted>": invalid character 'h' looking for beginning of value`},
		{"certificate without a key", func(s *corev1.Secret) {
			s.Type, s.Data = corev1.SecretTypeTLS, map[string][]byte{"tls.crt": nil}
		}, "data[tls.key]: Required value"},
		{"token of nobody", func(s *corev1.Secret) { s.Type = corev1.SecretTypeServiceAccountToken }, "metadata.annotations[kubernetes.io/service-account.name]: Required value"},
	}.run(t, gk("", "Secret"))
	runUpdates(t, gk("", "Secret"), update, updates[*corev1.Secret]{
		{"type", nil, func(s *corev1.Secret) { s.Type = "a/b" }, `type: Invalid value: "a/b": field is immutable`},
		{"data of an immutable one", func(s *corev1.Secret) { s.Immutable = ptr.To(true) }, func(s *corev1.Secret) { s.Data = map[string][]byte{"a": nil} }, "data: " + frozen},
	})
}

func TestNamespacesAreJudged(t *testing.T) {
	kind := gk("", "Namespace")
	creates[*corev1.Namespace]{
		{"name with a dot", func(n *corev1.Namespace) { n.Name = "a.b" }, `metadata.name: Invalid value: "a.b": must not contain dots`},
		{"in a namespace", func(n *corev1.Namespace) { n.Namespace = "a" }, "metadata.namespace: Forbidden: not allowed on this type"},
		{"finalizer", func(n *corev1.Namespace) { n.Spec.Finalizers = []corev1.FinalizerName{"mine"} }, `spec.finalizers: Invalid value: "mine": name is neither a standard finalizer name nor is it fully qualified`},
	}.run(t, kind)
	gone := metav1.Now()
	runUpdates(t, kind, updateStatus, updates[*corev1.Namespace]{
		{"ends too soon", nil, func(n *corev1.Namespace) { n.Status.Phase = "Terminating" }, "status.Phase: Invalid value: \"Terminating\": may only be 'Active' if `deletionTimestamp` is empty"},
		{"does not end", func(n *corev1.Namespace) { n.DeletionTimestamp = &gone }, func(n *corev1.Namespace) {}, "status.Phase: Invalid value: \"Active\": may only be 'Terminating' if `deletionTimestamp` is not empty"},
	})
	runUpdates(t, kind, update, updates[*corev1.Namespace]{
		{"finalized", nil, func(n *corev1.Namespace) { n.Spec.Finalizers = nil }, ""},
	})
}

func TestNodesAreJudged(t *testing.T) {
	kind := gk("", "Node")
	creates[*corev1.Node]{
		{"taints", func(n *corev1.Node) {
			n.Spec.Taints = []corev1.Taint{{Key: "a"}, {Key: "b", Effect: "x"}, {Key: "c", Effect: "NoExecute"}, {Key: "c", Value: "v", Effect: "NoExecute"}}
		}, "metadata.taints[0].effect: Required value\nmetadata.taints[1].effect: Unsupported value: \"x\": supported values: \"NoSchedule\", \"PreferNoSchedule\", \"NoExecute\"\nmetadata.taints[3]: Duplicate value: {\"key\":\"c\",\"value\":\"v\",\"effect\":\"NoExecute\"}: taints must be unique by key and effect pair"},
		{"capacity", func(n *corev1.Node) {
			n.Status.Capacity = corev1.ResourceList{"pods": resource.MustParse("1500m"), "cpu": resource.MustParse("-1")}
		}, "status.capacity.cpu: Invalid value: \"-1\": must be greater than or equal to 0\nstatus.capacity.pods: Invalid value: \"1500m\": must be an integer"},
		{"ranges", func(n *corev1.Node) { n.Spec.PodCIDRs = []string{"10.0.0.0/24", "10.0.0.0/24"} }, "spec.podCIDRs: Invalid value: [\"10.0.0.0/24\",\"10.0.0.0/24\"]: may specify no more than one CIDR for each IP family\nspec.podCIDRs[1]: Duplicate value: \"10.0.0.0/24\""},
	}.run(t, kind)
	runUpdates(t, kind, update, updates[*corev1.Node]{
		{"the first range", nil, func(n *corev1.Node) { n.Spec.PodCIDR, n.Spec.PodCIDRs = "10.0.0.0/24", []string{"10.0.0.0/24"} }, ""},
		{"another range", func(n *corev1.Node) { n.Spec.PodCIDR = "10.0.0.0/24" }, func(n *corev1.Node) { n.Spec.PodCIDRs = []string{"10.0.1.0/24"} }, `spec.podCIDRs: Forbidden: node updates may not change podCIDR except from "" to valid`},
		{"another provider", func(n *corev1.Node) { n.Spec.ProviderID = "a" }, func(n *corev1.Node) { n.Spec.ProviderID = "b" }, `spec.providerID: Forbidden: node updates may not change providerID except from "" to valid`},
		{"cordoned", nil, func(n *corev1.Node) { n.Spec.Unschedulable = true }, ""},
		{"an address twice", nil, func(n *corev1.Node) {
			n.Status.Addresses = []corev1.NodeAddress{{Type: "InternalIP", Address: "1.1.1.1"}, {Type: "InternalIP", Address: "1.1.1.1"}}
		}, `status.addresses[1]: Duplicate value: {"type":"InternalIP","address":"1.1.1.1"}`},
	})
}

func TestRolesAndBindingsAreJudged(t *testing.T) {
	creates[*rbacv1.Role]{
		{"no verbs", func(r *rbacv1.Role) { r.Rules = []rbacv1.PolicyRule{{}} }, "rules[0].verbs: Required value: verbs must contain at least one value\nrules[0].apiGroups: Required value: resource rules must supply at least one api group\nrules[0].resources: Required value: resource rules must supply at least one resource"},
		{"urls in a namespace", func(r *rbacv1.Role) { r.Rules[0].NonResourceURLs = []string{"/x"} }, "rules[0].nonResourceURLs: Invalid value: [\"/x\"]: namespaced rules cannot apply to non-resource URLs\nrules[0].nonResourceURLs: Invalid value: [\"/x\"]: rules cannot apply to both regular resources and non-resource URLs"},
		{"name that is a path", func(r *rbacv1.Role) { r.Name = "a/b" }, `metadata.name: Invalid value: "a/b": may not contain '/'`},
	}.run(t, gk(rbacv1.GroupName, "Role"))
	creates[*rbacv1.ClusterRole]{
		{"gathers nothing", func(r *rbacv1.ClusterRole) { r.AggregationRule = &rbacv1.AggregationRule{} }, "aggregationRule.clusterRoleSelectors: Required value: at least one clusterRoleSelector required if aggregationRule is non-nil"},
	}.run(t, gk(rbacv1.GroupName, "ClusterRole"))
	creates[*rbacv1.ClusterRoleBinding]{
		{"of a role", func(b *rbacv1.ClusterRoleBinding) { b.RoleRef.Kind = "Role" }, `roleRef.kind: Unsupported value: "Role": supported values: "ClusterRole"`},
		{"subjects", func(b *rbacv1.ClusterRoleBinding) {
			b.Subjects = []rbacv1.Subject{{Kind: "User", APIGroup: "x"}, {Kind: "ServiceAccount", Name: "s", APIGroup: "x"}, {Kind: "Robot", Name: "r"}}
		}, "subjects[0].name: Required value\nsubjects[0].name: Invalid value: \"\": user name cannot be empty\nsubjects[0].apiGroup: Unsupported value: \"x\": supported values: \"rbac.authorization.k8s.io\"\n" +
			"subjects[1].apiGroup: Unsupported value: \"x\": supported values: \"\"\nsubjects[1].namespace: Required value\nsubjects[2].kind: Unsupported value: \"Robot\": supported values: \"ServiceAccount\", \"User\", \"Group\""},
	}.run(t, gk(rbacv1.GroupName, "ClusterRoleBinding"))
	runUpdates(t, gk(rbacv1.GroupName, "RoleBinding"), update, updates[*rbacv1.RoleBinding]{
		{"another role", nil, func(b *rbacv1.RoleBinding) { b.RoleRef.Name = "admin" }, `roleRef: Invalid value: {"apiGroup":"rbac.authorization.k8s.io","kind":"Role","name":"admin"}: cannot change roleRef`},
		{"another subject", nil, func(b *rbacv1.RoleBinding) { b.Subjects = nil }, ""},
	})
}

func TestClassesAndLeasesAreJudged(t *testing.T) {
	creates[*nodev1.RuntimeClass]{
		{"handler", func(r *nodev1.RuntimeClass) { r.Handler = "A" }, `handler: Invalid value: "A": ` + badLabel},
		{"scheduling", func(r *nodev1.RuntimeClass) {
			r.Scheduling = &nodev1.Scheduling{Tolerations: []corev1.Toleration{{Key: "a", Operator: "x"}}}
		}, `scheduling.tolerations[0].operator: Unsupported value: "x": supported values: "Equal", "Exists"`},
	}.run(t, gk("node.k8s.io", "RuntimeClass"))
	runUpdates(t, gk("node.k8s.io", "RuntimeClass"), update, updates[*nodev1.RuntimeClass]{
		{"another handler", nil, func(r *nodev1.RuntimeClass) { r.Handler = "other" }, `handler: Invalid value: "other": field is immutable`},
	})
	creates[*schedulingv1.PriorityClass]{
		{"too important", func(p *schedulingv1.PriorityClass) { p.Value = 1_000_000_001 }, "value: Forbidden: maximum allowed value of a user defined priority is 1000000000"},
		{"one of the system", func(p *schedulingv1.PriorityClass) { p.Name, p.Value = "system-node-critical", 2_000_001_000 }, ""},
		{"pretends to be the system", func(p *schedulingv1.PriorityClass) { p.Name = "system-mine" }, "metadata.name: Forbidden: priority class names with 'system-' prefix are reserved for system use only. error: system-mine is not a known system priority class"},
	}.run(t, gk("scheduling.k8s.io", "PriorityClass"))
	runUpdates(t, gk("scheduling.k8s.io", "PriorityClass"), update, updates[*schedulingv1.PriorityClass]{
		{"another value", nil, func(p *schedulingv1.PriorityClass) { p.Value = 2 }, "value: Forbidden: may not be changed in an update."},
	})
	creates[*coordinationv1.Lease]{
		{"no time", func(l *coordinationv1.Lease) {
			l.Spec.LeaseDurationSeconds, l.Spec.LeaseTransitions = ptr.To[int32](0), ptr.To[int32](-1)
		}, "spec.leaseDurationSeconds: Invalid value: 0: must be greater than 0\nspec.leaseTransitions: Invalid value: -1: must be greater than or equal to 0"},
	}.run(t, gk("coordination.k8s.io", "Lease"))
}

func TestEventsAreJudged(t *testing.T) {
	creates[*corev1.Event]{
		{"of another namespace", func(e *corev1.Event) { e.InvolvedObject.Namespace = "other" }, `involvedObject.namespace: Invalid value: "other": does not match event.namespace`},
		{"of a node, in default", func(e *corev1.Event) { e.InvolvedObject.Namespace, e.Namespace = "", "default" }, ""},
		{"of a node, elsewhere", func(e *corev1.Event) { e.InvolvedObject.Namespace = "" }, `involvedObject.namespace: Invalid value: "": does not match event.namespace`},
		{"new, and says little", func(e *corev1.Event) { e.EventTime, e.Message = metav1.NowMicro(), strings.Repeat("x", 1025) }, "reportingController: Required value\n" +
			"reportingController: Invalid value: \"\": name part must be non-empty\n" +
			"reportingController: Invalid value: \"\": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')\n" +
			"reportingInstance: Required value\naction: Required value\nreason: Required value\nmessage: Invalid value: \"\": can have at most 1024 characters"},
	}.run(t, gk("", "Event"))
	kind := gk("events.k8s.io", "Event")
	creates[*eventsv1.Event]{
		{"with old fields", func(e *eventsv1.Event) { e.DeprecatedCount, e.Type = 1, "x" }, "type: Invalid value: \"\": has invalid value: x\ncount: Invalid value: \"\": needs to be unset"},
	}.run(t, kind)
	runUpdates(t, kind, update, updates[*eventsv1.Event]{
		{"a series", nil, func(e *eventsv1.Event) {
			e.Series = &eventsv1.EventSeries{Count: 2, LastObservedTime: metav1.NowMicro()}
		}, ""},
		{"another note", nil, func(e *eventsv1.Event) { e.Note = "x" }, `message: Invalid value: "x": field is immutable`},
	})
}

func TestRequestsThatAreNotStoredAreJudged(t *testing.T) {
	creates[*corev1.Binding]{
		{"to no node", func(b *corev1.Binding) { b.Target = corev1.ObjectReference{Kind: "Pod"} }, "target.kind: Unsupported value: \"Pod\": supported values: \"Node\", \"<empty>\"\ntarget.name: Required value"},
	}.run(t, gk("", "Binding"))
	creates[*policyv1.Eviction]{
		{"options", func(e *policyv1.Eviction) { e.DeleteOptions = &metav1.DeleteOptions{DryRun: []string{"x"}} }, `dryRun: Unsupported value: ["x"]: supported values: "All"`},
	}.run(t, gk("policy", "Eviction"))
	creates[*authenticationv1.TokenRequest]{
		{"short", func(r *authenticationv1.TokenRequest) { r.Spec.ExpirationSeconds = ptr.To[int64](1) }, "spec.expirationSeconds: Invalid value: 1: may not specify a duration less than 10 minutes"},
		{"long", func(r *authenticationv1.TokenRequest) { r.Spec.ExpirationSeconds = ptr.To[int64](1<<32 + 1) }, "spec.expirationSeconds: Invalid value: 4294967297: may not specify a duration larger than 2^32 seconds"},
	}.run(t, gk("authentication.k8s.io", "TokenRequest"))
	creates[*authorizationv1.SubjectAccessReview]{
		{"about nothing", func(r *authorizationv1.SubjectAccessReview) { r.Spec = authorizationv1.SubjectAccessReviewSpec{} }, "spec.resourceAttributes: Invalid value: null: exactly one of nonResourceAttributes or resourceAttributes must be specified\nspec.user: Invalid value: \"\": at least one of user or group must be specified"},
	}.run(t, gk("authorization.k8s.io", "SubjectAccessReview"))
	creates[*authorizationv1.LocalSubjectAccessReview]{
		{"about another namespace", func(r *authorizationv1.LocalSubjectAccessReview) { r.Spec.ResourceAttributes.Namespace = "x" }, `spec.resourceAttributes.namespace: Invalid value: "x": must match metadata.namespace`},
	}.run(t, gk("authorization.k8s.io", "LocalSubjectAccessReview"))
}
