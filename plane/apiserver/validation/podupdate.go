package validation

import (
	"fmt"
	"math"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/util/diff"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// What of a pod's spec may change, as an error says it.
const updatable = "`spec.containers[*].image`," +
	"`spec.initContainers[*].image`," +
	"`spec.activeDeadlineSeconds`," +
	"`spec.tolerations` (only additions to existing tolerations)," +
	"`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)"

// maxDiffed bounds the specs, in encoded bytes, whose difference an error
// shows: comparing long texts takes the square of their length.
const maxDiffed = 16 << 10

func podUpdate(f *findings, p, old *corev1.Pod) {
	f.metaUpdate(&p.ObjectMeta, &old.ObjectMeta)
	f.pod(p)
	f.podAnnotationUpdate(p, old)
	if !f.sameContainers(specPath.Child("containers"), p.Spec.Containers, old.Spec.Containers) ||
		!f.sameContainers(specPath.Child("initContainers"), p.Spec.InitContainers, old.Spec.InitContainers) ||
		!f.deadline(p.Spec.ActiveDeadlineSeconds, old.Spec.ActiveDeadlineSeconds) {
		return
	}
	f.moreTolerations(p.Spec.Tolerations, old.Spec.Tolerations)
	f.fewerGates(p.Spec.SchedulingGates, old.Spec.SchedulingGates)
	if equality.Semantic.DeepEqual(p.Spec, old.Spec) {
		return
	}
	// Put back what may change; then nothing may differ.
	rest := p.Spec.DeepCopy()
	for i := range rest.Containers {
		rest.Containers[i].Image = old.Spec.Containers[i].Image
	}
	for i := range rest.InitContainers {
		rest.InitContainers[i].Image = old.Spec.InitContainers[i].Image
	}
	rest.ActiveDeadlineSeconds = old.Spec.ActiveDeadlineSeconds
	rest.SchedulingGates = old.Spec.SchedulingGates
	rest.Tolerations = old.Spec.Tolerations
	if g, was := rest.TerminationGracePeriodSeconds, old.Spec.TerminationGracePeriodSeconds; g != nil && *g == 1 && was != nil && *was < 0 {
		rest.TerminationGracePeriodSeconds = was
	}
	if len(old.Spec.SchedulingGates) > 0 {
		f.gatedUpdate(rest, &old.Spec)
	}
	if !equality.Semantic.DeepEqual(*rest, old.Spec) {
		f.forbidden(specPath, fmt.Sprintf("pod updates may not change fields other than %s\n%v", updatable, difference(&old.Spec, rest)))
	}
}

func difference(old, spec *corev1.PodSpec) string {
	if old.Size()+spec.Size() > maxDiffed {
		return "(the specs are too large to show what differs)"
	}
	return diff.Diff(*old, *spec)
}

func (f *findings) podAnnotationUpdate(p, old *corev1.Pod) {
	for key, was := range old.Annotations {
		if now, ok := p.Annotations[key]; ok && now == was {
			continue
		}
		if strings.HasPrefix(key, corev1.DeprecatedAppArmorBetaContainerAnnotationKeyPrefix) {
			f.forbidden(podAnnotations.Key(key), "may not remove or update AppArmor annotations")
		}
		if key == corev1.MirrorPodAnnotationKey {
			f.forbidden(podAnnotations.Key(key), "may not remove or update mirror pod annotation")
		}
	}
	for key := range p.Annotations {
		if _, ok := old.Annotations[key]; ok {
			continue
		}
		if strings.HasPrefix(key, corev1.DeprecatedAppArmorBetaContainerAnnotationKeyPrefix) {
			f.forbidden(podAnnotations.Key(key), "may not add AppArmor annotations")
		}
		if key == corev1.MirrorPodAnnotationKey {
			f.forbidden(podAnnotations.Key(key), "may not add mirror pod annotation")
		}
	}
}

// sameContainers reports whether the lists may be compared one by one.
func (f *findings) sameContainers(at *field.Path, containers, old []corev1.Container) bool {
	if len(containers) != len(old) {
		f.forbidden(at, "pod updates may not add or remove containers")
		return false
	}
	return true
}

// deadline may be set once, and then only come nearer.
func (f *findings) deadline(n, old *int64) bool {
	at := specPath.Child("activeDeadlineSeconds")
	switch {
	case n == nil && old != nil:
		f.invalid(at, n, "must not update from a positive integer to nil value")
	case n == nil:
	case *n < 0 || *n > math.MaxInt32:
		f.invalid(at, *n, validation.InclusiveRangeError(0, math.MaxInt32))
		return false
	case old != nil && *old < *n:
		f.invalid(at, *n, "must be less than or equal to previous value")
		return false
	}
	return true
}

// moreTolerations allows new ones, and other times for those there are.
func (f *findings) moreTolerations(list, old []corev1.Toleration) {
	timeless := func(t corev1.Toleration) corev1.Toleration {
		t.TolerationSeconds = nil
		return t
	}
	kept := seen[corev1.Toleration]{}
	for _, t := range list {
		kept[timeless(t)] = true
	}
	for _, t := range old {
		if !kept[timeless(t)] {
			f.forbidden(specPath.Child("tolerations"), "existing toleration can not be modified except its tolerationSeconds")
			return
		}
	}
}

func (f *findings) fewerGates(gates, old []corev1.PodSchedulingGate) {
	were := seen[string]{}
	for _, g := range old {
		were[g.Name] = true
	}
	for i, g := range gates {
		if !were[g.Name] {
			f.forbidden(specPath.Child("schedulingGates").Index(i).Child("name"), fmt.Sprintf("only deletion is allowed, but found new scheduling gate '%s'", g.Name))
		}
	}
}

// gatedUpdate: while a pod waits for its gates, where it may go can be narrowed.
// It puts back in spec what it has judged.
func (f *findings) gatedUpdate(spec, old *corev1.PodSpec) {
	for key, value := range old.NodeSelector {
		if now, ok := spec.NodeSelector[key]; !ok || now != value {
			f.invalid(specPath.Child("nodeSelector"), spec.NodeSelector, "only additions to spec.nodeSelector are allowed (no mutations or deletions)")
			break
		}
	}
	spec.NodeSelector = old.NodeSelector

	was, is := nodeAffinityOf(old), nodeAffinityOf(spec)
	if equality.Semantic.DeepEqual(was, is) {
		return
	}
	f.narrowed(is, was)
	switch {
	case spec.Affinity == nil:
		spec.Affinity = &corev1.Affinity{NodeAffinity: was}
	case old.Affinity == nil && spec.Affinity.PodAffinity == nil && spec.Affinity.PodAntiAffinity == nil:
		spec.Affinity = nil
	default:
		spec.Affinity.NodeAffinity = was
	}
}

func nodeAffinityOf(s *corev1.PodSpec) *corev1.NodeAffinity {
	if s.Affinity == nil {
		return nil
	}
	return s.Affinity.NodeAffinity
}

func (f *findings) narrowed(is, was *corev1.NodeAffinity) {
	if was == nil || was.RequiredDuringSchedulingIgnoredDuringExecution == nil {
		return
	}
	oldTerms := was.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms
	var terms []corev1.NodeSelectorTerm
	if is != nil && is.RequiredDuringSchedulingIgnoredDuringExecution != nil {
		terms = is.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms
	}
	at := specPath.Child("affinity", "nodeAffinity", requiredTerms, "nodeSelectorTerms")
	if len(oldTerms) > 0 && len(oldTerms) != len(terms) {
		f.invalid(at, terms, "no additions/deletions to non-empty NodeSelectorTerms list are allowed")
		return
	}
	for i := range oldTerms {
		if !startsWith(terms[i], oldTerms[i]) {
			f.invalid(at.Index(i), terms[i], "only additions are allowed (no mutations or deletions)")
		}
	}
}

// startsWith says that a term has what the old one had, first. An empty term
// matches nothing, so anything added to it would widen it.
func startsWith(term, old corev1.NodeSelectorTerm) bool {
	e, x := len(old.MatchExpressions), len(old.MatchFields)
	if e+x == 0 {
		return len(term.MatchExpressions)+len(term.MatchFields) == 0
	}
	return len(term.MatchExpressions) >= e && len(term.MatchFields) >= x &&
		equality.Semantic.DeepEqual(term.MatchExpressions[:e], old.MatchExpressions) &&
		equality.Semantic.DeepEqual(term.MatchFields[:x], old.MatchFields)
}

// PodEphemeralContainers judges a change through the ephemeralcontainers
// subresource, which changes nothing but that list: containers may be added.
func PodEphemeralContainers(p, old *corev1.Pod) field.ErrorList {
	var f findings
	if _, ok := old.Annotations[corev1.MirrorPodAnnotationKey]; ok {
		f.forbidden(field.NewPath(""), "static pods do not support ephemeral containers")
		return f.list
	}
	f.metaUpdate(&p.ObjectMeta, &old.ObjectMeta)
	f.pod(p)
	f.podAnnotationUpdate(p, old)
	at := specPath.Child("ephemeralContainers")
	now := map[string]*corev1.EphemeralContainer{}
	for i := range p.Spec.EphemeralContainers {
		now[p.Spec.EphemeralContainers[i].Name] = &p.Spec.EphemeralContainers[i]
	}
	for i := range old.Spec.EphemeralContainers {
		was := &old.Spec.EphemeralContainers[i]
		if c, ok := now[was.Name]; !ok {
			f.forbidden(at, fmt.Sprintf("existing ephemeral containers %q may not be removed\n", was.Name))
		} else if !equality.Semantic.DeepEqual(was, c) {
			f.forbidden(at, fmt.Sprintf("existing ephemeral containers %q may not be changed\n", was.Name))
		}
	}
	return f.list
}
