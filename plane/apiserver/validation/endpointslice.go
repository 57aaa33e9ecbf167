package validation

import (
	discoveryv1 "k8s.io/api/discovery/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	netutils "k8s.io/utils/net"
)

// Bounds of an EndpointSlice.
const (
	maxEndpoints      = 1000
	maxAddresses      = 100 // of one endpoint
	maxEndpointPorts  = 20000
	maxTopologyLabels = 16
	maxHints          = 8
)

func endpointSlice(f *findings, e *discoveryv1.EndpointSlice) {
	f.meta(&e.ObjectMeta, namespaced, apivalidation.NameIsDNSSubdomain)
	oneOf(f, field.NewPath("addressType"), e.AddressType, discoveryv1.AddressTypeFQDN, discoveryv1.AddressTypeIPv4, discoveryv1.AddressTypeIPv6)
	if at := field.NewPath("endpoints"); len(e.Endpoints) > maxEndpoints {
		f.add(field.TooMany(at, len(e.Endpoints), maxEndpoints))
	} else {
		for i := range e.Endpoints {
			f.endpoint(at.Index(i), &e.Endpoints[i], e.AddressType)
		}
	}
	f.endpointPorts(field.NewPath("ports"), e.Ports)
}

func endpointSliceUpdate(f *findings, e, old *discoveryv1.EndpointSlice) {
	f.metaUpdate(&e.ObjectMeta, &old.ObjectMeta)
	endpointSlice(f, e)
	f.immutable(field.NewPath("addressType"), e.AddressType, old.AddressType)
}

func (f *findings) endpoint(at *field.Path, e *discoveryv1.Endpoint, kind discoveryv1.AddressType) {
	addresses := at.Child("addresses")
	if len(e.Addresses) == 0 {
		f.required(addresses, "must contain at least 1 address")
	} else if len(e.Addresses) > maxAddresses {
		f.add(field.TooMany(addresses, len(e.Addresses), maxAddresses))
	}
	for i, a := range e.Addresses {
		f.endpointAddress(addresses.Index(i), a, kind)
	}
	if e.NodeName != nil {
		f.each(at.Child("nodeName"), *e.NodeName, apivalidation.NameIsDNSSubdomain(*e.NodeName, false))
	}
	topology := at.Child("deprecatedTopology")
	if len(e.DeprecatedTopology) > maxTopologyLabels {
		f.add(field.TooMany(topology, len(e.DeprecatedTopology), maxTopologyLabels))
	}
	f.labels(topology, e.DeprecatedTopology)
	if e.Hostname != nil {
		f.label(at.Child("hostname"), *e.Hostname)
	}
	if e.Hints != nil {
		f.hints(at.Child("hints"), e.Hints)
	}
}

func (f *findings) endpointAddress(at *field.Path, address string, kind discoveryv1.AddressType) {
	switch kind {
	case discoveryv1.AddressTypeIPv4:
		f.addressOf(at, address, validation.IsValidIPForLegacyField(at, address, true, nil), false)
	case discoveryv1.AddressTypeIPv6:
		f.addressOf(at, address, validation.IsValidIPForLegacyField(at, address, true, nil), true)
	case discoveryv1.AddressTypeFQDN:
		f.add(validation.IsFullyQualifiedDomainName(at, address)...)
	}
}

func (f *findings) addressOf(at *field.Path, address string, errs field.ErrorList, want6 bool) {
	f.add(errs...)
	if len(errs) > 0 {
		return
	}
	if netutils.IsIPv6String(address) != want6 {
		family := "IPv4"
		if want6 {
			family = "IPv6"
		}
		f.invalid(at, address, "must be an "+family+" address")
	}
	f.ordinaryIP(at, address)
}

func (f *findings) hints(at *field.Path, h *discoveryv1.EndpointHints) {
	var zones, nodes []string
	for _, z := range h.ForZones {
		zones = append(zones, z.Name)
	}
	for _, n := range h.ForNodes {
		nodes = append(nodes, n.Name)
	}
	f.hintNames(at.Child("forZones"), zones, validation.IsValidLabelValue)
	f.hintNames(at.Child("forNodes"), nodes, func(name string) []string { return apivalidation.NameIsDNSSubdomain(name, false) })
}

func (f *findings) hintNames(at *field.Path, names []string, check func(string) []string) {
	if len(names) > maxHints {
		f.add(field.TooMany(at, len(names), maxHints))
		return
	}
	known := seen[string]{}
	for i, name := range names {
		at := at.Index(i).Child("name")
		if known.again(name) {
			f.duplicate(at, name)
		}
		f.each(at, name, check(name))
	}
}

func (f *findings) endpointPorts(at *field.Path, ports []discoveryv1.EndpointPort) {
	if len(ports) > maxEndpointPorts {
		f.add(field.TooMany(at, len(ports), maxEndpointPorts))
		return
	}
	names := seen[string]{}
	for i, p := range ports {
		at, name := at.Index(i), ""
		if p.Name != nil {
			name = *p.Name
		}
		if name != "" {
			f.label(at.Child("name"), name)
		}
		if names.again(name) {
			f.duplicate(at.Child("name"), name)
		}
		if p.Protocol == nil {
			f.required(at.Child("protocol"), "")
		} else {
			unless(f, at.Child("protocol"), *p.Protocol, protocols...)
		}
		if p.AppProtocol != nil {
			f.qualifiedName(at.Child("appProtocol"), *p.AppProtocol)
		}
	}
}

func endpointSliceWarnings(w *warnings, e, _ *discoveryv1.EndpointSlice) {
	if e.AddressType != discoveryv1.AddressTypeIPv4 && e.AddressType != discoveryv1.AddressTypeIPv6 {
		return
	}
	for i, endpoint := range e.Endpoints {
		if w.full() {
			return
		}
		warnIPs(w, field.NewPath("endpoints").Index(i).Child("addresses"), endpoint.Addresses)
	}
}
