package rbac_test

import (
	"slices"
	"strings"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/authentication/serviceaccount"
	"k8s.io/apiserver/pkg/authentication/user"

	"copepod/plane/auth/rbac"
)

func TestDefaultPolicyGivesEachWhatKubernetesGives(t *testing.T) {
	authz := rbac.New(append(policy(rbac.DefaultPolicy()),
		bind("team", "a", "ClusterRole", "admin", person("admin")),
		bind("team", "e", "ClusterRole", "edit", person("editor")),
		bind("team", "v", "ClusterRole", "view", person("viewer")),
	))
	anonymous := u("system:anonymous", user.AllUnauthenticated)
	someone := u("someone", user.AllAuthenticated)
	controller := func(name string) user.Info { return serviceaccount.UserInfo("kube-system", name, "1") }
	for _, tt := range []struct {
		who                               user.Info
		verb, resource, namespace, object string
		want                              bool
	}{
		{u("root", user.SystemPrivilegedGroup), "delete", "nodes", "", "n", true},
		{u("admin"), "create", "rbac.authorization.k8s.io:rolebindings", "team", "", true},
		{u("admin"), "delete", "secrets", "team", "s", true},
		{u("admin"), "get", "secrets", "other", "s", false},
		{u("admin"), "update", "namespaces", "team", "team", false},
		{u("editor"), "create", "rbac.authorization.k8s.io:rolebindings", "team", "", false},
		{u("editor"), "patch", "apps:deployments/scale", "team", "d", true},
		{u("editor"), "create", "pods/exec", "team", "p", true},
		{u("editor"), "get", "secrets", "team", "s", true},
		{u("editor"), "update", "pods/status", "team", "p", false},
		{u("viewer"), "list", "pods", "team", "", true},
		{u("viewer"), "get", "pods/log", "team", "p", true},
		{u("viewer"), "get", "secrets", "team", "s", false},
		{u("viewer"), "get", "pods/exec", "team", "p", false},
		{u("viewer"), "delete", "pods", "team", "p", false},
		{someone, "create", "authorization.k8s.io:selfsubjectaccessreviews", "", "", true},
		{someone, "create", "authentication.k8s.io:selfsubjectreviews", "", "", true},
		{someone, "list", "pods", "default", "", false},
		{anonymous, "create", "authorization.k8s.io:selfsubjectaccessreviews", "", "", false},
		{u("system:node:n1", user.NodesGroup, user.AllAuthenticated), "list", "secrets", "team", "", false},
		{u(user.KubeScheduler), "create", "pods/binding", "team", "p", true},
		{u(user.KubeScheduler), "get", "secrets", "team", "s", false},
		{u(user.KubeScheduler), "update", "coordination.k8s.io:leases", "kube-system", "kube-scheduler", true},
		{u(user.KubeScheduler), "update", "coordination.k8s.io:leases", "kube-system", "kube-controller-manager", false},
		{controller("replicaset-controller"), "create", "pods", "team", "", true},
		{controller("replicaset-controller"), "update", "pods", "team", "p", true},
		{controller("pod-garbage-collector"), "update", "pods/status", "team", "p", true},
		{controller("node-controller"), "update", "pods/status", "team", "p", true},
		{controller("node-controller"), "update", "nodes", "", "n", true},
		{controller("root-ca-cert-publisher"), "update", "configmaps", "team", "kube-root-ca.crt", true},
		{controller("namespace-controller"), "update", "namespaces/finalize", "", "team", true},
		{controller("replicaset-controller"), "create", "apps:replicasets", "team", "", false},
		{controller("replicaset-controller"), "get", "secrets", "team", "s", false},
		{controller("deployment-controller"), "create", "apps:replicasets", "team", "", true},
		{controller("deployment-controller"), "delete", "pods", "team", "p", false},
		{controller("endpointslice-controller"), "update", "discovery.k8s.io:endpointslices", "team", "e", true},
		{controller("namespace-controller"), "deletecollection", "example.com:widgets", "team", "", true},
		{controller("generic-garbage-collector"), "delete", "example.com:widgets", "team", "w", true},
		{controller("generic-garbage-collector"), "create", "pods", "team", "", false},
		{controller("service-account-controller"), "create", "serviceaccounts", "team", "", true},
		{controller("clusterrole-aggregation-controller"), "escalate", "rbac.authorization.k8s.io:clusterroles", "", "view", true},
		{controller("job-controller"), "create", "events", "team", "", true},
		{controller("job-controller"), "create", "events.k8s.io:events", "team", "", true},
	} {
		name := strings.Join([]string{tt.who.GetName(), tt.verb, tt.resource, "in", tt.namespace}, " ")
		t.Run(name, func(t *testing.T) {
			if got, reason := allowed(t, authz, ask(tt.who, tt.verb, tt.resource, tt.namespace, tt.object)); got != tt.want {
				t.Errorf("got %v (%s), want %v", got, reason, tt.want)
			}
		})
	}
}

func TestAnonymousGetsHealthAndVersionOnly(t *testing.T) {
	authz := rbac.New(policy(rbac.DefaultPolicy()))
	anonymous := u("system:anonymous", user.AllUnauthenticated)
	someone := u("someone", user.AllAuthenticated)
	for path, want := range map[string]struct{ anonymous, authenticated bool }{
		"/livez":            {true, true},
		"/readyz":           {true, true},
		"/healthz":          {true, true},
		"/version":          {true, true},
		"/readyz/etcd":      {false, false},
		"/metrics":          {false, false},
		"/api":              {false, true},
		"/apis/apps/v1":     {false, true},
		"/openapi/v3":       {false, true},
		"/openid/v1/jwks":   {false, false},
		"/debug/pprof/heap": {false, false},
		"/":                 {false, false},
	} {
		if got, _ := allowed(t, authz, askPath(anonymous, "get", path)); got != want.anonymous {
			t.Errorf("anonymous at %s: got %v, want %v", path, got, want.anonymous)
		}
		if got, _ := allowed(t, authz, askPath(someone, "get", path)); got != want.authenticated {
			t.Errorf("authenticated at %s: got %v, want %v", path, got, want.authenticated)
		}
	}
}

func TestDefaultPolicyIsWhole(t *testing.T) {
	objects := rbac.DefaultPolicy()
	seen := make(map[string]bool)
	for _, o := range objects {
		m := o.(metav1.Object)
		key := o.GetObjectKind().GroupVersionKind().Kind + " " + m.GetNamespace() + "/" + m.GetName()
		if seen[key] {
			t.Errorf("%s is there twice", key)
		}
		seen[key] = true
		if m.GetLabels()["kubernetes.io/bootstrapping"] != "rbac-defaults" || m.GetAnnotations()[rbacv1.AutoUpdateAnnotationKey] != "true" {
			t.Errorf("%s is not marked as a default", key)
		}
	}
	for _, o := range objects {
		var ref rbacv1.RoleRef
		namespace := o.(metav1.Object).GetNamespace()
		switch b := o.(type) {
		case *rbacv1.ClusterRoleBinding:
			ref = b.RoleRef
		case *rbacv1.RoleBinding:
			ref = b.RoleRef
		default:
			continue
		}
		if key := ref.Kind + " " + namespace + "/" + ref.Name; !seen[key] {
			t.Errorf("binding %s refers to %s, which is not there", o.(metav1.Object).GetName(), key)
		}
	}
	for _, o := range objects {
		if r, ok := o.(*rbacv1.ClusterRole); ok && len(r.Rules) == 0 {
			t.Errorf("ClusterRole %s has no rules", r.Name)
		}
	}
}

func TestAdminContainsEditContainsView(t *testing.T) {
	p := policy(rbac.DefaultPolicy())
	rules := func(name string) []rbacv1.PolicyRule {
		r, err := p.ClusterRole(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		return r.Rules
	}
	contains := func(outer, inner []rbacv1.PolicyRule) bool {
		for _, r := range inner {
			if !slices.ContainsFunc(outer, func(o rbacv1.PolicyRule) bool { return o.String() == r.String() }) {
				return false
			}
		}
		return len(outer) > len(inner)
	}
	if !contains(rules("admin"), rules("edit")) || !contains(rules("edit"), rules("view")) {
		t.Error("got roles that do not contain each other")
	}
}

func TestCustomRolesAggregateThroughEveryLevel(t *testing.T) {
	var roles []*rbacv1.ClusterRole
	for _, o := range rbac.DefaultPolicy() {
		if r, ok := o.(*rbacv1.ClusterRole); ok {
			roles = append(roles, r)
		}
	}
	if changed := rbac.Aggregate(roles); len(changed) != 0 {
		t.Fatalf("got %d changes in the default policy, want it settled", len(changed))
	}
	widgets := clusterRole("widgets-view", words("get", "example.com", "widgets"))
	widgets.Labels = map[string]string{rbac.AggregateToView: "true"}
	var names []string
	for _, r := range rbac.Aggregate(append(roles, widgets)) {
		names = append(names, r.Name)
		if !slices.ContainsFunc(r.Rules, func(p rbacv1.PolicyRule) bool { return slices.Contains(p.Resources, "widgets") }) {
			t.Errorf("%s did not get the rule", r.Name)
		}
	}
	if want := []string{"admin", "edit", "view"}; !slices.Equal(names, want) {
		t.Errorf("got changes to %v, want %v", names, want)
	}
}

func TestAggregationEndsInARingAndSurvivesABrokenSelector(t *testing.T) {
	ring := func(name, label, from string) *rbacv1.ClusterRole {
		r := clusterRole(name)
		r.Labels = map[string]string{label: "true"}
		r.AggregationRule = &rbacv1.AggregationRule{ClusterRoleSelectors: []metav1.LabelSelector{{MatchLabels: map[string]string{from: "true"}}}}
		return r
	}
	seed := clusterRole("seed", coreRule("get", "pods"))
	seed.Labels = map[string]string{"a": "true"}
	broken := ring("broken", "x", "y")
	broken.AggregationRule.ClusterRoleSelectors[0].MatchExpressions = []metav1.LabelSelectorRequirement{{Key: "k", Operator: "Near"}}
	changed := rbac.Aggregate([]*rbacv1.ClusterRole{ring("one", "b", "a"), ring("two", "a", "b"), seed, broken})
	if len(changed) != 2 {
		t.Fatalf("got %d changes, want one and two", len(changed))
	}
	for _, r := range changed {
		if len(r.Rules) != 1 {
			t.Errorf("%s: got %v, want the one rule of seed", r.Name, r.Rules)
		}
	}
}

func TestReconcileAddsWhatIsMissingAndNothingElse(t *testing.T) {
	wanted := clusterRole("r", coreRule("get list", "pods"))
	wanted.Labels = map[string]string{"kubernetes.io/bootstrapping": "rbac-defaults"}
	grown := wanted.DeepCopy()
	grown.Rules = append(grown.Rules, coreRule("get", "secrets"))
	shrunk := wanted.DeepCopy()
	shrunk.Rules[0].Verbs = []string{"get"}
	off := shrunk.DeepCopy()
	off.Annotations = map[string]string{rbacv1.AutoUpdateAnnotationKey: "false"}
	bound := bindCluster("b", "r", person("jane"))
	more := bindCluster("b", "r", person("joe"))
	elsewhere := bindCluster("b", "other", person("jane"))
	for _, tt := range []struct {
		name             string
		existing, wanted runtime.Object
		want             rbac.Change
	}{
		{"none yet", nil, wanted, rbac.Create},
		{"as wanted", wanted, wanted, rbac.Keep},
		{"with rules of others", grown, wanted, rbac.Keep},
		{"with a verb missing", shrunk, wanted, rbac.Update},
		{"left alone on demand", off, wanted, rbac.Keep},
		{"with another subject", more, bound, rbac.Update},
		{"to another role", elsewhere, bound, rbac.Recreate},
	} {
		t.Run(tt.name, func(t *testing.T) {
			out, change := rbac.Reconcile(tt.existing, tt.wanted)
			if change != tt.want {
				t.Fatalf("got %v, want %v", change, tt.want)
			}
			if change == rbac.Update {
				if _, again := rbac.Reconcile(out, tt.wanted); again != rbac.Keep {
					t.Errorf("after the update: got %v, want nothing more to do", again)
				}
			}
		})
	}
	if len(shrunk.Rules) != 1 || len(more.Subjects) != 1 {
		t.Error("an argument was changed")
	}
}
