package defaults

import (
	corev1 "k8s.io/api/core/v1"
)

func pod(p *corev1.Pod) {
	// What holds for a pod but not for a pod template: a template says what was
	// asked, and is compared with what was asked before.
	requestsFromLimits(p.Spec.InitContainers)
	requestsFromLimits(p.Spec.Containers)
	podLevelResources(p)
	point(&p.Spec.EnableServiceLinks, corev1.DefaultEnableServiceLinks)
	if p.Spec.HostNetwork {
		hostPorts(p.Spec.InitContainers)
		hostPorts(p.Spec.Containers)
	}
	podSpec(&p.Spec)
	podStatus(&p.Status)
}

func podTemplate(t *corev1.PodTemplate) { podSpec(&t.Template.Spec) }

func podSpec(s *corev1.PodSpec) {
	set(&s.DNSPolicy, corev1.DNSClusterFirst)
	set(&s.RestartPolicy, corev1.RestartPolicyAlways)
	point(&s.SecurityContext, corev1.PodSecurityContext{})
	point(&s.TerminationGracePeriodSeconds, int64(corev1.DefaultTerminationGracePeriodSeconds))
	set(&s.SchedulerName, corev1.DefaultSchedulerName)
	set(&s.ServiceAccountName, s.DeprecatedServiceAccount)
	s.DeprecatedServiceAccount = s.ServiceAccountName

	for i := range s.Volumes {
		volume(&s.Volumes[i])
	}
	for i := range s.InitContainers {
		container(&s.InitContainers[i])
	}
	for i := range s.Containers {
		container(&s.Containers[i])
	}
	for i := range s.EphemeralContainers {
		container((*corev1.Container)(&s.EphemeralContainers[i].EphemeralContainerCommon))
	}
	roundUp(s.Overhead)
	if s.Resources != nil {
		roundUp(s.Resources.Limits)
		roundUp(s.Resources.Requests)
	}
}

// podStatus keeps podIP and hostIP the first of their lists. The single value
// wins when both are there and differ: a client that knows only the old field
// changes only that one.
func podStatus(s *corev1.PodStatus) {
	if s.PodIP != "" && (len(s.PodIPs) == 0 || s.PodIPs[0].IP != s.PodIP) {
		s.PodIPs = []corev1.PodIP{{IP: s.PodIP}}
	}
	if s.PodIP == "" && len(s.PodIPs) > 0 {
		s.PodIP = s.PodIPs[0].IP
	}
	if s.HostIP == "" && len(s.HostIPs) > 0 {
		s.HostIP = s.HostIPs[0].IP
	}
}

// hostPorts gives each port of a pod on the host's network the same port there.
func hostPorts(containers []corev1.Container) {
	for i := range containers {
		for j := range containers[i].Ports {
			set(&containers[i].Ports[j].HostPort, containers[i].Ports[j].ContainerPort)
		}
	}
}
