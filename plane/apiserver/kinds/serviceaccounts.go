package kinds

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

func serviceAccounts() *Kind {
	return &Kind{
		Version: corev1.SchemeGroupVersion, Plural: "serviceaccounts", Singular: "serviceaccount", Kind: "ServiceAccount",
		Object: &corev1.ServiceAccount{}, List: &corev1.ServiceAccountList{}, Short: []string{"sa"},
		ReturnDeleted: true,
		Create:        on(plainSecretReferences),
		Update:        func(obj, _ runtime.Object) { plainSecretReferences(obj.(*corev1.ServiceAccount)) },
		Also: func(r *Resource, cfg Config) map[string]Storage {
			if cfg.Tokens == nil {
				return nil
			}
			return map[string]Storage{"token": &tokenStorage{r.Store, cfg.Tokens}}
		},
	}
}

// plainSecretReferences keeps the names of secret references and drops the rest.
func plainSecretReferences(sa *corev1.ServiceAccount) {
	for i := range sa.Secrets {
		sa.Secrets[i] = corev1.ObjectReference{Name: sa.Secrets[i].Name}
	}
}
