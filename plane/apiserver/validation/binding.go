package validation

import (
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metavalidation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func binding(f *findings, b *corev1.Binding) {
	at := field.NewPath("target")
	if b.Target.Kind != "" && b.Target.Kind != "Node" {
		f.add(field.NotSupported(at.Child("kind"), b.Target.Kind, []string{"Node", "<empty>"}))
	}
	f.notEmpty(at.Child("name"), b.Target.Name)
}

func eviction(f *findings, e *policyv1.Eviction) {
	if e.DeleteOptions != nil {
		f.add(metavalidation.ValidateDeleteOptions(e.DeleteOptions)...)
	}
}
