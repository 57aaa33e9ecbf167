package admission

import (
	"context"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/admission"
)

// grants asks before a role or binding is written whether its writer holds what
// it gives.
type grants struct{ guard Guard }

func (grants) admit(context.Context, admission.Attributes) error { return nil }

func (g grants) validate(ctx context.Context, a admission.Attributes) error {
	if g.guard == nil || a.GetResource().Group != rbacv1.GroupName {
		return nil
	}
	if a.GetOperation() != admission.Create && a.GetOperation() != admission.Update {
		return nil
	}
	var old runtime.Object
	if a.GetOperation() == admission.Update { // an untyped nil stays one
		old = a.GetOldObject()
	}
	return g.guard.Check(ctx, a.GetUserInfo(), a.GetObject(), old)
}
