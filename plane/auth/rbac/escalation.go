package rbac

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/component-helpers/auth/rbac/validation"
)

// A Guard keeps users from giving away, to others or to themselves, rights that
// they do not hold. It belongs before every write of a role or binding, on the
// object as it would be stored.
type Guard struct {
	// Authorizer answers whether the user has the verb escalate on the role, or
	// bind on the role that a binding refers to: the whole chain of authorizers.
	Authorizer authorizer.UnconditionalAuthorizer
	// RBAC says which rules the user holds.
	RBAC *Authorizer
}

// Check judges a create (old is nil) or an update of a Role, ClusterRole,
// RoleBinding or ClusterRoleBinding by u. The error is a Forbidden status, or
// NotFound where a binding refers to a role that does not exist. Other kinds, nil
// users and members of system:masters pass.
func (g Guard) Check(ctx context.Context, u user.Info, obj, old runtime.Object) error {
	if u == nil || slices.Contains(u.GetGroups(), user.SystemPrivilegedGroup) {
		return nil
	}
	if old != nil && onlyCollectorFieldsChanged(obj, old) {
		return nil
	}
	switch o := obj.(type) {
	case *rbacv1.Role:
		if prev, ok := old.(*rbacv1.Role); ok && equality.Semantic.DeepEqual(prev.Rules, o.Rules) {
			return nil
		}
		return g.checkRole(ctx, u, "roles", o.Namespace, o.Name, o.Rules)
	case *rbacv1.ClusterRole:
		return g.checkClusterRole(ctx, u, o, old)
	case *rbacv1.RoleBinding:
		return g.checkBinding(ctx, u, "rolebindings", o.Namespace, o.Name, o.RoleRef)
	case *rbacv1.ClusterRoleBinding:
		return g.checkBinding(ctx, u, "clusterrolebindings", "", o.Name, o.RoleRef)
	}
	return nil
}

func (g Guard) checkRole(ctx context.Context, u user.Info, resource, namespace, name string, rules []rbacv1.PolicyRule) error {
	if g.holds(ctx, u, "escalate", resource, namespace, name) {
		return nil
	}
	if err := g.RBAC.ConfirmNoEscalation(ctx, u, namespace, rules); err != nil {
		return apierrors.NewForbidden(rbacv1.Resource(resource), name, err)
	}
	return nil
}

func (g Guard) checkClusterRole(ctx context.Context, u user.Info, role *rbacv1.ClusterRole, old runtime.Object) error {
	prev, _ := old.(*rbacv1.ClusterRole)
	if prev != nil && equality.Semantic.DeepEqual(prev.Rules, role.Rules) &&
		equality.Semantic.DeepEqual(prev.AggregationRule, role.AggregationRule) {
		return nil
	}
	if err := g.checkRole(ctx, u, "clusterroles", "", role.Name, role.Rules); err != nil {
		return err
	}
	if role.AggregationRule == nil && (prev == nil || prev.AggregationRule == nil) {
		return nil
	}
	// Anything may come into an aggregated role later.
	if g.holds(ctx, u, "escalate", "clusterroles", "", role.Name) {
		return nil
	}
	everything := []rbacv1.PolicyRule{allow("*", "*", "*"), allowPaths("*", "*")}
	if err := g.RBAC.ConfirmNoEscalation(ctx, u, "", everything); err != nil {
		return apierrors.NewForbidden(rbacv1.Resource("clusterroles"), role.Name,
			errors.New("must have cluster-admin privileges to use an aggregationRule"))
	}
	return nil
}

func (g Guard) checkBinding(ctx context.Context, u user.Info, resource, namespace, name string, ref rbacv1.RoleRef) error {
	var target string
	switch ref.Kind {
	case "ClusterRole":
		target = "clusterroles"
	case "Role":
		target = "roles"
	}
	if target != "" && g.holds(ctx, u, "bind", target, namespace, ref.Name) {
		return nil
	}
	rules, err := RoleRules(ctx, g.RBAC.lister, ref, namespace)
	if err != nil {
		return err
	}
	if err := g.RBAC.ConfirmNoEscalation(ctx, u, namespace, rules); err != nil {
		return apierrors.NewForbidden(rbacv1.Resource(resource), name, err)
	}
	return nil
}

func (g Guard) holds(ctx context.Context, u user.Info, verb, resource, namespace, name string) bool {
	if g.Authorizer == nil {
		return false
	}
	decision, _, err := g.Authorizer.Authorize(ctx, authorizer.AttributesRecord{
		User: u, Verb: verb, Namespace: namespace, APIGroup: rbacv1.GroupName, APIVersion: "*",
		Resource: resource, Name: name, ResourceRequest: true,
	})
	return err == nil && decision == authorizer.DecisionAllow
}

// ConfirmNoEscalation returns nil if the user holds every right of rules in the
// namespace, else an error that lists what is missing, worded as Kubernetes does.
func (a *Authorizer) ConfirmNoEscalation(ctx context.Context, u user.Info, namespace string, rules []rbacv1.PolicyRule) error {
	owned, unresolved := a.Rules(ctx, u, namespace)
	covered, missing := validation.Covers(owned, rules)
	if covered {
		return nil
	}
	msg := fmt.Sprintf("user %q (groups=%q) is attempting to grant RBAC permissions not currently held:\n%s",
		u.GetName(), u.GetGroups(), strings.Join(describe(missing), "\n"))
	if unresolved != nil {
		msg += fmt.Sprintf("; resolution errors: %v", unresolved)
	}
	return errors.New(msg)
}

// describe words rules, those of one resource that differ only in their verb as
// one, sorted.
func describe(rules []rbacv1.PolicyRule) []string {
	type key struct{ group, resource string }
	merged := make(map[key]rbacv1.PolicyRule)
	seen := make(map[string]bool)
	for _, r := range rules {
		if len(r.APIGroups) != 1 || len(r.Resources) != 1 || len(r.ResourceNames) > 0 || len(r.NonResourceURLs) > 0 {
			seen[describeRule(r)] = true
			continue
		}
		k := key{r.APIGroups[0], r.Resources[0]}
		if m, ok := merged[k]; ok {
			r.Verbs = append(slices.Clone(m.Verbs), r.Verbs...)
		}
		merged[k] = r
	}
	for _, r := range merged {
		seen[describeRule(r)] = true
	}
	return slices.Sorted(maps.Keys(seen))
}

func describeRule(r rbacv1.PolicyRule) string {
	var parts []string
	for _, p := range []struct {
		name   string
		values []string
	}{
		{"APIGroups", r.APIGroups},
		{"Resources", r.Resources},
		{"NonResourceURLs", r.NonResourceURLs},
		{"ResourceNames", r.ResourceNames},
		{"Verbs", r.Verbs},
	} {
		if len(p.values) > 0 {
			parts = append(parts, fmt.Sprintf("%s:%q", p.name, p.values))
		}
	}
	return "{" + strings.Join(parts, ", ") + "}"
}

// onlyCollectorFieldsChanged tells whether an update touches no more than owner
// references and finalizers, which the garbage collector must be free to remove
// from roles that it could not grant.
func onlyCollectorFieldsChanged(obj, old runtime.Object) bool {
	a, okA := obj.DeepCopyObject().(metav1.Object)
	b, okB := old.DeepCopyObject().(metav1.Object)
	if !okA || !okB {
		return false
	}
	for _, o := range []metav1.Object{a, b} {
		o.SetOwnerReferences(nil)
		o.SetFinalizers(nil)
		o.SetManagedFields(nil)
		o.SetResourceVersion("")
	}
	return equality.Semantic.DeepEqual(a, b)
}
