package endpointslice

import (
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"copepod/plane/controllers/pods"
)

// group is the endpoints that one set of slices holds: of one address family and
// with the same ports.
type group struct {
	family    discoveryv1.AddressType
	ports     []discoveryv1.EndpointPort
	endpoints []discoveryv1.Endpoint
}

// key tells groups apart.
func (g *group) key() string { return groupKey(g.family, g.ports) }

func groupKey(family discoveryv1.AddressType, ports []discoveryv1.EndpointPort) string {
	list := make([]string, len(ports))
	for i, p := range ports {
		list[i] = strings.Join([]string{value(p.Name), string(value(p.Protocol)), strconv.Itoa(int(value(p.Port))), value(p.AppProtocol)}, "/")
	}
	slices.Sort(list)
	return string(family) + " " + strings.Join(list, " ")
}

func value[T any](p *T) T {
	if p == nil {
		var zero T
		return zero
	}
	return *p
}

// desired sorts the pods of a Service into groups. A family without a pod has
// one empty group, so that there always is a slice to watch.
func desired(svc *corev1.Service, members []*pods.Pod, zone func(node string) string) []*group {
	groups := map[string]*group{}
	ports := map[string][]discoveryv1.EndpointPort{} // by declared ports
	for _, family := range families(svc) {
		found := false
		for _, p := range members {
			if p.Terminal() {
				continue
			}
			addresses := addressesOf(p, family)
			if len(addresses) == 0 {
				continue
			}
			list, ok := ports[p.PortSet()]
			if !ok {
				list = portsOf(svc, p)
				ports[p.PortSet()] = list
			}
			g := groups[groupKey(family, list)]
			if g == nil {
				g = &group{family: family, ports: list}
				groups[g.key()] = g
			}
			g.endpoints = append(g.endpoints, endpoint(svc, p, addresses, zone))
			found = true
		}
		if !found {
			g := &group{family: family}
			groups[g.key()] = g
		}
	}
	list := make([]*group, 0, len(groups))
	for _, key := range slices.Sorted(maps.Keys(groups)) {
		list = append(list, groups[key])
	}
	return list
}

// families is the address families that a Service wants slices for.
func families(svc *corev1.Service) []discoveryv1.AddressType {
	var list []discoveryv1.AddressType
	for _, f := range svc.Spec.IPFamilies {
		if f == corev1.IPv6Protocol {
			list = append(list, discoveryv1.AddressTypeIPv6)
		} else {
			list = append(list, discoveryv1.AddressTypeIPv4)
		}
	}
	if len(list) > 0 {
		return list
	}
	if ip, err := netip.ParseAddr(svc.Spec.ClusterIP); err == nil && ip.Is6() {
		return []discoveryv1.AddressType{discoveryv1.AddressTypeIPv6}
	}
	return []discoveryv1.AddressType{discoveryv1.AddressTypeIPv4}
}

func addressesOf(p *pods.Pod, family discoveryv1.AddressType) []string {
	var list []string
	for _, text := range p.IPs {
		ip, err := netip.ParseAddr(text)
		if err == nil && ip.Is6() == (family == discoveryv1.AddressTypeIPv6) {
			list = append(list, text)
		}
	}
	return list
}

// portsOf resolves the Service's target ports for one pod; a named port that the
// pod does not declare is left out.
func portsOf(svc *corev1.Service, p *pods.Pod) []discoveryv1.EndpointPort {
	list := []discoveryv1.EndpointPort{}
	declared := p.Ports()
	for i := range svc.Spec.Ports {
		sp := &svc.Spec.Ports[i]
		number := sp.TargetPort.IntVal
		if sp.TargetPort.Type == intstr.String {
			at := slices.IndexFunc(declared, func(d pods.Port) bool { return d.Name == sp.TargetPort.StrVal && d.Protocol == sp.Protocol })
			if at < 0 {
				continue
			}
			number = declared[at].Number
		}
		name, protocol := sp.Name, sp.Protocol
		list = append(list, discoveryv1.EndpointPort{Name: &name, Port: &number, Protocol: &protocol, AppProtocol: sp.AppProtocol})
	}
	return list
}

func endpoint(svc *corev1.Service, p *pods.Pod, addresses []string, zone func(string) string) discoveryv1.Endpoint {
	serving, terminating := p.Ready, p.Deleting
	ready := svc.Spec.PublishNotReadyAddresses || serving && !terminating
	e := discoveryv1.Endpoint{
		Addresses:  addresses,
		Conditions: discoveryv1.EndpointConditions{Ready: &ready, Serving: &serving, Terminating: &terminating},
		TargetRef:  &corev1.ObjectReference{Kind: "Pod", Namespace: p.Key.Namespace, Name: p.Key.Name, UID: p.UID},
	}
	if p.Node != "" {
		node := p.Node
		e.NodeName = &node
		if z := zone(p.Node); z != "" {
			e.Zone = &z
		}
	}
	if p.Hostname != "" && p.Subdomain == svc.Name {
		host := p.Hostname
		e.Hostname = &host
	}
	return e
}

// same compares endpoints without reflection: there may be thousands.
func same(a, b *discoveryv1.Endpoint) bool {
	return slices.Equal(a.Addresses, b.Addresses) &&
		equal(a.Conditions.Ready, b.Conditions.Ready) && equal(a.Conditions.Serving, b.Conditions.Serving) &&
		equal(a.Conditions.Terminating, b.Conditions.Terminating) && equal(a.Hostname, b.Hostname) &&
		equal(a.NodeName, b.NodeName) && equal(a.Zone, b.Zone) && equal(a.TargetRef, b.TargetRef) &&
		a.Hints == nil && b.Hints == nil && len(a.DeprecatedTopology) == 0
}

func equal[T comparable](a, b *T) bool { return a == b || a != nil && b != nil && *a == *b }
