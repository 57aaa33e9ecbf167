package rbac

import (
	"slices"
	"strings"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apiserver/pkg/authentication/serviceaccount"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
)

// Applies tells whether a subject of a binding means this user. namespace is
// that of a RoleBinding, which a ServiceAccount subject without one inherits.
func Applies(s rbacv1.Subject, u user.Info, namespace string) bool {
	switch s.Kind {
	case rbacv1.UserKind:
		return u.GetName() == s.Name
	case rbacv1.GroupKind:
		return slices.Contains(u.GetGroups(), s.Name)
	case rbacv1.ServiceAccountKind:
		if s.Namespace != "" {
			namespace = s.Namespace
		}
		return namespace != "" && serviceaccount.MatchesUsername(namespace, s.Name, u.GetName())
	default:
		return false
	}
}

// Allows tells whether one rule allows a request.
func Allows(attrs authorizer.Attributes, r *rbacv1.PolicyRule) bool {
	if !contains(r.Verbs, attrs.GetVerb(), rbacv1.VerbAll) {
		return false
	}
	if !attrs.IsResourceRequest() {
		return allowsPath(r.NonResourceURLs, attrs.GetPath())
	}
	return contains(r.APIGroups, attrs.GetAPIGroup(), rbacv1.APIGroupAll) &&
		allowsResource(r.Resources, attrs.GetResource(), attrs.GetSubresource()) &&
		(len(r.ResourceNames) == 0 || slices.Contains(r.ResourceNames, attrs.GetName()))
}

func contains(set []string, want, all string) bool {
	for _, s := range set {
		if s == want || s == all {
			return true
		}
	}
	return false
}

// allowsResource matches "pods", "pods/log", "*" (everything) and "*/scale" (that
// subresource of everything), without building the joined name.
func allowsResource(set []string, resource, subresource string) bool {
	for _, s := range set {
		if s == rbacv1.ResourceAll || (s == resource && subresource == "") {
			return true
		}
		if subresource == "" {
			continue
		}
		res, sub, _ := strings.Cut(s, "/")
		if sub == subresource && (res == resource || res == "*") {
			return true
		}
	}
	return false
}

func allowsPath(set []string, path string) bool {
	for _, s := range set {
		if s == rbacv1.NonResourceAll || s == path {
			return true
		}
		if strings.HasSuffix(s, "*") && strings.HasPrefix(path, strings.TrimRight(s, "*")) {
			return true
		}
	}
	return false
}
