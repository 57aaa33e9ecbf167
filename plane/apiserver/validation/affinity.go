package validation

import (
	corev1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

const (
	requiredTerms  = "requiredDuringSchedulingIgnoredDuringExecution"
	preferredTerms = "preferredDuringSchedulingIgnoredDuringExecution"
)

func (f *findings) affinity(at *field.Path, a *corev1.Affinity) {
	if a == nil {
		return
	}
	if n := a.NodeAffinity; n != nil {
		f.nodeAffinity(at.Child("nodeAffinity"), n)
	}
	if p := a.PodAffinity; p != nil {
		f.podTerms(at.Child("podAffinity"), p.RequiredDuringSchedulingIgnoredDuringExecution, p.PreferredDuringSchedulingIgnoredDuringExecution)
	}
	if p := a.PodAntiAffinity; p != nil {
		f.podTerms(at.Child("podAntiAffinity"), p.RequiredDuringSchedulingIgnoredDuringExecution, p.PreferredDuringSchedulingIgnoredDuringExecution)
	}
}

func (f *findings) nodeAffinity(at *field.Path, a *corev1.NodeAffinity) {
	if s := a.RequiredDuringSchedulingIgnoredDuringExecution; s != nil {
		terms := at.Child(requiredTerms, "nodeSelectorTerms")
		if len(s.NodeSelectorTerms) == 0 {
			f.required(terms, "must have at least one node selector term")
		}
		for i := range s.NodeSelectorTerms {
			f.nodeTerm(terms.Index(i), &s.NodeSelectorTerms[i], true)
		}
	}
	for i := range a.PreferredDuringSchedulingIgnoredDuringExecution {
		t := &a.PreferredDuringSchedulingIgnoredDuringExecution[i]
		at := at.Child(preferredTerms).Index(i)
		f.weight(at, t.Weight)
		// A preference that matches nothing does no harm.
		f.nodeTerm(at.Child("preference"), &t.Preference, false)
	}
}

func (f *findings) weight(at *field.Path, weight int32) {
	if weight < 1 || weight > 100 {
		f.invalid(at.Child("weight"), weight, "must be in the range 1-100")
	}
}

func (f *findings) nodeTerm(at *field.Path, t *corev1.NodeSelectorTerm, checkValues bool) {
	for i := range t.MatchExpressions {
		f.nodeExpression(at.Child("matchExpressions").Index(i), &t.MatchExpressions[i], checkValues)
	}
	for i := range t.MatchFields {
		f.nodeField(at.Child("matchFields").Index(i), &t.MatchFields[i])
	}
}

func (f *findings) nodeExpression(at *field.Path, r *corev1.NodeSelectorRequirement, checkValues bool) {
	values := at.Child("values")
	switch r.Operator {
	case corev1.NodeSelectorOpIn, corev1.NodeSelectorOpNotIn:
		if len(r.Values) == 0 {
			f.required(values, "must be specified when `operator` is 'In' or 'NotIn'")
		}
	case corev1.NodeSelectorOpExists, corev1.NodeSelectorOpDoesNotExist:
		if len(r.Values) > 0 {
			f.forbidden(values, "may not be specified when `operator` is 'Exists' or 'DoesNotExist'")
		}
	case corev1.NodeSelectorOpGt, corev1.NodeSelectorOpLt:
		if len(r.Values) != 1 {
			f.required(values, "must be specified single value when `operator` is 'Lt' or 'Gt'")
		}
	default:
		f.invalid(at.Child("operator"), r.Operator, "not a valid selector operator")
	}
	f.labelKey(at.Child("key"), r.Key)
	if !checkValues {
		return
	}
	for i, value := range r.Values {
		f.each(values.Index(i), value, validation.IsValidLabelValue(value))
	}
}

// nodeField judges a selector by field. A node has one: its name.
func (f *findings) nodeField(at *field.Path, r *corev1.NodeSelectorRequirement) {
	switch r.Operator {
	case corev1.NodeSelectorOpIn, corev1.NodeSelectorOpNotIn:
		if len(r.Values) != 1 {
			f.required(at.Child("values"), "must be only one value when `operator` is 'In' or 'NotIn' for node field selector")
		}
	default:
		f.invalid(at.Child("operator"), r.Operator, "not a valid selector operator")
	}
	if r.Key != metav1.ObjectNameField {
		f.invalid(at.Child("key"), r.Key, "not a valid field selector key")
		return
	}
	for i, name := range r.Values {
		f.each(at.Child("values").Index(i), name, apivalidation.NameIsDNSSubdomain(name, false))
	}
}

func (f *findings) podTerms(at *field.Path, required []corev1.PodAffinityTerm, preferred []corev1.WeightedPodAffinityTerm) {
	for i := range required {
		f.podTerm(at.Child(requiredTerms).Index(i), &required[i])
	}
	for i := range preferred {
		at := at.Child(preferredTerms).Index(i)
		f.weight(at, preferred[i].Weight)
		f.podTerm(at.Child("podAffinityTerm"), &preferred[i].PodAffinityTerm)
	}
}

func (f *findings) podTerm(at *field.Path, t *corev1.PodAffinityTerm) {
	f.selector(at.Child("labelSelector"), t.LabelSelector)
	f.selector(at.Child("namespaceSelector"), t.NamespaceSelector)
	for _, name := range t.Namespaces {
		f.each(at.Child("namespace"), name, apivalidation.ValidateNamespaceName(name, false))
	}
	f.matchKeys(at, t)
	if t.TopologyKey == "" {
		f.required(at.Child("topologyKey"), "can not be empty")
	}
	f.labelKey(at.Child("topologyKey"), t.TopologyKey)
}

// matchKeys judges labels whose values are taken from the pod itself
// (KEP-3633). The server adds them to the selector, so only a key that is there
// twice was given twice.
func (f *findings) matchKeys(at *field.Path, t *corev1.PodAffinityTerm) {
	f.keysNeedSelector(at.Child("matchLabelKeys"), t.MatchLabelKeys, t.LabelSelector)
	f.keysNeedSelector(at.Child("mismatchLabelKeys"), t.MismatchLabelKeys, t.LabelSelector)
	if t.LabelSelector != nil {
		index := map[string]int{}
		for i, key := range t.MatchLabelKeys {
			index[key] = i
		}
		keys := seen[string]{}
		for key := range t.LabelSelector.MatchLabels {
			keys[key] = true
		}
		for _, e := range t.LabelSelector.MatchExpressions {
			if i, ok := index[e.Key]; keys.again(e.Key) && ok {
				f.invalid(at.Index(i), e.Key, "exists in both matchLabelKeys and labelSelector")
			}
		}
	}
	mismatch := seen[string]{}
	for _, key := range t.MismatchLabelKeys {
		mismatch[key] = true
	}
	for i, key := range t.MatchLabelKeys {
		if mismatch[key] {
			f.invalid(at.Child("matchLabelKeys").Index(i), key, "exists in both matchLabelKeys and mismatchLabelKeys")
		}
	}
}

func (f *findings) keysNeedSelector(at *field.Path, keys []string, s *metav1.LabelSelector) {
	if len(keys) > 0 && s == nil {
		f.forbidden(at, "must not be specified when labelSelector is not set")
		return
	}
	for i, key := range keys {
		f.labelKey(at.Index(i), key)
	}
}
