package rbac_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/authentication/serviceaccount"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/component-helpers/auth/rbac/validation"

	"copepod/plane/auth/rbac"
)

// policy is a Lister over objects in memory.
type policy []runtime.Object

func (p policy) Role(_ context.Context, namespace, name string) (*rbacv1.Role, error) {
	for _, o := range p {
		if r, ok := o.(*rbacv1.Role); ok && r.Namespace == namespace && r.Name == name {
			return r, nil
		}
	}
	return nil, apierrors.NewNotFound(rbacv1.Resource("role"), name)
}

func (p policy) ClusterRole(_ context.Context, name string) (*rbacv1.ClusterRole, error) {
	for _, o := range p {
		if r, ok := o.(*rbacv1.ClusterRole); ok && r.Name == name {
			return r, nil
		}
	}
	return nil, apierrors.NewNotFound(rbacv1.Resource("clusterrole"), name)
}

func (p policy) RoleBindings(_ context.Context, namespace string) (out []*rbacv1.RoleBinding, _ error) {
	for _, o := range p {
		if b, ok := o.(*rbacv1.RoleBinding); ok && b.Namespace == namespace {
			out = append(out, b)
		}
	}
	return out, nil
}

func (p policy) ClusterRoleBindings(context.Context) (out []*rbacv1.ClusterRoleBinding, _ error) {
	for _, o := range p {
		if b, ok := o.(*rbacv1.ClusterRoleBinding); ok {
			out = append(out, b)
		}
	}
	return out, nil
}

// words builds a rule from verbs, groups, resources and names.
func words(verbs, groups, resources string, names ...string) rbacv1.PolicyRule {
	return rbacv1.PolicyRule{
		Verbs:         strings.Fields(verbs),
		APIGroups:     strings.Fields(groups),
		Resources:     strings.Fields(resources),
		ResourceNames: names,
	}
}

func coreRule(verbs, resources string, names ...string) rbacv1.PolicyRule {
	r := words(verbs, "", resources, names...)
	r.APIGroups = []string{""}
	return r
}

func clusterRole(name string, rules ...rbacv1.PolicyRule) *rbacv1.ClusterRole {
	return &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: name}, Rules: rules}
}

func bindCluster(name, role string, subjects ...rbacv1.Subject) *rbacv1.ClusterRoleBinding {
	return &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role},
		Subjects:   subjects,
	}
}

func bind(namespace, name, kind, role string, subjects ...rbacv1.Subject) *rbacv1.RoleBinding {
	return &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: kind, Name: role},
		Subjects:   subjects,
	}
}

func person(name string) rbacv1.Subject { return rbacv1.Subject{Kind: "User", Name: name} }
func group(name string) rbacv1.Subject  { return rbacv1.Subject{Kind: "Group", Name: name} }
func account(namespace, name string) rbacv1.Subject {
	return rbacv1.Subject{Kind: "ServiceAccount", Namespace: namespace, Name: name}
}

func u(name string, groups ...string) user.Info { return &user.DefaultInfo{Name: name, Groups: groups} }

// ask words a resource request; resource is "pods", "pods/log" or "apps:deployments".
func ask(who user.Info, verb, resource, namespace, name string) authorizer.AttributesRecord {
	a := authorizer.AttributesRecord{User: who, Verb: verb, Namespace: namespace, Name: name, ResourceRequest: true}
	if group, rest, ok := strings.Cut(resource, ":"); ok {
		a.APIGroup, resource = group, rest
	}
	a.Resource, a.Subresource, _ = strings.Cut(resource, "/")
	return a
}

func askPath(who user.Info, verb, path string) authorizer.AttributesRecord {
	return authorizer.AttributesRecord{User: who, Verb: verb, Path: path}
}

func allowed(t *testing.T, a authorizer.Authorizer, attrs authorizer.Attributes) (bool, string) {
	decision, reason, err := a.Authorize(t.Context(), attrs)
	if err != nil {
		t.Errorf("got error %v, want none", err)
	}
	if decision == authorizer.DecisionDeny {
		t.Error("got a denial, want no opinion at most")
	}
	return decision == authorizer.DecisionAllow, reason
}

func Example() {
	authz := rbac.New(policy{
		clusterRole("pod-reader", coreRule("get list", "pods")),
		bindCluster("readers", "pod-reader", group("developers")),
	})
	_, reason, _ := authz.Authorize(context.Background(), ask(u("jane", "developers"), "get", "pods", "default", "web"))
	fmt.Println(reason)
	// Output: RBAC: allowed by ClusterRoleBinding "readers" of ClusterRole "pod-reader" to Group "developers"
}

func TestReasonsNameBindingRoleAndSubject(t *testing.T) {
	authz := rbac.New(policy{
		clusterRole("reader", coreRule("get", "pods")),
		&rbacv1.Role{ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: "local"}, Rules: []rbacv1.PolicyRule{coreRule("get", "secrets")}},
		bindCluster("all", "reader", group("g"), person("jane")),
		bind("a", "some", "Role", "local", account("", "robot"), account("b", "guest")),
		bind("a", "pods", "ClusterRole", "reader", person("joe")),
	})
	robot := func(ns, name string) user.Info { return serviceaccount.UserInfo(ns, name, "1") }
	for _, tt := range []struct {
		name  string
		attrs authorizer.Attributes
		want  string
	}{
		{"user everywhere", ask(u("jane"), "get", "pods", "x", ""), `RBAC: allowed by ClusterRoleBinding "all" of ClusterRole "reader" to User "jane"`},
		{"first subject wins", ask(u("jane", "g"), "get", "pods", "x", ""), `RBAC: allowed by ClusterRoleBinding "all" of ClusterRole "reader" to Group "g"`},
		{"cluster role in a namespace", ask(u("joe"), "get", "pods", "a", ""), `RBAC: allowed by RoleBinding "pods/a" of ClusterRole "reader" to User "joe"`},
		{"account of the binding's namespace", ask(robot("a", "robot"), "get", "secrets", "a", "s"), `RBAC: allowed by RoleBinding "some/a" of Role "local" to ServiceAccount "robot/a"`},
		{"account of another namespace", ask(robot("b", "guest"), "get", "secrets", "a", "s"), `RBAC: allowed by RoleBinding "some/a" of Role "local" to ServiceAccount "guest/b"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ok, reason := allowed(t, authz, tt.attrs)
			if !ok || reason != tt.want {
				t.Errorf("got %v, %q, want %q", ok, reason, tt.want)
			}
		})
	}
	for _, tt := range []struct {
		name  string
		attrs authorizer.Attributes
	}{
		{"binding of another namespace", ask(u("joe"), "get", "pods", "b", "")},
		{"cluster-wide list by a namespaced binding", ask(u("joe"), "list", "pods", "", "")},
		{"same name in another namespace", ask(robot("b", "robot"), "get", "secrets", "a", "s")},
		{"a user called like a group", ask(u("g"), "get", "pods", "x", "")},
		{"other verb", ask(u("jane"), "delete", "pods", "x", "")},
		{"other group", ask(u("jane"), "get", "apps:pods", "x", "")},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if ok, reason := allowed(t, authz, tt.attrs); ok {
				t.Errorf("got allowed: %s", reason)
			}
		})
	}
}

func TestRulesMatchAsDocumented(t *testing.T) {
	who := u("x")
	for _, tt := range []struct {
		name  string
		rule  rbacv1.PolicyRule
		attrs authorizer.Attributes
		want  bool
	}{
		{"resource does not imply subresource", coreRule("get", "pods"), ask(who, "get", "pods/log", "", ""), false},
		{"subresource", coreRule("get", "pods/log"), ask(who, "get", "pods/log", "", ""), true},
		{"subresource does not imply resource", coreRule("get", "pods/log"), ask(who, "get", "pods", "", ""), false},
		{"a slash is no resource", coreRule("get", "pods/ */"), ask(who, "get", "pods", "", ""), false},
		{"any subresource is not spelled so", coreRule("get", "pods/*"), ask(who, "get", "pods/log", "", ""), false},
		{"subresource of anything", coreRule("get", "*/scale"), ask(who, "get", "widgets/scale", "", ""), true},
		{"subresource of anything, another", coreRule("get", "*/scale"), ask(who, "get", "widgets/status", "", ""), false},
		{"all resources include subresources", coreRule("get", "*"), ask(who, "get", "pods/log", "", ""), true},
		{"all verbs", coreRule("*", "pods"), ask(who, "frobnicate", "pods", "", ""), true},
		{"all groups", words("get", "*", "pods"), ask(who, "get", "apps:pods", "", ""), true},
		{"names", coreRule("get", "pods", "a", "b"), ask(who, "get", "pods", "", "b"), true},
		{"another name", coreRule("get", "pods", "a"), ask(who, "get", "pods", "", "b"), false},
		{"names do not list", coreRule("list", "pods", "a"), ask(who, "list", "pods", "", ""), false},
		{"path", rbacv1.PolicyRule{Verbs: []string{"get"}, NonResourceURLs: []string{"/healthz"}}, askPath(who, "get", "/healthz"), true},
		{"path is not a prefix", rbacv1.PolicyRule{Verbs: []string{"get"}, NonResourceURLs: []string{"/healthz"}}, askPath(who, "get", "/healthz/etcd"), false},
		{"path prefix", rbacv1.PolicyRule{Verbs: []string{"get"}, NonResourceURLs: []string{"/apis/*"}}, askPath(who, "get", "/apis/apps/v1"), true},
		{"all paths", rbacv1.PolicyRule{Verbs: []string{"get"}, NonResourceURLs: []string{"*"}}, askPath(who, "get", "/x"), true},
		{"all resources are no paths", words("*", "*", "*"), askPath(who, "get", "/metrics"), false},
		{"all paths are no resources", rbacv1.PolicyRule{Verbs: []string{"*"}, NonResourceURLs: []string{"*"}}, ask(who, "get", "pods", "", ""), false},
		{"nothing", rbacv1.PolicyRule{}, ask(who, "get", "pods", "", ""), false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := rbac.Allows(tt.attrs, &tt.rule); got != tt.want {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}

// What may be granted is judged by Covers, what may be done by Allows: were they
// to differ, one could grant more than one may do, or less.
func TestGrantingAndDoingAreJudgedAlike(t *testing.T) {
	var resourceRules, pathRules []rbacv1.PolicyRule
	for _, verb := range []string{"get", "*"} {
		for _, group := range []string{"", "apps", "*"} {
			for _, resource := range []string{"pods", "pods/log", "*/log", "*"} {
				for _, names := range [][]string{nil, {"a"}} {
					resourceRules = append(resourceRules, rbacv1.PolicyRule{
						Verbs: []string{verb}, APIGroups: []string{group}, Resources: []string{resource}, ResourceNames: names,
					})
				}
			}
		}
		for _, path := range []string{"/a", "/a/*", "/a/b", "*"} {
			pathRules = append(pathRules, rbacv1.PolicyRule{Verbs: []string{verb}, NonResourceURLs: []string{path}})
		}
	}
	agree := func(owned, granted rbacv1.PolicyRule, attrs authorizer.Attributes) {
		covers, _ := validation.Covers([]rbacv1.PolicyRule{owned}, []rbacv1.PolicyRule{granted})
		if allows := rbac.Allows(attrs, &owned); covers != allows {
			t.Errorf("%v: covers %v: %v, allows it: %v", owned, granted, covers, allows)
		}
	}
	for _, owned := range resourceRules {
		for _, resource := range []string{"pods", "pods/log", "nodes/log", "nodes"} {
			for _, name := range []string{"a", "b"} {
				agree(owned, coreRule("get", resource, name), ask(u("x"), "get", resource, "", name))
			}
		}
	}
	for _, owned := range pathRules {
		for _, path := range []string{"/a", "/a/b", "/b"} {
			granted := rbacv1.PolicyRule{Verbs: []string{"get"}, NonResourceURLs: []string{path}}
			agree(owned, granted, askPath(u("x"), "get", path))
		}
	}
}

func TestMissingRolesAreToldOnlyWhenNothingElseAllows(t *testing.T) {
	p := policy{bindCluster("dangling", "gone", person("jane"))}
	ok, reason := allowed(t, rbac.New(p), ask(u("jane"), "get", "pods", "a", ""))
	if want := `RBAC: clusterrole.rbac.authorization.k8s.io "gone" not found`; ok || reason != want {
		t.Errorf("got %v, %q, want %q", ok, reason, want)
	}
	p = append(p, clusterRole("reader", coreRule("get", "pods")), bindCluster("works", "reader", person("jane")))
	if ok, reason := allowed(t, rbac.New(p), ask(u("jane"), "get", "pods", "a", "")); !ok {
		t.Errorf("got %q, want the other binding to allow", reason)
	}
}

func TestRulesForListsWhatAUserMay(t *testing.T) {
	authz := rbac.New(policy(rbac.DefaultPolicy()))
	resource, paths, incomplete, err := authz.RulesFor(t.Context(), u("jane", user.AllAuthenticated), "default")
	if err != nil || incomplete {
		t.Fatalf("got %v, incomplete %v", err, incomplete)
	}
	mayReview := slices.ContainsFunc(resource, func(r authorizer.ResourceRuleInfo) bool {
		return slices.Contains(r.GetResources(), "selfsubjectaccessreviews") && slices.Contains(r.GetVerbs(), "create")
	})
	maySeeVersion := slices.ContainsFunc(paths, func(r authorizer.NonResourceRuleInfo) bool {
		return slices.Contains(r.GetNonResourceURLs(), "/version")
	})
	if !mayReview || !maySeeVersion {
		t.Errorf("got %v and %v", resource, paths)
	}
}

func TestListerErrorsDoNotStopOtherBindings(t *testing.T) {
	broken := failing{policy{
		clusterRole("reader", coreRule("get", "pods")),
		bindCluster("works", "reader", person("jane")),
	}}
	authz := rbac.New(broken)
	if ok, reason := allowed(t, authz, ask(u("jane"), "get", "pods", "a", "")); !ok {
		t.Errorf("got %q, want allowed", reason)
	}
	if _, _, _, err := authz.RulesFor(t.Context(), u("jane"), "a"); !errors.Is(err, errStore) {
		t.Errorf("got %v, want the store's error", err)
	}
}

var errStore = errors.New("store is away")

// failing cannot list RoleBindings.
type failing struct{ policy }

func (failing) RoleBindings(context.Context, string) ([]*rbacv1.RoleBinding, error) {
	return nil, errStore
}

func BenchmarkAuthorizeByDefaultPolicy(b *testing.B) {
	authz := rbac.New(newIndexed(rbac.DefaultPolicy()))
	attrs := ask(serviceaccount.UserInfo("kube-system", "replicaset-controller", "1"), "create", "pods", "default", "")
	for b.Loop() {
		if d, _, _ := authz.Authorize(b.Context(), attrs); d != authorizer.DecisionAllow {
			b.Fatal("not allowed")
		}
	}
}

// indexed is a Lister as a server would have it: lookups without a scan.
type indexed struct {
	policy
	roles    map[string]*rbacv1.ClusterRole
	bindings []*rbacv1.ClusterRoleBinding
}

func newIndexed(objects []runtime.Object) *indexed {
	x := &indexed{policy: objects, roles: make(map[string]*rbacv1.ClusterRole)}
	for _, o := range objects {
		if r, ok := o.(*rbacv1.ClusterRole); ok {
			x.roles[r.Name] = r
		}
	}
	x.bindings, _ = x.policy.ClusterRoleBindings(context.Background())
	return x
}

func (x *indexed) ClusterRole(_ context.Context, name string) (*rbacv1.ClusterRole, error) {
	if r, ok := x.roles[name]; ok {
		return r, nil
	}
	return nil, apierrors.NewNotFound(rbacv1.Resource("clusterrole"), name)
}

func (x *indexed) ClusterRoleBindings(context.Context) ([]*rbacv1.ClusterRoleBinding, error) {
	return x.bindings, nil
}
