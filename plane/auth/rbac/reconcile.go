package rbac

import (
	"fmt"
	"slices"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/component-helpers/auth/rbac/validation"
)

// A Change says what Reconcile wants done.
type Change int

const (
	Keep     Change = iota // nothing is missing
	Create                 // there is no such object yet
	Update                 // write the object returned
	Recreate               // delete the old one first: a binding's roleRef cannot change
)

// Reconcile compares an object of DefaultPolicy with the one that a cluster has
// (nil if none), and returns the object to write. As in Kubernetes, it only ever
// adds: rules and subjects that others added stay, and an object whose annotation
// rbac.authorization.kubernetes.io/autoupdate is "false" is left alone. Both
// objects must be of one kind; neither is changed.
func Reconcile(existing, wanted runtime.Object) (runtime.Object, Change) {
	if existing == nil {
		return wanted.DeepCopyObject(), Create
	}
	if existing.(metav1.Object).GetAnnotations()[rbacv1.AutoUpdateAnnotationKey] == "false" {
		return existing, Keep
	}
	out := existing.DeepCopyObject()
	changed := addMissingMeta(out.(metav1.Object), wanted.(metav1.Object))
	switch o := out.(type) {
	case *rbacv1.ClusterRole:
		w := wanted.(*rbacv1.ClusterRole)
		changed = addMissingRules(&o.Rules, w.Rules) || changed
		changed = addMissingSelectors(o, w) || changed
	case *rbacv1.Role:
		changed = addMissingRules(&o.Rules, wanted.(*rbacv1.Role).Rules) || changed
	case *rbacv1.ClusterRoleBinding:
		w := wanted.(*rbacv1.ClusterRoleBinding)
		if o.RoleRef != w.RoleRef {
			return wanted.DeepCopyObject(), Recreate
		}
		changed = addMissingSubjects(&o.Subjects, w.Subjects) || changed
	case *rbacv1.RoleBinding:
		w := wanted.(*rbacv1.RoleBinding)
		if o.RoleRef != w.RoleRef {
			return wanted.DeepCopyObject(), Recreate
		}
		changed = addMissingSubjects(&o.Subjects, w.Subjects) || changed
	default:
		panic(fmt.Sprintf("rbac: reconcile: %T is not an object of the default policy", existing))
	}
	if !changed {
		return existing, Keep
	}
	return out, Update
}

func addMissingMeta(have, want metav1.Object) bool {
	labels, a := withMissing(have.GetLabels(), want.GetLabels())
	annotations, b := withMissing(have.GetAnnotations(), want.GetAnnotations())
	have.SetLabels(labels)
	have.SetAnnotations(annotations)
	return a || b
}

func withMissing(have, want map[string]string) (map[string]string, bool) {
	changed := false
	for k, v := range want {
		if have[k] == v {
			continue
		}
		if have == nil {
			have = make(map[string]string)
		}
		have[k], changed = v, true
	}
	return have, changed
}

func addMissingRules(have *[]rbacv1.PolicyRule, want []rbacv1.PolicyRule) bool {
	covered, missing := validation.Covers(*have, want)
	*have = append(*have, missing...)
	return !covered
}

func addMissingSelectors(have, want *rbacv1.ClusterRole) bool {
	if want.AggregationRule == nil {
		return false
	}
	if have.AggregationRule == nil {
		have.AggregationRule = &rbacv1.AggregationRule{}
	}
	changed := false
	for _, s := range want.AggregationRule.ClusterRoleSelectors {
		same := func(h metav1.LabelSelector) bool {
			return metav1.FormatLabelSelector(&h) == metav1.FormatLabelSelector(&s)
		}
		if !slices.ContainsFunc(have.AggregationRule.ClusterRoleSelectors, same) {
			have.AggregationRule.ClusterRoleSelectors = append(have.AggregationRule.ClusterRoleSelectors, s)
			changed = true
		}
	}
	return changed
}

func addMissingSubjects(have *[]rbacv1.Subject, want []rbacv1.Subject) bool {
	changed := false
	for _, s := range want {
		if !slices.Contains(*have, s) {
			*have = append(*have, s)
			changed = true
		}
	}
	return changed
}
