package services

import (
	"slices"
	"strconv"

	corev1 "k8s.io/api/core/v1"
)

func needsClusterIP(svc *corev1.Service) bool {
	switch svc.Spec.Type {
	case corev1.ServiceTypeClusterIP, corev1.ServiceTypeNodePort, corev1.ServiceTypeLoadBalancer:
		return true
	}
	return false
}

func needsNodePorts(svc *corev1.Service) bool {
	switch svc.Spec.Type {
	case corev1.ServiceTypeNodePort:
		return true
	case corev1.ServiceTypeLoadBalancer:
		return svc.Spec.AllocateLoadBalancerNodePorts == nil || *svc.Spec.AllocateLoadBalancerNodePorts
	}
	return false
}

func needsHealthPort(svc *corev1.Service) bool {
	return svc.Spec.Type == corev1.ServiceTypeLoadBalancer &&
		svc.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal
}

// held names every claim of a service: its address and its ports.
func held(svc *corev1.Service) []string {
	var names []string
	if needsClusterIP(svc) && svc.Spec.ClusterIP != "" && svc.Spec.ClusterIP != corev1.ClusterIPNone {
		names = append(names, svc.Spec.ClusterIP)
	}
	for _, p := range svc.Spec.Ports {
		if name := strconv.Itoa(int(p.NodePort)); p.NodePort != 0 && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	if p := svc.Spec.HealthCheckNodePort; p != 0 {
		names = append(names, strconv.Itoa(int(p)))
	}
	return names
}

// syncClusterIPs follows a client that knows only one of clusterIP and clusterIPs.
func syncClusterIPs(svc, old *corev1.Service) {
	spec := &svc.Spec
	switch {
	case spec.ClusterIP == old.Spec.ClusterIP:
	case !slices.Equal(spec.ClusterIPs, old.Spec.ClusterIPs):
	case spec.ClusterIP == "":
		spec.ClusterIPs = nil
	default:
		spec.ClusterIPs = []string{spec.ClusterIP}
	}
	if spec.ClusterIP != "" && len(spec.ClusterIPs) == 0 {
		spec.ClusterIPs = []string{spec.ClusterIP}
	}
}

// inherit keeps what was allocated when an update is silent about it: a client
// that sends its own manifest again does not know these numbers.
func inherit(svc, old *corev1.Service) {
	if needsClusterIP(svc) && needsClusterIP(old) {
		if svc.Spec.ClusterIP == "" {
			svc.Spec.ClusterIP = old.Spec.ClusterIP
		}
		if len(svc.Spec.ClusterIPs) == 0 && svc.Spec.ClusterIP == old.Spec.ClusterIP {
			svc.Spec.ClusterIPs = slices.Clone(old.Spec.ClusterIPs)
		}
	}
	if needsNodePorts(svc) && needsNodePorts(old) {
		inheritPorts(svc, old)
	}
	if needsHealthPort(svc) && needsHealthPort(old) && svc.Spec.HealthCheckNodePort == 0 {
		svc.Spec.HealthCheckNodePort = old.Spec.HealthCheckNodePort
	}
}

func inheritPorts(svc, old *corev1.Service) {
	type key struct {
		protocol corev1.Protocol
		port     int32
	}
	had, wanted := map[key]int32{}, map[int32]bool{}
	for _, p := range old.Spec.Ports {
		had[key{p.Protocol, p.Port}] = p.NodePort
	}
	for _, p := range svc.Spec.Ports {
		wanted[p.NodePort] = true
	}
	for i := range svc.Spec.Ports {
		p := &svc.Spec.Ports[i]
		if before := had[key{p.Protocol, p.Port}]; p.NodePort == 0 && before != 0 && !wanted[before] {
			p.NodePort = before
		}
	}
}

// dropUnneeded clears what a change of type leaves without a meaning, unless
// the client changed it too: then validation tells it so.
func dropUnneeded(svc, old *corev1.Service) {
	if needsClusterIP(old) && !needsClusterIP(svc) &&
		svc.Spec.ClusterIP == old.Spec.ClusterIP && slices.Equal(svc.Spec.ClusterIPs, old.Spec.ClusterIPs) {
		svc.Spec.ClusterIP, svc.Spec.ClusterIPs = "", nil
		svc.Spec.IPFamilies, svc.Spec.IPFamilyPolicy = nil, nil
	}
	if needsNodePorts(old) && !needsNodePorts(svc) && samePorts(svc, old) {
		for i := range svc.Spec.Ports {
			svc.Spec.Ports[i].NodePort = 0
		}
	}
	if needsHealthPort(old) && !needsHealthPort(svc) && svc.Spec.HealthCheckNodePort == old.Spec.HealthCheckNodePort {
		svc.Spec.HealthCheckNodePort = 0
	}
	if balances(old) && !balances(svc) && svc.Spec.Type != corev1.ServiceTypeNodePort {
		svc.Spec.ExternalTrafficPolicy = ""
	}
	if old.Spec.Type == corev1.ServiceTypeNodePort && needsNodePorts(old) && !needsNodePorts(svc) && !balances(svc) &&
		svc.Spec.ExternalTrafficPolicy == old.Spec.ExternalTrafficPolicy {
		svc.Spec.ExternalTrafficPolicy = ""
	}
	if balances(old) && !balances(svc) {
		svc.Spec.AllocateLoadBalancerNodePorts, svc.Spec.LoadBalancerClass = nil, nil
	}
}

func balances(svc *corev1.Service) bool { return svc.Spec.Type == corev1.ServiceTypeLoadBalancer }

// samePorts tells whether the node ports are those of old.
func samePorts(svc, old *corev1.Service) bool {
	numbers := func(s *corev1.Service) map[int32]bool {
		set := map[int32]bool{}
		for _, p := range s.Spec.Ports {
			set[p.NodePort] = true
		}
		return set
	}
	before := numbers(old)
	for n := range numbers(svc) {
		if n != 0 && !before[n] {
			return false
		}
	}
	return true
}
