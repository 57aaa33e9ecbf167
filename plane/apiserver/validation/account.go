package validation

import (
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func serviceAccount(f *findings, s *corev1.ServiceAccount) {
	f.meta(&s.ObjectMeta, namespaced, apivalidation.ValidateServiceAccountName)
}

func serviceAccountUpdate(f *findings, s, old *corev1.ServiceAccount) {
	f.metaUpdate(&s.ObjectMeta, &old.ObjectMeta)
	serviceAccount(f, s)
}

func serviceAccountWarnings(w *warnings, s, _ *corev1.ServiceAccount) {
	if s.Annotations["kubernetes.io/enforce-mountable-secrets"] == "true" {
		w.at(metaPath.Child("annotations").Key("kubernetes.io/enforce-mountable-secrets"), "deprecated in v1.32+; prefer separate namespaces to isolate access to mounted secrets")
	}
}

func tokenRequest(f *findings, t *authenticationv1.TokenRequest) {
	at := specPath.Child("expirationSeconds")
	seconds := int64(0)
	if t.Spec.ExpirationSeconds != nil {
		seconds = *t.Spec.ExpirationSeconds
	}
	f.tokenLifetime(at, seconds)
}

func (f *findings) tokenLifetime(at *field.Path, seconds int64) {
	if seconds < 10*60 {
		f.invalid(at, seconds, "may not specify a duration less than 10 minutes")
	}
	if seconds > 1<<32 {
		f.invalid(at, seconds, "may not specify a duration larger than 2^32 seconds")
	}
}
