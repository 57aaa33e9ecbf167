// Package rbac decides by roles and bindings who may do what, as Kubernetes'
// RBAC authorizer does, word for word. Its core is pure: values in, a decision
// and its reason out. It knows rbac/v1 objects, which it reads through a lister
// that the caller hands in; it never learns how requests arrive or where objects
// are kept.
//
//	authz := rbac.New(lister)
//	decision, reason, err := authz.Authorize(ctx, attributes)
//
// DefaultPolicy is what an empty cluster starts with; ConfirmNoEscalation keeps
// people from granting what they do not hold; AggregatedRules computes the rules
// of aggregated ClusterRoles.
package rbac

import (
	"context"
	"fmt"
	"slices"

	rbacv1 "k8s.io/api/rbac/v1"
	utilerrors "k8s.io/apimachinery/pkg/util/errors"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
)

// Roles finds roles by name. A role that does not exist is an error for which
// apierrors.IsNotFound holds. Objects returned are shared: they are only read.
type Roles interface {
	Role(ctx context.Context, namespace, name string) (*rbacv1.Role, error)
	ClusterRole(ctx context.Context, name string) (*rbacv1.ClusterRole, error)
}

// Bindings lists bindings. Objects returned are shared: they are only read.
type Bindings interface {
	RoleBindings(ctx context.Context, namespace string) ([]*rbacv1.RoleBinding, error)
	ClusterRoleBindings(ctx context.Context) ([]*rbacv1.ClusterRoleBinding, error)
}

// A Lister is all that decisions depend on.
type Lister interface {
	Roles
	Bindings
}

// An Authorizer is an authorizer.Authorizer and authorizer.RuleResolver. It only
// allows or has no opinion, it never denies, and it keeps no state of its own.
type Authorizer struct{ lister Lister }

// New returns an Authorizer that reads roles and bindings from lister at each
// decision.
func New(lister Lister) *Authorizer { return &Authorizer{lister: lister} }

var (
	_ authorizer.Authorizer   = (*Authorizer)(nil)
	_ authorizer.RuleResolver = (*Authorizer)(nil)
)

// Authorize allows what a rule bound to the user allows. The reason then names
// binding, role and subject; without a rule it tells of roles that could not be
// resolved, if any.
func (a *Authorizer) Authorize(ctx context.Context, attrs authorizer.Attributes) (authorizer.Decision, string, error) {
	var reason string
	var unresolved []error
	if attrs.GetUser() == nil {
		return authorizer.DecisionNoOpinion, "", nil
	}
	a.visit(ctx, attrs.GetUser(), attrs.GetNamespace(), func(g grant, rule *rbacv1.PolicyRule, err error) bool {
		if err != nil {
			unresolved = append(unresolved, err)
			return true
		}
		if Allows(attrs, rule) {
			reason = "RBAC: allowed by " + g.String()
			return false
		}
		return true
	})
	if reason != "" {
		return authorizer.DecisionAllow, reason, nil
	}
	if len(unresolved) > 0 {
		reason = fmt.Sprintf("RBAC: %v", utilerrors.NewAggregate(unresolved))
	}
	return authorizer.DecisionNoOpinion, reason, nil
}

// ConditionsAwareAuthorize is Authorize: RBAC has no conditions.
func (a *Authorizer) ConditionsAwareAuthorize(ctx context.Context, attrs authorizer.Attributes) authorizer.ConditionsAwareDecision {
	return authorizer.ConditionsAwareDecisionFromParts(a.Authorize(ctx, attrs))
}

// EvaluateConditions fails closed: RBAC never asks for conditions.
func (a *Authorizer) EvaluateConditions(context.Context, authorizer.ConditionsAwareDecision, authorizer.ConditionsData) (authorizer.Decision, string, error) {
	return authorizer.DecisionDeny, "", authorizer.ErrorConditionEvaluationNotSupported
}

// RulesFor lists the rules of a user in a namespace, cluster-wide ones included.
// A non-nil error means that some could not be resolved; the others are there.
func (a *Authorizer) RulesFor(ctx context.Context, u user.Info, namespace string) ([]authorizer.ResourceRuleInfo, []authorizer.NonResourceRuleInfo, bool, error) {
	rules, err := a.Rules(ctx, u, namespace)
	var resource []authorizer.ResourceRuleInfo
	var nonResource []authorizer.NonResourceRuleInfo
	for _, r := range rules {
		if len(r.Resources) > 0 {
			resource = append(resource, &authorizer.DefaultResourceRuleInfo{
				Verbs: r.Verbs, APIGroups: r.APIGroups, Resources: r.Resources, ResourceNames: r.ResourceNames,
			})
		}
		if len(r.NonResourceURLs) > 0 {
			nonResource = append(nonResource, &authorizer.DefaultNonResourceRuleInfo{
				Verbs: r.Verbs, NonResourceURLs: r.NonResourceURLs,
			})
		}
	}
	return resource, nonResource, false, err
}

// Rules is RulesFor in the form of the API.
func (a *Authorizer) Rules(ctx context.Context, u user.Info, namespace string) ([]rbacv1.PolicyRule, error) {
	var rules []rbacv1.PolicyRule
	var unresolved []error
	a.visit(ctx, u, namespace, func(_ grant, rule *rbacv1.PolicyRule, err error) bool {
		if err != nil {
			unresolved = append(unresolved, err)
		} else {
			rules = append(rules, *rule)
		}
		return true
	})
	return rules, utilerrors.NewAggregate(unresolved)
}

// RoleRules returns the rules that a role reference stands for: namespace is that
// of the binding, empty for a ClusterRoleBinding.
func RoleRules(ctx context.Context, roles Roles, ref rbacv1.RoleRef, namespace string) ([]rbacv1.PolicyRule, error) {
	switch ref.Kind {
	case "Role":
		role, err := roles.Role(ctx, namespace, ref.Name)
		if err != nil {
			return nil, err
		}
		return role.Rules, nil
	case "ClusterRole":
		role, err := roles.ClusterRole(ctx, ref.Name)
		if err != nil {
			return nil, err
		}
		return role.Rules, nil
	default:
		return nil, fmt.Errorf("unsupported role reference kind: %q", ref.Kind)
	}
}

// visit calls fn for each rule that a binding gives the user, cluster-wide ones
// first, until fn returns false. Whatever cannot be resolved is told to fn and
// passed over.
func (a *Authorizer) visit(ctx context.Context, u user.Info, namespace string, fn func(grant, *rbacv1.PolicyRule, error) bool) {
	cluster, err := a.lister.ClusterRoleBindings(ctx)
	if err != nil && !fn(grant{}, nil, err) {
		return
	}
	for _, b := range cluster {
		i := slices.IndexFunc(b.Subjects, func(s rbacv1.Subject) bool { return Applies(s, u, "") })
		if i < 0 {
			continue
		}
		g := grant{kind: "ClusterRoleBinding", name: b.Name, ref: b.RoleRef, subject: &b.Subjects[i]}
		if !a.visitRules(ctx, g, fn) {
			return
		}
	}
	if namespace == "" {
		return
	}
	bindings, err := a.lister.RoleBindings(ctx, namespace)
	if err != nil && !fn(grant{}, nil, err) {
		return
	}
	for _, b := range bindings {
		i := slices.IndexFunc(b.Subjects, func(s rbacv1.Subject) bool { return Applies(s, u, namespace) })
		if i < 0 {
			continue
		}
		g := grant{kind: "RoleBinding", name: b.Name, namespace: b.Namespace, ref: b.RoleRef, subject: &b.Subjects[i]}
		if !a.visitRules(ctx, g, fn) {
			return
		}
	}
}

func (a *Authorizer) visitRules(ctx context.Context, g grant, fn func(grant, *rbacv1.PolicyRule, error) bool) bool {
	rules, err := RoleRules(ctx, a.lister, g.ref, g.namespace)
	if err != nil {
		return fn(g, nil, err)
	}
	for i := range rules {
		if !fn(g, &rules[i], nil) {
			return false
		}
	}
	return true
}

// A grant is how a user came to a rule; kept as parts, because only one in
// thousands is ever printed.
type grant struct {
	kind, name, namespace string
	ref                   rbacv1.RoleRef
	subject               *rbacv1.Subject
}

// String words the grant as Kubernetes does in audit annotations, name before
// namespace included.
func (g grant) String() string {
	binding := g.name
	if g.namespace != "" {
		binding += "/" + g.namespace
	}
	subject := g.subject.Name
	if g.subject.Kind == rbacv1.ServiceAccountKind {
		ns := g.subject.Namespace
		if ns == "" {
			ns = g.namespace
		}
		subject += "/" + ns
	}
	return fmt.Sprintf("%s %q of %s %q to %s %q", g.kind, binding, g.ref.Kind, g.ref.Name, g.subject.Kind, subject)
}
