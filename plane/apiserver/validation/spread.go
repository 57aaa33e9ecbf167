package validation

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

var taintEffects = []corev1.TaintEffect{corev1.TaintEffectNoSchedule, corev1.TaintEffectPreferNoSchedule, corev1.TaintEffectNoExecute}

func (f *findings) topologySpread(at *field.Path, constraints []corev1.TopologySpreadConstraint) {
	type pair struct {
		key    string
		action corev1.UnsatisfiableConstraintAction
	}
	// Kubernetes reports the first of two that are alike.
	count := map[pair]int{}
	for _, c := range constraints {
		count[pair{c.TopologyKey, c.WhenUnsatisfiable}]++
	}
	for i := range constraints {
		c, at := &constraints[i], at.Index(i)
		f.spread(at, c)
		p := pair{c.TopologyKey, c.WhenUnsatisfiable}
		if count[p]--; count[p] > 0 {
			f.duplicate(at.Child("{topologyKey, whenUnsatisfiable}"), fmt.Sprintf("{%v, %v}", c.TopologyKey, c.WhenUnsatisfiable))
		}
	}
}

func (f *findings) spread(at *field.Path, c *corev1.TopologySpreadConstraint) {
	if c.MaxSkew <= 0 {
		f.invalid(at.Child("maxSkew"), c.MaxSkew, "must be greater than zero")
	}
	if c.TopologyKey == "" {
		f.required(at.Child("topologyKey"), "can not be empty")
	}
	unless(f, at.Child("whenUnsatisfiable"), c.WhenUnsatisfiable, corev1.DoNotSchedule, corev1.ScheduleAnyway)
	if n := c.MinDomains; n != nil {
		if *n <= 0 {
			f.invalid(at.Child("minDomains"), *n, "must be greater than zero")
		}
		if c.WhenUnsatisfiable != corev1.DoNotSchedule {
			f.invalid(at.Child("minDomains"), *n, fmt.Sprintf("can only use minDomains if whenUnsatisfiable=%s, not %s", corev1.DoNotSchedule, c.WhenUnsatisfiable))
		}
	}
	f.inclusion(at.Child("nodeAffinityPolicy"), c.NodeAffinityPolicy)
	f.inclusion(at.Child("nodeTaintsPolicy"), c.NodeTaintsPolicy)
	f.spreadKeys(at.Child("matchLabelKeys"), c)
	f.selector(at.Child("labelSelector"), c.LabelSelector)
}

func (f *findings) inclusion(at *field.Path, policy *corev1.NodeInclusionPolicy) {
	if policy != nil {
		unless(f, at, *policy, corev1.NodeInclusionPolicyHonor, corev1.NodeInclusionPolicyIgnore)
	}
}

func (f *findings) spreadKeys(at *field.Path, c *corev1.TopologySpreadConstraint) {
	if len(c.MatchLabelKeys) == 0 {
		return
	}
	keys := seen[string]{}
	if c.LabelSelector == nil {
		f.forbidden(at, "must not be specified when labelSelector is not set")
	} else {
		for key := range c.LabelSelector.MatchLabels {
			keys[key] = true
		}
		for _, e := range c.LabelSelector.MatchExpressions {
			keys[e.Key] = true
		}
	}
	for i, key := range c.MatchLabelKeys {
		f.labelKey(at.Index(i), key)
		if keys[key] {
			f.invalid(at.Index(i), key, "exists in both matchLabelKeys and labelSelector")
		}
	}
}

func (f *findings) tolerations(at *field.Path, list []corev1.Toleration) {
	for i := range list {
		f.toleration(at.Index(i), &list[i])
	}
}

func (f *findings) toleration(at *field.Path, t *corev1.Toleration) {
	if t.Key != "" {
		f.labelKey(at.Child("key"), t.Key)
	} else if t.Operator != corev1.TolerationOpExists {
		f.invalid(at.Child("operator"), t.Operator, "operator must be Exists when `key` is empty, which means \"match all values and all keys\"")
	}
	if t.TolerationSeconds != nil && t.Effect != corev1.TaintEffectNoExecute {
		f.invalid(at.Child("effect"), t.Effect, "effect must be 'NoExecute' when `tolerationSeconds` is set")
	}
	switch t.Operator {
	case corev1.TolerationOpEqual, "":
		if reasons := validation.IsValidLabelValue(t.Value); len(reasons) > 0 {
			f.invalid(at.Child("operator"), t.Value, strings.Join(reasons, ";"))
		}
	case corev1.TolerationOpExists:
		if t.Value != "" {
			f.invalid(at.Child("operator"), t.Value, "value must be empty when `operator` is 'Exists'")
		}
	default:
		unless(f, at.Child("operator"), t.Operator, corev1.TolerationOpEqual, corev1.TolerationOpExists)
	}
	if t.Effect != "" {
		unless(f, at.Child("effect"), t.Effect, taintEffects...)
	}
}
