package validation

import (
	"strings"

	coordinationv1 "k8s.io/api/coordination/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/validation"
)

func lease(f *findings, l *coordinationv1.Lease) {
	f.meta(&l.ObjectMeta, namespaced, apivalidation.NameIsDNSSubdomain)
	f.leaseSpec(&l.Spec)
}

func leaseUpdate(f *findings, l, old *coordinationv1.Lease) {
	f.metaUpdate(&l.ObjectMeta, &old.ObjectMeta)
	f.leaseSpec(&l.Spec)
}

func (f *findings) leaseSpec(s *coordinationv1.LeaseSpec) {
	if n := s.LeaseDurationSeconds; n != nil && *n <= 0 {
		f.invalid(specPath.Child("leaseDurationSeconds"), *n, "must be greater than 0")
	}
	if n := s.LeaseTransitions; n != nil && *n < 0 {
		f.invalid(specPath.Child("leaseTransitions"), *n, "must be greater than or equal to 0")
	}
	if s.Strategy != nil {
		at := specPath.Child("strategy")
		if strings.Contains(string(*s.Strategy), "/") {
			f.each(at, string(*s.Strategy), validation.IsQualifiedName(string(*s.Strategy)))
		} else {
			unless(f, at.Child("strategy"), *s.Strategy, coordinationv1.OldestEmulationVersion)
		}
	}
	if s.PreferredHolder != nil && *s.PreferredHolder != "" && (s.Strategy == nil || *s.Strategy == "") {
		f.forbidden(specPath.Child("preferredHolder"), "may only be specified if `strategy` is defined")
	}
}
