package columns

import (
	"strings"
	"time"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

var (
	roleBindingColumns        = bindingColumns("roleBinding", rbacv1.RoleBinding{}.SwaggerDoc())
	clusterRoleBindingColumns = bindingColumns("clusterRoleBinding", rbacv1.ClusterRoleBinding{}.SwaggerDoc())
)

// bindingColumns are the columns of both kinds of binding; kind is how the
// descriptions call it.
func bindingColumns(kind string, doc map[string]string) []metav1.TableColumnDefinition {
	return []metav1.TableColumnDefinition{
		nameColumn,
		column("Role", "string", doc["roleRef"]),
		ageColumn,
		wide("Users", "string", "Users in the "+kind),
		wide("Groups", "string", "Groups in the "+kind),
		wide("ServiceAccounts", "string", "ServiceAccounts in the "+kind),
	}
}

func roleBindingRow(b *rbacv1.RoleBinding, now time.Time) []any {
	return bindingRow(b.ObjectMeta, b.RoleRef, b.Subjects, now)
}

func clusterRoleBindingRow(b *rbacv1.ClusterRoleBinding, now time.Time) []any {
	return bindingRow(b.ObjectMeta, b.RoleRef, b.Subjects, now)
}

func bindingRow(meta metav1.ObjectMeta, role rbacv1.RoleRef, subjects []rbacv1.Subject, now time.Time) []any {
	var users, groups, accounts []string
	for _, s := range subjects {
		switch s.Kind {
		case rbacv1.UserKind:
			users = append(users, s.Name)
		case rbacv1.GroupKind:
			groups = append(groups, s.Name)
		case rbacv1.ServiceAccountKind:
			accounts = append(accounts, s.Namespace+"/"+s.Name)
		}
	}
	return []any{
		meta.Name,
		role.Kind + "/" + role.Name,
		age(meta.CreationTimestamp, now),
		strings.Join(users, ", "),
		strings.Join(groups, ", "),
		strings.Join(accounts, ", "),
	}
}
