package validation

import (
	"strconv"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	corev1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

const (
	overReplicas = "cannot be greater than status.replicas"
	overReady    = "cannot be greater than readyReplicas"
)

func deployment(f *findings, d *appsv1.Deployment) {
	f.meta(&d.ObjectMeta, namespaced, apivalidation.NameIsDNSSubdomain)
	f.deploymentSpec(&d.Spec)
}

// deploymentUpdate: apps/v1 never lets a selector change; what it selected
// would be left behind.
func deploymentUpdate(f *findings, d, old *appsv1.Deployment) {
	f.metaUpdate(&d.ObjectMeta, &old.ObjectMeta)
	f.deploymentSpec(&d.Spec)
	f.immutable(specPath.Child("selector"), d.Spec.Selector, old.Spec.Selector)
}

func (f *findings) deploymentSpec(s *appsv1.DeploymentSpec) {
	f.count(specPath.Child("replicas"), s.Replicas)
	f.workload(s.Selector, &s.Template)
	f.strategy(specPath.Child("strategy"), &s.Strategy)
	f.nonNegative(specPath.Child("minReadySeconds"), int64(s.MinReadySeconds))
	f.count(specPath.Child("revisionHistoryLimit"), s.RevisionHistoryLimit)
	if n := s.ProgressDeadlineSeconds; n != nil {
		f.count(specPath.Child("progressDeadlineSeconds"), n)
		if *n <= s.MinReadySeconds {
			f.invalid(specPath.Child("progressDeadlineSeconds"), *n, "must be greater than minReadySeconds")
		}
	}
}

// count judges a number that may be left out.
func (f *findings) count(at *field.Path, n *int32) {
	if n != nil {
		f.nonNegative(at, int64(*n))
	}
}

// workload judges a selector, and the template whose pods it must select.
func (f *findings) workload(s *metav1.LabelSelector, t *corev1.PodTemplateSpec) {
	at := specPath.Child("selector")
	if s == nil {
		f.required(at, "")
	} else {
		f.selector(at, s)
		if len(s.MatchLabels)+len(s.MatchExpressions) == 0 {
			f.invalid(at, s, "empty selector is invalid for deployment")
		}
	}
	template := specPath.Child("template")
	selector, err := metav1.LabelSelectorAsSelector(s)
	if err != nil {
		f.invalid(at, s, "invalid label selector")
		return
	}
	if !selector.Empty() && !selector.Matches(labels.Set(t.Labels)) {
		f.invalid(template.Child("metadata", "labels"), t.Labels, "`selector` does not match template `labels`")
	}
	f.podTemplate(template, t)
	if t.Spec.RestartPolicy != corev1.RestartPolicyAlways {
		unless(f, template.Child("spec", "restartPolicy"), t.Spec.RestartPolicy, corev1.RestartPolicyAlways)
	}
	if t.Spec.ActiveDeadlineSeconds != nil {
		f.forbidden(template.Child("spec", "activeDeadlineSeconds"), "activeDeadlineSeconds in ReplicaSet is not Supported")
	}
}

func (f *findings) strategy(at *field.Path, s *appsv1.DeploymentStrategy) {
	rolling := at.Child("rollingUpdate")
	switch s.Type {
	case appsv1.RecreateDeploymentStrategyType:
		if s.RollingUpdate != nil {
			f.forbidden(rolling, "may not be specified when strategy `type` is '"+string(appsv1.RecreateDeploymentStrategyType)+"'")
		}
	case appsv1.RollingUpdateDeploymentStrategyType:
		if s.RollingUpdate == nil {
			f.required(rolling, "this should be defaulted and never be nil")
			return
		}
		unavailable, surge := intOrZero(s.RollingUpdate.MaxUnavailable), intOrZero(s.RollingUpdate.MaxSurge)
		f.intOrPercent(rolling.Child("maxUnavailable"), unavailable)
		f.intOrPercent(rolling.Child("maxSurge"), surge)
		if amount(unavailable) == 0 && amount(surge) == 0 {
			f.invalid(rolling.Child("maxUnavailable"), unavailable, "may not be 0 when `maxSurge` is 0")
		}
		if percent, ok := percentage(unavailable); ok && percent > 100 {
			f.invalid(rolling.Child("maxUnavailable"), unavailable, "must not be greater than 100%")
		}
	default:
		f.add(field.NotSupported(at, s, []appsv1.DeploymentStrategyType{appsv1.RecreateDeploymentStrategyType, appsv1.RollingUpdateDeploymentStrategyType}))
	}
}

func intOrZero(n *intstr.IntOrString) intstr.IntOrString {
	if n == nil {
		return intstr.IntOrString{}
	}
	return *n
}

func (f *findings) intOrPercent(at *field.Path, n intstr.IntOrString) {
	switch n.Type {
	case intstr.String:
		f.each(at, n, validation.IsValidPercent(n.StrVal))
	case intstr.Int:
		f.nonNegative(at, int64(n.IntValue()))
	default:
		f.invalid(at, n, "must be an integer or percentage (e.g '5%%')")
	}
}

// percentage reads "25%".
func percentage(n intstr.IntOrString) (int, bool) {
	if n.Type != intstr.String || len(validation.IsValidPercent(n.StrVal)) > 0 {
		return 0, false
	}
	percent, err := strconv.Atoi(strings.TrimSuffix(n.StrVal, "%"))
	return percent, err == nil
}

func amount(n intstr.IntOrString) int {
	if percent, ok := percentage(n); ok {
		return percent
	}
	return n.IntValue()
}

func deploymentStatus(f *findings, d, old *appsv1.Deployment) {
	f.metaUpdate(&d.ObjectMeta, &old.ObjectMeta)
	s := &d.Status
	f.nonNegative(statusPath.Child("observedGeneration"), s.ObservedGeneration)
	f.nonNegative(statusPath.Child("replicas"), int64(s.Replicas))
	f.nonNegative(statusPath.Child("updatedReplicas"), int64(s.UpdatedReplicas))
	f.nonNegative(statusPath.Child("readyReplicas"), int64(s.ReadyReplicas))
	f.nonNegative(statusPath.Child("availableReplicas"), int64(s.AvailableReplicas))
	f.nonNegative(statusPath.Child("unavailableReplicas"), int64(s.UnavailableReplicas))
	f.count(statusPath.Child("terminatingReplicas"), s.TerminatingReplicas)
	f.count(statusPath.Child("collisionCount"), s.CollisionCount)
	f.atMost(statusPath.Child("updatedReplicas"), s.UpdatedReplicas, s.Replicas, overReplicas)
	f.atMost(statusPath.Child("readyReplicas"), s.ReadyReplicas, s.Replicas, overReplicas)
	f.atMost(statusPath.Child("availableReplicas"), s.AvailableReplicas, s.Replicas, overReplicas)
	f.atMost(statusPath.Child("availableReplicas"), s.AvailableReplicas, s.ReadyReplicas, overReady)
	if was := old.Status.CollisionCount; was != nil {
		is := int32(0)
		if s.CollisionCount != nil {
			is = *s.CollisionCount
		}
		if s.CollisionCount == nil || is < *was {
			f.invalid(statusPath.Child("collisionCount"), is, "cannot be decremented")
		}
	}
}

func (f *findings) atMost(at *field.Path, n, most int32, why string) {
	if n > most {
		f.invalid(at, n, why)
	}
}

func replicaSet(f *findings, r *appsv1.ReplicaSet) {
	f.meta(&r.ObjectMeta, namespaced, apivalidation.NameIsDNSSubdomain)
	f.replicaSetSpec(&r.Spec)
}

func replicaSetUpdate(f *findings, r, old *appsv1.ReplicaSet) {
	f.metaUpdate(&r.ObjectMeta, &old.ObjectMeta)
	f.replicaSetSpec(&r.Spec)
	f.immutable(specPath.Child("selector"), r.Spec.Selector, old.Spec.Selector)
}

func (f *findings) replicaSetSpec(s *appsv1.ReplicaSetSpec) {
	f.count(specPath.Child("replicas"), s.Replicas)
	f.nonNegative(specPath.Child("minReadySeconds"), int64(s.MinReadySeconds))
	f.workload(s.Selector, &s.Template)
}

func replicaSetStatus(f *findings, r, old *appsv1.ReplicaSet) {
	f.metaUpdate(&r.ObjectMeta, &old.ObjectMeta)
	s := &r.Status
	f.nonNegative(statusPath.Child("replicas"), int64(s.Replicas))
	f.nonNegative(statusPath.Child("fullyLabeledReplicas"), int64(s.FullyLabeledReplicas))
	f.nonNegative(statusPath.Child("readyReplicas"), int64(s.ReadyReplicas))
	f.nonNegative(statusPath.Child("availableReplicas"), int64(s.AvailableReplicas))
	f.count(statusPath.Child("terminatingReplicas"), s.TerminatingReplicas)
	f.nonNegative(statusPath.Child("observedGeneration"), s.ObservedGeneration)
	f.atMost(statusPath.Child("fullyLabeledReplicas"), s.FullyLabeledReplicas, s.Replicas, overReplicas)
	f.atMost(statusPath.Child("readyReplicas"), s.ReadyReplicas, s.Replicas, overReplicas)
	f.atMost(statusPath.Child("availableReplicas"), s.AvailableReplicas, s.Replicas, overReplicas)
	f.atMost(statusPath.Child("availableReplicas"), s.AvailableReplicas, s.ReadyReplicas, overReady)
}

func scale(f *findings, s *autoscalingv1.Scale) {
	f.meta(&s.ObjectMeta, namespaced, apivalidation.NameIsDNSSubdomain)
	f.nonNegative(specPath.Child("replicas"), int64(s.Spec.Replicas))
}

// longName warns of a name that cannot be the host name of its pods.
func longName(w *warnings, name string) {
	if reasons := validation.IsDNS1123Label(name); len(reasons) > 0 {
		w.at(metaPath.Child("name"), "this is used in Pod names and hostnames, which can result in surprising behavior; a DNS label is recommended: %v", reasons)
	}
}

func deploymentWarnings(w *warnings, d, old *appsv1.Deployment) {
	if old == nil {
		longName(w, d.Name)
	}
	if old == nil || d.Generation != old.Generation {
		templateWarnings(w, specPath.Child("template"), &d.Spec.Template)
	}
}

func replicaSetWarnings(w *warnings, r, old *appsv1.ReplicaSet) {
	if old == nil {
		longName(w, r.Name)
	}
	if old == nil || r.Generation != old.Generation {
		templateWarnings(w, specPath.Child("template"), &r.Spec.Template)
	}
}
