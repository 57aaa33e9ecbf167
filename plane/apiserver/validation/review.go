package validation

import (
	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func tokenReview(f *findings, t *authenticationv1.TokenReview) {
	if t.Spec.Token == "" {
		f.required(specPath.Child("token"), "token is required for TokenReview in authentication")
	}
}

func subjectAccessReview(f *findings, r *authorizationv1.SubjectAccessReview) {
	f.accessSpec(&r.Spec)
	f.noMeta(r.ObjectMeta, "must be empty")
}

func selfSubjectAccessReview(f *findings, r *authorizationv1.SelfSubjectAccessReview) {
	f.attributes(r.Spec.ResourceAttributes, r.Spec.NonResourceAttributes)
	f.noMeta(r.ObjectMeta, "must be empty")
}

func localSubjectAccessReview(f *findings, r *authorizationv1.LocalSubjectAccessReview) {
	f.accessSpec(&r.Spec)
	m := r.ObjectMeta
	m.Namespace = ""
	f.noMeta(m, "must be empty except for namespace")
	if a := r.Spec.ResourceAttributes; a != nil && a.Namespace != r.Namespace {
		f.invalid(specPath.Child("resourceAttributes", "namespace"), a.Namespace, "must match metadata.namespace")
	}
	if a := r.Spec.NonResourceAttributes; a != nil {
		f.invalid(specPath.Child("nonResourceAttributes"), a, "disallowed on this kind of request")
	}
}

func (f *findings) accessSpec(s *authorizationv1.SubjectAccessReviewSpec) {
	f.attributes(s.ResourceAttributes, s.NonResourceAttributes)
	if s.User == "" && len(s.Groups) == 0 {
		f.invalid(specPath.Child("user"), s.User, "at least one of user or group must be specified")
	}
}

func (f *findings) attributes(r *authorizationv1.ResourceAttributes, n *authorizationv1.NonResourceAttributes) {
	if r != nil && n != nil {
		f.invalid(specPath.Child("nonResourceAttributes"), n, "cannot be specified in combination with resourceAttributes")
	}
	if r == nil && n == nil {
		f.invalid(specPath.Child("resourceAttributes"), n, "exactly one of nonResourceAttributes or resourceAttributes must be specified")
	}
	if r == nil {
		return
	}
	at := specPath.Child("resourceAttributes")
	if s := r.LabelSelector; s != nil {
		f.attributeSelector(at.Child("labelSelector"), s.RawSelector, len(s.Requirements))
	}
	if s := r.FieldSelector; s != nil {
		f.attributeSelector(at.Child("fieldSelector"), s.RawSelector, len(s.Requirements))
	}
}

// noMeta wants no metadata but what the server itself wrote.
func (f *findings) noMeta(m metav1.ObjectMeta, why string) {
	given := m
	m.ManagedFields = nil
	if !equality.Semantic.DeepEqual(metav1.ObjectMeta{}, m) {
		f.invalid(metaPath, given, why)
	}
}

// attributeSelector wants a selector to be given as text or in parts, not both.
func (f *findings) attributeSelector(at *field.Path, raw string, requirements int) {
	switch {
	case raw != "" && requirements > 0:
		f.invalid(at.Child("rawSelector"), raw, "may not specified at the same time as requirements")
	case raw == "" && requirements == 0:
		f.required(at.Child("requirements"), "when "+at.String()+" is specified, requirements or rawSelector is required")
	}
}
