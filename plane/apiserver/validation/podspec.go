package validation

import (
	"math"

	corev1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// podSpec judges the spec of a pod called name, or of a template if name is "".
func (f *findings) podSpec(at *field.Path, s *corev1.PodSpec, name string) {
	if s.TerminationGracePeriodSeconds == nil {
		f.required(at.Child("terminationGracePeriodSeconds"), "")
	}
	pod := &podContext{spec: s, isPod: name != "", claims: namesOfClaims(s.ResourceClaims)}
	pod.volumes = f.volumes(at.Child("volumes"), s.Volumes, name)
	f.podClaims(at.Child("resourceClaims"), s.ResourceClaims)
	f.allContainers(at, pod)
	f.podResources(at.Child("resources"), s)
	f.hostNetwork(at, pod)
	oneOf(f, at.Child("restartPolicy"), s.RestartPolicy, corev1.RestartPolicyAlways, corev1.RestartPolicyOnFailure, corev1.RestartPolicyNever)
	oneOf(f, at.Child("dnsPolicy"), s.DNSPolicy, corev1.DNSClusterFirstWithHostNet, corev1.DNSClusterFirst, corev1.DNSDefault, corev1.DNSNone)
	f.labels(at.Child("nodeSelector"), s.NodeSelector)
	f.podSecurity(at, s)
	f.affinity(at.Child("affinity"), s.Affinity)
	f.dnsConfig(at.Child("dnsConfig"), s)
	f.gates(at, s)
	f.topologySpread(at.Child("topologySpreadConstraints"), s.TopologySpreadConstraints)
	f.hostUsers(at, s)
	f.podNames(at, s)
	if n := s.ActiveDeadlineSeconds; n != nil && (*n < 1 || *n > math.MaxInt32) {
		f.invalid(at.Child("activeDeadlineSeconds"), *n, validation.InclusiveRangeError(1, math.MaxInt32))
	}
	f.tolerations(at.Child("tolerations"), s.Tolerations)
	f.hostAliases(at.Child("hostAliases"), s.HostAliases)
	if s.PreemptionPolicy != nil {
		oneOf(f, at.Child("preemptionPolicy"), *s.PreemptionPolicy, corev1.PreemptLowerPriority, corev1.PreemptNever)
	}
	if s.Overhead != nil {
		f.resources(at.Child("overhead"), &corev1.ResourceRequirements{Limits: s.Overhead}, nil)
	}
	f.operatingSystem(at, s)
}

// podNames judges the names of other objects, and those that the pod goes by.
func (f *findings) podNames(at *field.Path, s *corev1.PodSpec) {
	if s.ServiceAccountName != "" {
		f.each(at.Child("serviceAccountName"), s.ServiceAccountName, apivalidation.ValidateServiceAccountName(s.ServiceAccountName, false))
	}
	if s.NodeName != "" {
		f.each(at.Child("nodeName"), s.NodeName, apivalidation.NameIsDNSSubdomain(s.NodeName, false))
	}
	if s.PriorityClassName != "" {
		f.each(at.Child("priorityClassName"), s.PriorityClassName, apivalidation.NameIsDNSSubdomain(s.PriorityClassName, false))
	}
	f.optionalName(at.Child("runtimeClassName"), s.RuntimeClassName)
	if s.Hostname != "" {
		f.label(at.Child("hostname"), s.Hostname)
	}
	if s.Subdomain != "" {
		f.label(at.Child("subdomain"), s.Subdomain)
	}
	if name := s.HostnameOverride; name != nil {
		at := at.Child("hostnameOverride")
		const longest = 64 // what a Linux kernel takes
		if len(*name) > longest {
			f.invalid(at, *name, validation.MaxLenError(longest))
		}
		f.subdomain(at, *name)
		if isTrue(s.SetHostnameAsFQDN) {
			f.forbidden(at, "may not be specified when `setHostnameAsFQDN` is true")
		}
		if s.HostNetwork {
			f.forbidden(at, "may not be specified when `hostNetwork` is true")
		}
	}
	if g := s.SchedulingGroup; g != nil {
		if g.PodGroupName == nil {
			f.required(at.Child("schedulingGroup"), "must specify one of: `podGroupName`")
		}
		f.optionalName(at.Child("schedulingGroup", "podGroupName"), g.PodGroupName)
	}
}

func (f *findings) gates(at *field.Path, s *corev1.PodSpec) {
	for i, g := range s.ReadinessGates {
		f.qualifiedName(at.Child("readinessGates").Index(i).Child("conditionType"), string(g.ConditionType))
	}
	names := seen[string]{}
	for i, g := range s.SchedulingGates {
		at := at.Child("schedulingGates").Index(i)
		f.qualifiedName(at, g.Name)
		if names.again(g.Name) {
			f.duplicate(at, g.Name)
		}
	}
}

// hostNetwork: a pod on the host's network has its ports there, and no others.
func (f *findings) hostNetwork(at *field.Path, pod *podContext) {
	if !pod.spec.HostNetwork {
		return
	}
	for i, c := range pod.spec.Containers {
		for j, p := range c.Ports {
			if p.HostPort != p.ContainerPort && (pod.isPod || p.HostPort != 0) {
				f.invalid(at.Child("containers").Index(i).Child("ports").Index(j).Child("hostPort"), p.HostPort, "must match `containerPort` when `hostNetwork` is true")
			}
		}
	}
}

// visit calls with every container of a pod, of all sorts.
func visit(at *field.Path, s *corev1.PodSpec, call func(at *field.Path, c *corev1.Container)) {
	for i := range s.InitContainers {
		call(at.Child("initContainers").Index(i), &s.InitContainers[i])
	}
	for i := range s.Containers {
		call(at.Child("containers").Index(i), &s.Containers[i])
	}
	for i := range s.EphemeralContainers {
		call(at.Child("ephemeralContainers").Index(i), (*corev1.Container)(&s.EphemeralContainers[i].EphemeralContainerCommon))
	}
}
