package rbac_test

import (
	"strings"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/authentication/user"

	"copepod/plane/auth/rbac"
)

func guard(extra ...runtime.Object) rbac.Guard {
	authz := rbac.New(append(policy(rbac.DefaultPolicy()), extra...))
	return rbac.Guard{Authorizer: authz, RBAC: authz}
}

func TestNobodyGrantsWhatTheyDoNotHold(t *testing.T) {
	g := guard(
		bind("team", "a", "ClusterRole", "admin", person("admin")),
		bindCluster("root", "cluster-admin", person("root")),
		clusterRole("binder", words("bind", rbacv1.GroupName, "clusterroles", "view")),
		bind("team", "b", "ClusterRole", "binder", person("binder")),
		clusterRole("escalator", words("escalate", rbacv1.GroupName, "roles clusterroles")),
		bindCluster("e", "escalator", person("escalator")),
	)
	role := func(rules ...rbacv1.PolicyRule) *rbacv1.Role {
		return &rbacv1.Role{ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: "r"}, Rules: rules}
	}
	elsewhere := role(coreRule("get", "pods"))
	elsewhere.Namespace = "other"
	aggregated := clusterRole("agg")
	aggregated.AggregationRule = &rbacv1.AggregationRule{}
	for _, tt := range []struct {
		name string
		who  user.Info
		obj  runtime.Object
		want string // "" = allowed
	}{
		{"admin makes a role of what admin may", u("admin"), role(coreRule("get list", "pods", "x")), ""},
		{"admin makes a role of more", u("admin"), role(coreRule("get", "nodes")), `{APIGroups:[""], Resources:["nodes"], Verbs:["get"]}`},
		{"admin makes a role elsewhere", u("admin"), elsewhere, "attempting to grant"},
		{"admin binds edit", u("admin"), bind("team", "x", "ClusterRole", "edit", person("joe")), ""},
		{"admin binds cluster-admin", u("admin"), bind("team", "x", "ClusterRole", "cluster-admin", person("joe")), `{APIGroups:["*"], Resources:["*"], Verbs:["*"]}`},
		{"admin binds cluster-wide", u("admin"), bindCluster("x", "view", person("joe")), "attempting to grant"},
		{"binder binds what it may bind", u("binder"), bind("team", "x", "ClusterRole", "view", person("joe")), ""},
		{"binder binds something else", u("binder"), bind("team", "x", "ClusterRole", "edit", person("joe")), "attempting to grant"},
		{"binder binds it elsewhere", u("binder"), bind("other", "x", "ClusterRole", "view", person("joe")), "attempting to grant"},
		{"escalator makes any role", u("escalator"), role(coreRule("*", "*")), ""},
		{"escalator aggregates", u("escalator"), aggregated, ""},
		{"admin aggregates", u("admin"), aggregated, "must have cluster-admin privileges to use an aggregationRule"},
		{"cluster-admin aggregates", u("root"), aggregated, ""},
		{"masters do anything", u("x", user.SystemPrivilegedGroup), bindCluster("x", "cluster-admin", person("x")), ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := g.Check(t.Context(), tt.who, tt.obj, nil)
			switch {
			case tt.want == "" && err != nil:
				t.Errorf("got %v, want it allowed", err)
			case tt.want != "" && (!apierrors.IsForbidden(err) || !strings.Contains(err.Error(), tt.want)):
				t.Errorf("got %v, want Forbidden with %q", err, tt.want)
			}
		})
	}
}

func TestEscalationIsWordedAsKubernetesWordsIt(t *testing.T) {
	err := guard().Check(t.Context(), u("jane", "dev", "ops"), clusterRole("big",
		coreRule("get list", "pods secrets"),
		coreRule("get", "configmaps", "settings"),
		rbacv1.PolicyRule{Verbs: []string{"get"}, NonResourceURLs: []string{"/metrics"}},
	), nil)
	want := `clusterroles.rbac.authorization.k8s.io "big" is forbidden: ` +
		`user "jane" (groups=["dev" "ops"]) is attempting to grant RBAC permissions not currently held:
{APIGroups:[""], Resources:["configmaps"], ResourceNames:["settings"], Verbs:["get"]}
{APIGroups:[""], Resources:["pods"], Verbs:["get" "list"]}
{APIGroups:[""], Resources:["secrets"], Verbs:["get" "list"]}
{NonResourceURLs:["/metrics"], Verbs:["get"]}`
	if err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}

func TestUpdatesThatGrantNothingNewPass(t *testing.T) {
	g := guard(bindCluster("c", "cluster-admin", person("root")))
	old := clusterRole("big", coreRule("*", "*"))
	relabelled := old.DeepCopy()
	relabelled.Labels = map[string]string{"a": "b"}
	if err := g.Check(t.Context(), u("jane"), relabelled, old); err != nil {
		t.Errorf("same rules: got %v, want it allowed", err)
	}
	aggregating := relabelled.DeepCopy()
	aggregating.Labels = nil
	aggregating.AggregationRule = &rbacv1.AggregationRule{}
	if err := g.Check(t.Context(), u("jane"), aggregating, old); !apierrors.IsForbidden(err) {
		t.Errorf("new aggregation: got %v, want Forbidden", err)
	}
	binding := bindCluster("x", "cluster-admin", person("a"))
	binding.Finalizers = []string{"x/y"}
	released := bindCluster("x", "cluster-admin", person("a"))
	if err := g.Check(t.Context(), u("collector"), released, binding); err != nil {
		t.Errorf("finalizer removed: got %v, want it allowed", err)
	}
	added := bindCluster("x", "cluster-admin", person("a"), person("jane"))
	if err := g.Check(t.Context(), u("jane"), added, binding); !apierrors.IsForbidden(err) {
		t.Errorf("subject added: got %v, want Forbidden", err)
	}
}

func TestBindingToNoRoleIsNotFound(t *testing.T) {
	err := guard().Check(t.Context(), u("jane"), bindCluster("x", "gone", person("jane")), nil)
	if !apierrors.IsNotFound(err) {
		t.Errorf("got %v, want NotFound", err)
	}
}
