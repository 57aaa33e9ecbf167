package defaults

import (
	authenticationv1 "k8s.io/api/authentication/v1"
	rbacv1 "k8s.io/api/rbac/v1"
)

func roleBinding(b *rbacv1.RoleBinding) {
	set(&b.RoleRef.APIGroup, rbacv1.GroupName)
	subjects(b.Subjects)
}

func clusterRoleBinding(b *rbacv1.ClusterRoleBinding) {
	set(&b.RoleRef.APIGroup, rbacv1.GroupName)
	subjects(b.Subjects)
}

func subjects(list []rbacv1.Subject) {
	for i := range list {
		if list[i].Kind == rbacv1.UserKind || list[i].Kind == rbacv1.GroupKind {
			set(&list[i].APIGroup, rbacv1.GroupName)
		}
	}
}

func tokenRequest(t *authenticationv1.TokenRequest) {
	point(&t.Spec.ExpirationSeconds, tokenSeconds)
}
