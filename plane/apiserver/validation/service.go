package validation

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	netutils "k8s.io/utils/net"
)

const (
	onlyForLoadBalancer = "may only be used when `type` is 'LoadBalancer'"
	onceSet             = "may not change once set"
	maxAffinitySeconds  = 24 * 60 * 60
)

func service(f *findings, s *corev1.Service) {
	f.meta(&s.ObjectMeta, namespaced, apivalidation.NameIsDNS1035Label)
	f.topologyAnnotations(s)
	if len(s.Spec.Ports) == 0 && !isHeadless(s) && s.Spec.Type != corev1.ServiceTypeExternalName {
		f.required(specPath.Child("ports"), "")
	}
	f.serviceType(s)
	f.servicePorts(s)
	f.labels(specPath.Child("selector"), s.Spec.Selector)
	f.sessionAffinity(s)
	f.clusterIPs(s)
	for i, ip := range s.Spec.ExternalIPs {
		at := specPath.Child("externalIPs").Index(i)
		if errs := validation.IsValidIPForLegacyField(at, ip, true, nil); len(errs) > 0 {
			f.add(errs...)
		} else {
			f.ordinaryIP(at, ip)
		}
	}
	oneOf(f, specPath.Child("type"), s.Spec.Type, corev1.ServiceTypeClusterIP, corev1.ServiceTypeExternalName, corev1.ServiceTypeLoadBalancer, corev1.ServiceTypeNodePort)
	f.portsUnique(s)
	f.loadBalancer(s)
	f.traffic(s)
}

func (f *findings) topologyAnnotations(s *corev1.Service) {
	old, hasOld := s.Annotations[corev1.DeprecatedAnnotationTopologyAwareHints]
	mode, hasMode := s.Annotations[corev1.AnnotationTopologyMode]
	if hasOld && hasMode && old != mode {
		f.invalid(metaPath.Child("annotations").Key(corev1.AnnotationTopologyMode), mode, fmt.Sprintf("must match annotations[%s] when both are specified", corev1.DeprecatedAnnotationTopologyAwareHints))
	}
}

func isHeadless(s *corev1.Service) bool {
	return len(s.Spec.ClusterIPs) == 1 && s.Spec.ClusterIPs[0] == corev1.ClusterIPNone
}

func (f *findings) serviceType(s *corev1.Service) {
	switch s.Spec.Type {
	case corev1.ServiceTypeLoadBalancer, corev1.ServiceTypeNodePort:
		if isHeadless(s) {
			f.invalid(specPath.Child("clusterIPs").Index(0), s.Spec.ClusterIPs[0], fmt.Sprintf("may not be set to 'None' for %s services", s.Spec.Type))
		}
	case corev1.ServiceTypeExternalName:
		const why = "may not be set for ExternalName services"
		if len(s.Spec.ClusterIPs) > 0 {
			f.forbidden(specPath.Child("clusterIPs"), why)
		}
		if len(s.Spec.IPFamilies) > 0 {
			f.forbidden(specPath.Child("ipFamilies"), why)
		}
		if s.Spec.IPFamilyPolicy != nil {
			f.forbidden(specPath.Child("ipFamilyPolicy"), why)
		}
		if name := strings.TrimSuffix(s.Spec.ExternalName, "."); name == "" {
			f.required(specPath.Child("externalName"), "")
		} else {
			f.subdomain(specPath.Child("externalName"), name)
		}
	}
}

func (f *findings) servicePorts(s *corev1.Service) {
	names := seen[string]{}
	for i := range s.Spec.Ports {
		p, at := &s.Spec.Ports[i], specPath.Child("ports").Index(i)
		if p.Name != "" {
			f.label(at.Child("name"), p.Name)
			if names.again(p.Name) {
				f.duplicate(at.Child("name"), p.Name)
			}
		} else if len(s.Spec.Ports) > 1 {
			f.required(at.Child("name"), "")
		}
		f.portNumber(at.Child("port"), p.Port)
		oneOf(f, at.Child("protocol"), p.Protocol, protocols...)
		f.portNumOrName(at.Child("targetPort"), p.TargetPort)
		if p.AppProtocol != nil {
			f.qualifiedName(at.Child("appProtocol"), *p.AppProtocol)
		}
	}
}

// portsUnique: a port, and a node port, is there once for each protocol.
func (f *findings) portsUnique(s *corev1.Service) {
	type key struct {
		protocol corev1.Protocol
		port     int32
	}
	if s.Spec.Type == corev1.ServiceTypeClusterIP {
		for i, p := range s.Spec.Ports {
			if p.NodePort != 0 {
				f.forbidden(specPath.Child("ports").Index(i).Child("nodePort"), "may not be used when `type` is 'ClusterIP'")
			}
		}
	}
	nodePorts := seen[key]{}
	for i, p := range s.Spec.Ports {
		if p.NodePort != 0 && nodePorts.again(key{p.Protocol, p.NodePort}) {
			f.duplicate(specPath.Child("ports").Index(i).Child("nodePort"), p.NodePort)
		}
	}
	ports := seen[key]{}
	for i, p := range s.Spec.Ports {
		if ports.again(key{p.Protocol, p.Port}) {
			f.duplicate(specPath.Child("ports").Index(i), corev1.ServicePort{Protocol: p.Protocol, Port: p.Port})
		}
	}
}

func (f *findings) sessionAffinity(s *corev1.Service) {
	oneOf(f, specPath.Child("sessionAffinity"), s.Spec.SessionAffinity, corev1.ServiceAffinityClientIP, corev1.ServiceAffinityNone)
	at, config := specPath.Child("sessionAffinityConfig"), s.Spec.SessionAffinityConfig
	switch s.Spec.SessionAffinity {
	case corev1.ServiceAffinityNone:
		if config != nil {
			f.forbidden(at, "must not be set when session affinity is None")
		}
	case corev1.ServiceAffinityClientIP:
		const why = "when session affinity type is ClientIP"
		switch {
		case config == nil:
			f.required(at, why)
		case config.ClientIP == nil:
			f.required(at.Child("clientIP"), why)
		case config.ClientIP.TimeoutSeconds == nil:
			f.required(at.Child("clientIP", "timeoutSeconds"), why)
		default:
			if n := *config.ClientIP.TimeoutSeconds; n <= 0 || n > maxAffinitySeconds {
				f.invalid(at.Child("clientIP", "timeoutSeconds"), n, fmt.Sprintf("must be greater than 0 and less than %d", maxAffinitySeconds))
			}
		}
	}
}

func (f *findings) loadBalancer(s *corev1.Service) {
	is := s.Spec.Type == corev1.ServiceTypeLoadBalancer
	if ranges := s.Spec.LoadBalancerSourceRanges; len(ranges) > 0 {
		at := specPath.Child("LoadBalancerSourceRanges")
		f.onlyLoadBalancer(is, at)
		for i, cidr := range ranges {
			f.cidr(at.Index(i), strings.TrimSpace(cidr))
		}
	} else if list, ok := s.Annotations[corev1.AnnotationLoadBalancerSourceRangesKey]; ok {
		at := metaPath.Child("annotations").Key(corev1.AnnotationLoadBalancerSourceRangesKey)
		f.onlyLoadBalancer(is, at)
		if list = strings.TrimSpace(list); list != "" {
			for cidr := range strings.SplitSeq(list, ",") {
				f.cidr(at, strings.TrimSpace(cidr))
			}
		}
	}
	if is && s.Spec.AllocateLoadBalancerNodePorts == nil {
		f.required(field.NewPath("allocateLoadBalancerNodePorts"), "")
	}
	if s.Spec.AllocateLoadBalancerNodePorts != nil {
		f.onlyLoadBalancer(is, specPath.Child("allocateLoadBalancerNodePorts"))
	}
	if class := s.Spec.LoadBalancerClass; class != nil {
		at := specPath.Child("loadBalancerClass")
		f.onlyLoadBalancer(is, at)
		if is {
			f.qualifiedName(at, *class)
		}
	}
}

func (f *findings) onlyLoadBalancer(is bool, at *field.Path) {
	if !is {
		f.forbidden(at, onlyForLoadBalancer)
	}
}

func needsHealthCheck(s *corev1.Service) bool {
	return s.Spec.Type == corev1.ServiceTypeLoadBalancer && s.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal
}

func (f *findings) traffic(s *corev1.Service) {
	kind := s.Spec.Type
	outside := kind == corev1.ServiceTypeLoadBalancer || kind == corev1.ServiceTypeNodePort || kind == corev1.ServiceTypeClusterIP && len(s.Spec.ExternalIPs) > 0
	external := specPath.Child("externalTrafficPolicy")
	if outside {
		oneOf(f, external, s.Spec.ExternalTrafficPolicy, corev1.ServiceExternalTrafficPolicyCluster, corev1.ServiceExternalTrafficPolicyLocal)
	} else if s.Spec.ExternalTrafficPolicy != "" {
		f.invalid(external, s.Spec.ExternalTrafficPolicy, "may only be set for externally-accessible services")
	}
	check, port := specPath.Child("healthCheckNodePort"), s.Spec.HealthCheckNodePort
	switch {
	case !needsHealthCheck(s) && port != 0:
		f.invalid(check, port, "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'")
	case needsHealthCheck(s) && port == 0:
		f.required(check, "")
	case needsHealthCheck(s):
		f.portNumber(check, port)
	}
	internal := specPath.Child("internalTrafficPolicy")
	if p := s.Spec.InternalTrafficPolicy; p != nil {
		unless(f, internal, *p, corev1.ServiceInternalTrafficPolicyCluster, corev1.ServiceInternalTrafficPolicyLocal)
	} else if kind == corev1.ServiceTypeClusterIP || kind == corev1.ServiceTypeNodePort || kind == corev1.ServiceTypeLoadBalancer {
		f.required(internal, "")
	}
	if d := s.Spec.TrafficDistribution; d != nil {
		unless(f, specPath.Child("trafficDistribution"), *d, corev1.ServiceTrafficDistributionPreferClose, corev1.ServiceTrafficDistributionPreferSameNode, corev1.ServiceTrafficDistributionPreferSameZone)
	}
}

// serviceStatus judges what a load balancer reports.
func serviceStatus(f *findings, s, old *corev1.Service) {
	f.metaUpdate(&s.ObjectMeta, &old.ObjectMeta)
	at := statusPath.Child("loadBalancer", "ingress")
	if s.Spec.Type != corev1.ServiceTypeLoadBalancer && len(s.Status.LoadBalancer.Ingress) > 0 {
		f.forbidden(at, "may only be used when `spec.type` is 'LoadBalancer'")
		return
	}
	for i, in := range s.Status.LoadBalancer.Ingress {
		at := at.Index(i)
		if in.IP != "" {
			f.ip(at.Child("ip"), in.IP)
		}
		switch mode := at.Child("ipMode"); {
		case in.IPMode == nil && in.IP != "":
			f.required(mode, "must be specified when `ip` is set")
		case in.IPMode != nil && in.IP == "":
			f.forbidden(mode, "may not be specified when `ip` is not set")
		case in.IPMode != nil:
			unless(f, mode, *in.IPMode, corev1.LoadBalancerIPModeProxy, corev1.LoadBalancerIPModeVIP)
		}
		if in.Hostname != "" {
			f.subdomain(at.Child("hostname"), in.Hostname)
			if netutils.ParseIPSloppy(in.Hostname) != nil {
				f.invalid(at.Child("hostname"), in.Hostname, "must be a DNS name, not an IP address")
			}
		}
	}
}
