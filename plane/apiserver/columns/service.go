package columns

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

var serviceColumns = []metav1.TableColumnDefinition{
	nameColumn,
	column("Type", "string", corev1.ServiceSpec{}.SwaggerDoc()["type"]),
	column("Cluster-IP", "string", corev1.ServiceSpec{}.SwaggerDoc()["clusterIP"]),
	column("External-IP", "string", corev1.ServiceSpec{}.SwaggerDoc()["externalIPs"]),
	column("Port(s)", "string", corev1.ServiceSpec{}.SwaggerDoc()["ports"]),
	ageColumn,
	wide("Selector", "string", corev1.ServiceSpec{}.SwaggerDoc()["selector"]),
}

func serviceRow(s *corev1.Service, now time.Time) []any {
	clusterIP := s.Spec.ClusterIP
	if len(s.Spec.ClusterIPs) > 0 {
		clusterIP = s.Spec.ClusterIPs[0]
	}
	return []any{
		s.Name,
		string(s.Spec.Type),
		or(clusterIP, "<none>"),
		externalIPs(s),
		or(servicePorts(s.Spec.Ports), "<none>"),
		age(s.CreationTimestamp, now),
		labels.FormatLabels(s.Spec.Selector),
	}
}

func externalIPs(s *corev1.Service) string {
	listed := strings.Join(s.Spec.ExternalIPs, ",")
	switch s.Spec.Type {
	case corev1.ServiceTypeClusterIP, corev1.ServiceTypeNodePort:
		return or(listed, "<none>")
	case corev1.ServiceTypeLoadBalancer:
		return or(strings.Join(append(ingressPoints(s.Status.LoadBalancer), s.Spec.ExternalIPs...), ","), "<pending>")
	case corev1.ServiceTypeExternalName:
		return s.Spec.ExternalName
	}
	return "<unknown>"
}

// ingressPoints are the addresses of a load balancer, each once, in order.
func ingressPoints(status corev1.LoadBalancerStatus) []string {
	points := map[string]bool{}
	for _, in := range status.Ingress {
		if point := or(in.IP, in.Hostname); point != "" {
			points[point] = true
		}
	}
	return slices.Sorted(maps.Keys(points))
}

func servicePorts(ports []corev1.ServicePort) string {
	texts := make([]string, 0, len(ports))
	for _, p := range ports {
		if p.NodePort > 0 {
			texts = append(texts, fmt.Sprintf("%d:%d/%s", p.Port, p.NodePort, p.Protocol))
		} else {
			texts = append(texts, fmt.Sprintf("%d/%s", p.Port, p.Protocol))
		}
	}
	return strings.Join(texts, ",")
}

var endpointSliceColumns = []metav1.TableColumnDefinition{
	nameColumn,
	column("AddressType", "string", discoveryv1.EndpointSlice{}.SwaggerDoc()["addressType"]),
	column("Ports", "string", discoveryv1.EndpointSlice{}.SwaggerDoc()["ports"]),
	column("Endpoints", "string", discoveryv1.EndpointSlice{}.SwaggerDoc()["endpoints"]),
	ageColumn,
}

func endpointSliceRow(e *discoveryv1.EndpointSlice, now time.Time) []any {
	var ports, addresses firstThree
	for _, p := range e.Ports {
		switch {
		case p.Port != nil:
			ports.add(strconv.Itoa(int(*p.Port)))
		case p.Name != nil:
			ports.add(*p.Name)
		default:
			ports.add("*")
		}
	}
	for _, endpoint := range e.Endpoints {
		for _, a := range endpoint.Addresses {
			addresses.add(a)
		}
	}
	return []any{
		e.Name,
		string(e.AddressType),
		or(ports.String(), "<unset>"),
		or(addresses.String(), "<unset>"),
		age(e.CreationTimestamp, now),
	}
}

// firstThree shows a list that may be long: a,b,c + 7 more...
type firstThree struct {
	shown []string
	more  int
}

func (f *firstThree) add(s string) {
	if len(f.shown) == 3 {
		f.more++
		return
	}
	f.shown = append(f.shown, s)
}

func (f *firstThree) String() string {
	list := strings.Join(f.shown, ",")
	if f.more == 0 {
		return list
	}
	return fmt.Sprintf("%s + %d more...", list, f.more)
}
