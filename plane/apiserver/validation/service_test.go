//lint:file-ignore SA1019 Endpoints is deprecated in favour of EndpointSlice, and served.

package validation_test

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"
)

var serviceKind = gk("", "Service")

const badName1035 = `a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')`

func TestServicesAreJudged(t *testing.T) {
	creates[*corev1.Service]{
		{"as it is", func(*corev1.Service) {}, ""},
		{"name that starts with a digit", func(s *corev1.Service) { s.Name = "1a" }, `metadata.name: Invalid value: "1a": ` + badName1035},
		{"no ports", func(s *corev1.Service) { s.Spec.Ports = nil }, "spec.ports: Required value"},
		{"no ports, headless", func(s *corev1.Service) {
			s.Spec.Ports, s.Spec.ClusterIP, s.Spec.ClusterIPs = nil, "None", []string{"None"}
		}, ""},
		{"two ports without names", func(s *corev1.Service) { s.Spec.Ports = append(s.Spec.Ports, s.Spec.Ports[0]) }, "spec.ports[0].name: Required value\nspec.ports[1].name: Required value\nspec.ports[1]: Duplicate value: {\"protocol\":\"TCP\",\"port\":80,\"targetPort\":0}"},
		{"bad port", func(s *corev1.Service) {
			s.Spec.Ports = []corev1.ServicePort{{Port: 0, Protocol: "x", TargetPort: intstr.FromString("a_b")}}
		}, "spec.ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive\nspec.ports[0].protocol: Unsupported value: \"x\": supported values: \"SCTP\", \"TCP\", \"UDP\"\nspec.ports[0].targetPort: Invalid value: \"a_b\": must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)"},
		{"node port inside the cluster", func(s *corev1.Service) { s.Spec.Ports[0].NodePort = 30000 }, "spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'"},
		{"another type", func(s *corev1.Service) { s.Spec.Type = "x" }, `spec.type: Unsupported value: "x": supported values: "ClusterIP", "ExternalName", "LoadBalancer", "NodePort"`},
		{"affinity", func(s *corev1.Service) { s.Spec.SessionAffinity = "ClientIP" }, "spec.sessionAffinityConfig: Required value: when session affinity type is ClientIP"},
		{"address", func(s *corev1.Service) { s.Spec.ClusterIP, s.Spec.ClusterIPs = "x", []string{"x"} }, `spec.clusterIPs[0]: Invalid value: "x": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)`},
		{"addresses that disagree", func(s *corev1.Service) { s.Spec.ClusterIP, s.Spec.ClusterIPs = "10.0.0.1", []string{"10.0.0.2"} }, `spec.clusterIPs: Invalid value: ["10.0.0.2"]: first value must match ` + "`clusterIP`"},
		{"two of a family", func(s *corev1.Service) {
			s.Spec.ClusterIP, s.Spec.ClusterIPs = "10.0.0.1", []string{"10.0.0.1", "10.0.0.2"}
		}, `spec.clusterIPs: Invalid value: ["10.0.0.1","10.0.0.2"]: may specify no more than one IP for each IP family`},
		{"another family", func(s *corev1.Service) {
			s.Spec.ClusterIP, s.Spec.ClusterIPs, s.Spec.IPFamilies = "10.0.0.1", []string{"10.0.0.1"}, []corev1.IPFamily{"IPv6"}
		}, "spec.clusterIPs[0]: Invalid value: \"10.0.0.1\": expected an IPv6 value as indicated by `ipFamilies[0]`"},
		{"external address that is the machine", func(s *corev1.Service) {
			s.Spec.ExternalIPs, s.Spec.ExternalTrafficPolicy = []string{"127.0.0.1"}, "Cluster"
		}, `spec.externalIPs[0]: Invalid value: "127.0.0.1": may not be in the loopback range (127.0.0.0/8, ::1/128)`},
		{"external name", func(s *corev1.Service) {
			*s = corev1.Service{ObjectMeta: s.ObjectMeta, Spec: corev1.ServiceSpec{Type: "ExternalName", SessionAffinity: "None", ClusterIPs: []string{"10.0.0.1"}}}
		}, "spec.clusterIPs: Forbidden: may not be set for ExternalName services\nspec.externalName: Required value"},
		{"load balancer's fields", func(s *corev1.Service) {
			s.Spec.LoadBalancerSourceRanges, s.Spec.LoadBalancerClass, s.Spec.ExternalTrafficPolicy = []string{"10.0.0.0/8"}, ptr.To("a"), "Local"
		}, "spec.LoadBalancerSourceRanges: Forbidden: may only be used when `type` is 'LoadBalancer'\nspec.loadBalancerClass: Forbidden: may only be used when `type` is 'LoadBalancer'\nspec.externalTrafficPolicy: Invalid value: \"Local\": may only be set for externally-accessible services"},
		{"traffic", func(s *corev1.Service) {
			s.Spec.InternalTrafficPolicy, s.Spec.TrafficDistribution = nil, ptr.To("x")
		}, "spec.internalTrafficPolicy: Required value\nspec.trafficDistribution: Unsupported value: \"x\": supported values: \"PreferClose\", \"PreferSameNode\", \"PreferSameZone\""},
		{"selector", func(s *corev1.Service) { s.Spec.Selector = map[string]string{"a b": "c"} }, `spec.selector: Invalid value: "a b": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')`},
	}.run(t, serviceKind)
}

func TestAServiceKeepsItsAddress(t *testing.T) {
	has := func(ips ...string) func(*corev1.Service) {
		return func(s *corev1.Service) {
			s.Spec.ClusterIP, s.Spec.ClusterIPs = "", ips
			if len(ips) > 0 {
				s.Spec.ClusterIP = ips[0]
			}
		}
	}
	runUpdates(t, serviceKind, update, updates[*corev1.Service]{
		{"the first one", nil, has("10.0.0.1"), ""},
		{"another", has("10.0.0.1"), has("10.0.0.2"), `spec.clusterIPs[0]: Invalid value: ["10.0.0.2"]: may not change once set`},
		{"none any more", has("10.0.0.1"), has(), `spec.clusterIPs[0]: Invalid value: null: primary clusterIP can not be unset`},
		{"a second one", has("10.0.0.1"), has("10.0.0.1", "fd00::1"), ""},
		{"the second one released", has("10.0.0.1", "fd00::1"), has("10.0.0.1"), ""},
		{"the second one released by accident", has("10.0.0.1", "fd00::1"), func(s *corev1.Service) {
			has("10.0.0.1")(s)
			s.Spec.IPFamilyPolicy = ptr.To(corev1.IPFamilyPolicyPreferDualStack)
		}, `spec.ipFamilyPolicy: Invalid value: "PreferDualStack": must be set to 'SingleStack' when releasing the secondary clusterIP`},
	})
	runUpdates(t, serviceKind, updateStatus, updates[*corev1.Service]{
		{"an ingress without a load balancer", nil, func(s *corev1.Service) {
			s.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "1.1.1.1"}}
		}, "status.loadBalancer.ingress: Forbidden: may only be used when `spec.type` is 'LoadBalancer'"},
	})
}

func TestEndpointSlicesAreJudged(t *testing.T) {
	kind := gk("discovery.k8s.io", "EndpointSlice")
	creates[*discoveryv1.EndpointSlice]{
		{"no type", func(e *discoveryv1.EndpointSlice) { e.AddressType = "" }, "addressType: Required value"},
		{"another type", func(e *discoveryv1.EndpointSlice) { e.AddressType = "IP" }, `addressType: Unsupported value: "IP": supported values: "FQDN", "IPv4", "IPv6"`},
		{"no address", func(e *discoveryv1.EndpointSlice) { e.Endpoints[0].Addresses = nil }, "endpoints[0].addresses: Required value: must contain at least 1 address"},
		{"address of the other family", func(e *discoveryv1.EndpointSlice) { e.Endpoints[0].Addresses = []string{"fd00::1"} }, `endpoints[0].addresses[0]: Invalid value: "fd00::1": must be an IPv4 address`},
		{"address of a link", func(e *discoveryv1.EndpointSlice) { e.Endpoints[0].Addresses = []string{"169.254.1.1"} }, `endpoints[0].addresses[0]: Invalid value: "169.254.1.1": may not be in the link-local range (169.254.0.0/16, fe80::/10)`},
		{"too many", func(e *discoveryv1.EndpointSlice) { e.Endpoints = make([]discoveryv1.Endpoint, 1001) }, "endpoints: Too many: 1001: must have at most 1000 items"},
		{"ports without names", func(e *discoveryv1.EndpointSlice) { e.Ports = append(e.Ports, e.Ports[0]) }, `ports[1].name: Duplicate value: ""`},
		{"port without a protocol", func(e *discoveryv1.EndpointSlice) { e.Ports[0].Protocol, e.Ports[0].Name = nil, nil }, "ports[0].protocol: Required value"},
	}.run(t, kind)
	runUpdates(t, kind, update, updates[*discoveryv1.EndpointSlice]{
		{"another type", nil, func(e *discoveryv1.EndpointSlice) { e.AddressType, e.Endpoints = "IPv6", nil }, `addressType: Invalid value: "IPv6": field is immutable`},
	})
	creates[*corev1.Endpoints]{
		{"nobody", func(e *corev1.Endpoints) { e.Subsets[0].Addresses = nil }, "subsets[0]: Required value: must specify `addresses` or `notReadyAddresses`"},
	}.run(t, gk("", "Endpoints"))
}
