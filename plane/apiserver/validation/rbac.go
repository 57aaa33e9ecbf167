package validation

import (
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/validate/content"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metavalidation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// roleName allows what fits in a path: role names like system:node have colons.
func roleName(name string, _ bool) []string { return content.IsPathSegmentName(name) }

func role(f *findings, r *rbacv1.Role) {
	f.meta(&r.ObjectMeta, namespaced, roleName)
	f.policyRules(r.Rules, namespaced)
}

func roleUpdate(f *findings, r, old *rbacv1.Role) {
	role(f, r)
	f.metaUpdate(&r.ObjectMeta, &old.ObjectMeta)
}

func clusterRole(f *findings, r *rbacv1.ClusterRole) {
	f.meta(&r.ObjectMeta, cluster, roleName)
	f.policyRules(r.Rules, cluster)
	if a := r.AggregationRule; a != nil {
		at := field.NewPath("aggregationRule", "clusterRoleSelectors")
		if len(a.ClusterRoleSelectors) == 0 {
			f.required(at, "at least one clusterRoleSelector required if aggregationRule is non-nil")
		}
		for i := range a.ClusterRoleSelectors {
			f.add(metavalidation.ValidateLabelSelector(&a.ClusterRoleSelectors[i], strict, at.Index(i))...)
		}
	}
}

func clusterRoleUpdate(f *findings, r, old *rbacv1.ClusterRole) {
	clusterRole(f, r)
	f.metaUpdate(&r.ObjectMeta, &old.ObjectMeta)
}

func (f *findings) policyRules(rules []rbacv1.PolicyRule, in scope) {
	for i := range rules {
		f.policyRule(field.NewPath("rules").Index(i), &rules[i], in)
	}
}

func (f *findings) policyRule(at *field.Path, r *rbacv1.PolicyRule, in scope) {
	if len(r.Verbs) == 0 {
		f.required(at.Child("verbs"), "verbs must contain at least one value")
	}
	if len(r.NonResourceURLs) > 0 {
		urls := at.Child("nonResourceURLs")
		if in == namespaced {
			f.invalid(urls, r.NonResourceURLs, "namespaced rules cannot apply to non-resource URLs")
		}
		if len(r.APIGroups)+len(r.Resources)+len(r.ResourceNames) > 0 {
			f.invalid(urls, r.NonResourceURLs, "rules cannot apply to both regular resources and non-resource URLs")
		}
		return
	}
	if len(r.APIGroups) == 0 {
		f.required(at.Child("apiGroups"), "resource rules must supply at least one api group")
	}
	if len(r.Resources) == 0 {
		f.required(at.Child("resources"), "resource rules must supply at least one resource")
	}
}

func roleBinding(f *findings, b *rbacv1.RoleBinding) {
	f.meta(&b.ObjectMeta, namespaced, roleName)
	f.roleRef(b.RoleRef, "Role", "ClusterRole")
	f.subjects(b.Subjects, namespaced)
}

func roleBindingUpdate(f *findings, b, old *rbacv1.RoleBinding) {
	roleBinding(f, b)
	f.metaUpdate(&b.ObjectMeta, &old.ObjectMeta)
	f.sameRole(b.RoleRef, old.RoleRef)
}

func clusterRoleBinding(f *findings, b *rbacv1.ClusterRoleBinding) {
	f.meta(&b.ObjectMeta, cluster, roleName)
	f.roleRef(b.RoleRef, "ClusterRole")
	f.subjects(b.Subjects, cluster)
}

func clusterRoleBindingUpdate(f *findings, b, old *rbacv1.ClusterRoleBinding) {
	clusterRoleBinding(f, b)
	f.metaUpdate(&b.ObjectMeta, &old.ObjectMeta)
	f.sameRole(b.RoleRef, old.RoleRef)
}

func (f *findings) roleRef(ref rbacv1.RoleRef, roles ...string) {
	at := field.NewPath("roleRef")
	unless(f, at.Child("apiGroup"), ref.APIGroup, rbacv1.GroupName)
	unless(f, at.Child("kind"), ref.Kind, roles...)
	if ref.Name == "" {
		f.required(at.Child("name"), "")
		return
	}
	f.each(at.Child("name"), ref.Name, roleName(ref.Name, false))
}

// sameRole: who may bind was decided for one role, so a binding keeps it.
func (f *findings) sameRole(ref, old rbacv1.RoleRef) {
	if ref != old {
		f.invalid(field.NewPath("roleRef"), ref, "cannot change roleRef")
	}
}

func (f *findings) subjects(list []rbacv1.Subject, in scope) {
	for i := range list {
		f.subject(field.NewPath("subjects").Index(i), list[i], in)
	}
}

func (f *findings) subject(at *field.Path, s rbacv1.Subject, in scope) {
	f.notEmpty(at.Child("name"), s.Name)
	switch s.Kind {
	case rbacv1.ServiceAccountKind:
		if s.Name != "" {
			f.each(at.Child("name"), s.Name, apivalidation.ValidateServiceAccountName(s.Name, false))
		}
		unless(f, at.Child("apiGroup"), s.APIGroup, "")
		if in == cluster {
			f.notEmpty(at.Child("namespace"), s.Namespace)
		}
	case rbacv1.UserKind, rbacv1.GroupKind:
		if s.Name == "" {
			what := map[string]string{rbacv1.UserKind: "user", rbacv1.GroupKind: "group"}[s.Kind]
			f.invalid(at.Child("name"), s.Name, what+" name cannot be empty")
		}
		unless(f, at.Child("apiGroup"), s.APIGroup, rbacv1.GroupName)
	default:
		unless(f, at.Child("kind"), s.Kind, rbacv1.ServiceAccountKind, rbacv1.UserKind, rbacv1.GroupKind)
	}
}
