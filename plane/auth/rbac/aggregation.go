package rbac

import (
	"slices"
	"strings"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// AggregatedRules returns the rules that an aggregated ClusterRole has by its
// selectors: those of each matching role but itself, in the order of selectors
// and then names, without repetitions. An error is a selector that is no
// selector.
func AggregatedRules(role *rbacv1.ClusterRole, all []*rbacv1.ClusterRole) ([]rbacv1.PolicyRule, error) {
	if role.AggregationRule == nil {
		return role.Rules, nil
	}
	sorted := slices.SortedFunc(slices.Values(all), byName)
	rules := []rbacv1.PolicyRule{}
	for i := range role.AggregationRule.ClusterRoleSelectors {
		selector, err := metav1.LabelSelectorAsSelector(&role.AggregationRule.ClusterRoleSelectors[i])
		if err != nil {
			return nil, err
		}
		for _, r := range sorted {
			if r.Name != role.Name && selector.Matches(labels.Set(r.Labels)) {
				rules = appendNew(rules, r.Rules)
			}
		}
	}
	return rules, nil
}

func byName(a, b *rbacv1.ClusterRole) int { return strings.Compare(a.Name, b.Name) }

func appendNew(rules, more []rbacv1.PolicyRule) []rbacv1.PolicyRule {
	for _, m := range more {
		if !slices.ContainsFunc(rules, func(r rbacv1.PolicyRule) bool { return equality.Semantic.DeepEqual(r, m) }) {
			rules = append(rules, m)
		}
	}
	return rules
}

// Aggregate plans the writes that bring all aggregated roles up to date: copies
// of those whose rules are not what they should be, with these rules. Roles that
// aggregate aggregated ones (admin has edit, which has view) settle in the one
// call; a role with a broken selector stays as it is.
func Aggregate(all []*rbacv1.ClusterRole) []*rbacv1.ClusterRole {
	current := slices.SortedFunc(slices.Values(all), byName)
	changed := make(map[string]*rbacv1.ClusterRole)
	// Each pass carries rules one level further; len(all) levels bound even roles
	// that select each other in a ring, since rules are only ever added there.
	for range all {
		settled := true
		for i, r := range current {
			if r.AggregationRule == nil {
				continue
			}
			rules, err := AggregatedRules(r, current)
			if err != nil || equality.Semantic.DeepEqual(rules, r.Rules) {
				continue
			}
			next := r.DeepCopy()
			next.Rules = rules
			current[i], changed[r.Name], settled = next, next, false
		}
		if settled {
			break
		}
	}
	out := make([]*rbacv1.ClusterRole, 0, len(changed))
	for _, r := range changed {
		out = append(out, r)
	}
	slices.SortFunc(out, byName)
	return out
}
