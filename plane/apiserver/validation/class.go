package validation

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	nodev1 "k8s.io/api/node/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func runtimeClass(f *findings, r *nodev1.RuntimeClass) {
	f.meta(&r.ObjectMeta, cluster, apivalidation.NameIsDNSSubdomain)
	f.each(field.NewPath("handler"), r.Handler, apivalidation.NameIsDNSLabel(r.Handler, false))
	if r.Overhead != nil {
		f.resources(field.NewPath("overhead"), &corev1.ResourceRequirements{Limits: r.Overhead.PodFixed}, nil)
	}
	if s := r.Scheduling; s != nil {
		at := field.NewPath("scheduling")
		f.labels(at.Child("nodeSelector"), s.NodeSelector)
		f.tolerations(at.Child("tolerations"), s.Tolerations)
	}
}

func runtimeClassUpdate(f *findings, r, old *nodev1.RuntimeClass) {
	f.metaUpdate(&r.ObjectMeta, &old.ObjectMeta)
	f.immutable(field.NewPath("handler"), r.Handler, old.Handler)
}

const (
	systemPrefix         = "system-"
	systemCritical       = 2_000_000_000
	highestUserPriority  = 1_000_000_000
	clusterCriticalClass = "system-cluster-critical"
	nodeCriticalClass    = "system-node-critical"
)

func priorityClass(f *findings, p *schedulingv1.PriorityClass) {
	f.meta(&p.ObjectMeta, cluster, apivalidation.NameIsDNSSubdomain)
	if strings.HasPrefix(p.Name, systemPrefix) {
		if why := notSystemClass(p); why != "" {
			f.forbidden(metaPath.Child("name"), "priority class names with '"+systemPrefix+"' prefix are reserved for system use only. error: "+why)
		}
	} else if p.Value > highestUserPriority {
		f.forbidden(field.NewPath("value"), fmt.Sprintf("maximum allowed value of a user defined priority is %d", highestUserPriority))
	}
	if p.PreemptionPolicy != nil {
		oneOf(f, field.NewPath("preemptionPolicy"), *p.PreemptionPolicy, corev1.PreemptLowerPriority, corev1.PreemptNever)
	}
}

// notSystemClass says why a class is not one of the two that the system has.
func notSystemClass(p *schedulingv1.PriorityClass) string {
	value, ok := map[string]int32{clusterCriticalClass: systemCritical, nodeCriticalClass: systemCritical + 1000}[p.Name]
	switch {
	case !ok:
		return fmt.Sprintf("%s is not a known system priority class", p.Name)
	case p.Value != value:
		return fmt.Sprintf("value of %s PriorityClass must be %d", p.Name, value)
	case p.GlobalDefault:
		return fmt.Sprintf("globalDefault of %s PriorityClass must be false", p.Name)
	}
	return ""
}

func priorityClassUpdate(f *findings, p, old *schedulingv1.PriorityClass) {
	f.metaUpdate(&p.ObjectMeta, &old.ObjectMeta)
	if p.Value != old.Value {
		f.forbidden(field.NewPath("value"), "may not be changed in an update.")
	}
	f.immutable(field.NewPath("preemptionPolicy"), p.PreemptionPolicy, old.PreemptionPolicy)
}
