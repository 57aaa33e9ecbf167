// Package table turns Services and EndpointSlices into routes: which pod
// answers for a virtual address, a node port or a cluster name. It knows the
// Kubernetes objects of discovery and nothing of sockets, clocks or goroutines.
//
//	t := table.New()
//	t.SetService(svc)
//	t.SetSlice(slice)
//	port, ok := t.Node(30080)
//	pod, done, err := port.Pick()
//
// A change costs what the changed object costs, however many others there are.
package table

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/types"
)

// ErrNoEndpoints says that a Service exists and none of its pods is ready.
var ErrNoEndpoints = errors.New("no ready endpoint")

// Table is the current set of routes. Its methods may be called from many
// goroutines.
type Table struct {
	node string // which this is; "": nobody knows what is local

	mu       sync.RWMutex // guards what follows
	services map[types.NamespacedName]*service
	virtual  map[netip.AddrPort]*Port
	nodes    map[uint16]*Port
	load     map[netip.AddrPort]*load // by pod address; shared by all ports that lead there
}

// service is what is known of one name; slices may arrive before the Service.
type service struct {
	key    types.NamespacedName
	spec   *corev1.Service // nil until it arrives
	slices map[string]*discoveryv1.EndpointSlice
	ports  []*Port
}

// Port is one port of one Service.
type Port struct {
	Service  types.NamespacedName
	Name     string
	Port     uint16
	NodePort uint16         // 0: none
	Virtual  netip.AddrPort // not valid for a headless Service

	// Who takes connections, from inside the cluster and from outside; replaced,
	// never changed.
	internal, external []endpoint
	all                []endpoint // whose loads this port holds
}

type endpoint struct {
	addr  netip.AddrPort
	load  *load
	local bool // on this node
}

// New makes an empty table of no node in particular.
func New() *Table { return NewFor("") }

// NewFor makes an empty table of a node: the traffic policy Local means its pods.
func NewFor(node string) *Table {
	return &Table{
		node:     node,
		services: map[types.NamespacedName]*service{},
		virtual:  map[netip.AddrPort]*Port{},
		nodes:    map[uint16]*Port{},
		load:     map[netip.AddrPort]*load{},
	}
}

// SetService takes in a Service as it now is.
func (t *Table) SetService(svc *corev1.Service) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.service(types.NamespacedName{Namespace: svc.Namespace, Name: svc.Name})
	s.spec = svc
	t.rebuild(s)
}

// DeleteService forgets a Service.
func (t *Table) DeleteService(key types.NamespacedName) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if s := t.services[key]; s != nil {
		s.spec = nil
		t.rebuild(s)
		t.drop(s)
	}
}

// SetSlice takes in an EndpointSlice as it now is.
func (t *Table) SetSlice(slice *discoveryv1.EndpointSlice) {
	key, ok := owner(slice)
	if !ok {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.service(key)
	s.slices[slice.Name] = slice
	t.rebuild(s)
}

// DeleteSlice forgets an EndpointSlice.
func (t *Table) DeleteSlice(slice *discoveryv1.EndpointSlice) {
	key, ok := owner(slice)
	if !ok {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if s := t.services[key]; s != nil {
		delete(s.slices, slice.Name)
		t.rebuild(s)
		t.drop(s)
	}
}

func owner(slice *discoveryv1.EndpointSlice) (types.NamespacedName, bool) {
	name := slice.Labels[discoveryv1.LabelServiceName]
	return types.NamespacedName{Namespace: slice.Namespace, Name: name}, name != ""
}

func (t *Table) service(key types.NamespacedName) *service {
	s := t.services[key]
	if s == nil {
		s = &service{key: key, slices: map[string]*discoveryv1.EndpointSlice{}}
		t.services[key] = s
	}
	return s
}

// drop removes a service of which nothing is known any more.
func (t *Table) drop(s *service) {
	if s.spec == nil && len(s.slices) == 0 {
		delete(t.services, s.key)
	}
}

// rebuild makes the ports of one service anew.
func (t *Table) rebuild(s *service) {
	old := s.ports
	for _, p := range old {
		delete(t.virtual, p.Virtual)
		delete(t.nodes, p.NodePort)
	}
	s.ports = nil
	if s.spec != nil && s.spec.Spec.Type != corev1.ServiceTypeExternalName {
		for i := range s.spec.Spec.Ports {
			if p := t.port(s, &s.spec.Spec.Ports[i]); p != nil {
				s.ports = append(s.ports, p)
			}
		}
	}
	for _, p := range s.ports {
		if p.Virtual.IsValid() {
			t.virtual[p.Virtual] = p
		}
		if p.NodePort != 0 {
			t.nodes[p.NodePort] = p
		}
	}
	t.release(old)
}

func (t *Table) port(s *service, sp *corev1.ServicePort) *Port {
	if sp.Protocol != "" && sp.Protocol != corev1.ProtocolTCP {
		return nil
	}
	p := &Port{Service: s.key, Name: sp.Name, Port: uint16(sp.Port), NodePort: uint16(sp.NodePort)}
	if ip, err := netip.ParseAddr(s.spec.Spec.ClusterIP); err == nil {
		p.Virtual = netip.AddrPortFrom(ip, p.Port)
	}
	seen := map[netip.AddrPort]bool{}
	var draining []endpoint
	for _, slice := range s.slices {
		for _, f := range find(slice, sp.Name) {
			if seen[f.addr] {
				continue
			}
			seen[f.addr] = true
			l := t.load[f.addr]
			if l == nil {
				l = &load{}
				t.load[f.addr] = l
			}
			l.routes++
			e := endpoint{f.addr, l, f.node != "" && f.node == t.node}
			if f.ready {
				p.all = append(p.all, e)
			} else {
				draining = append(draining, e)
			}
		}
	}
	ready := len(p.all)
	p.all = append(p.all, draining...)
	p.internal = choose(p.all, ready, s.spec.Spec.InternalTrafficPolicy != nil && *s.spec.Spec.InternalTrafficPolicy == corev1.ServiceInternalTrafficPolicyLocal)
	p.external = choose(p.all, ready, s.spec.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal)
	return p
}

// choose is those of the endpoints that take connections: the ready ones, which
// come first, or, if there are none, those that terminate and still serve
// (KEP-1669). local leaves out those on other nodes.
func choose(all []endpoint, ready int, local bool) []endpoint {
	pick := func(list []endpoint) []endpoint {
		if !local {
			return list
		}
		var here []endpoint
		for _, e := range list {
			if e.local {
				here = append(here, e)
			}
		}
		return here
	}
	if list := pick(all[:ready]); len(list) > 0 {
		return list
	}
	return pick(all[ready:])
}

// release forgets the load of addresses that no port leads to any more.
func (t *Table) release(ports []*Port) {
	for _, p := range ports {
		for _, e := range p.all {
			if e.load.routes--; e.load.routes == 0 {
				delete(t.load, e.addr)
			}
		}
	}
}

// found is an address of a slice that takes traffic: because it is ready, or
// because it terminates and still serves.
type found struct {
	addr  netip.AddrPort
	node  string
	ready bool
}

// find lists what a slice has for the named port.
func find(slice *discoveryv1.EndpointSlice, name string) []found {
	var port uint16
	for _, p := range slice.Ports {
		if p.Port != nil && (p.Name == nil && name == "" || p.Name != nil && *p.Name == name) {
			port = uint16(*p.Port)
		}
	}
	if port == 0 {
		return nil
	}
	var list []found
	for i := range slice.Endpoints {
		e := &slice.Endpoints[i]
		ready := e.Conditions.Ready == nil || *e.Conditions.Ready
		draining := isTrue(e.Conditions.Serving) && isTrue(e.Conditions.Terminating)
		if !ready && !draining {
			continue
		}
		f := found{ready: ready}
		if e.NodeName != nil {
			f.node = *e.NodeName
		}
		for _, a := range e.Addresses {
			if ip, err := netip.ParseAddr(a); err == nil {
				f.addr = netip.AddrPortFrom(ip, port)
				list = append(list, f)
			}
		}
	}
	return list
}

func isTrue(b *bool) bool { return b != nil && *b }

// Virtual finds the port behind an address and port of a Service.
func (t *Table) Virtual(addr netip.AddrPort) (p *Port, ok bool) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	p, ok = t.virtual[addr]
	return p, ok
}

// Node finds the port behind a node port.
func (t *Table) Node(port uint16) (*Port, bool) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	p, ok := t.nodes[port]
	return p, ok
}

// NodePorts lists the node ports that lead somewhere.
func (t *Table) NodePorts() []uint16 {
	t.mu.RLock()
	defer t.mu.RUnlock()
	ports := make([]uint16, 0, len(t.nodes))
	for p := range t.nodes {
		ports = append(ports, p)
	}
	return ports
}

// Lookup resolves a name of the cluster: SERVICE.NAMESPACE.svc.cluster.local to
// its address or, of a headless Service, to those of its ready pods; and
// HOSTNAME before it to one pod. ok is false outside the cluster's domain.
func (t *Table) Lookup(name string) (addrs []netip.Addr, ok bool) {
	rest, ok := strings.CutSuffix(strings.ToLower(name), ".svc.cluster.local")
	if !ok {
		return nil, false
	}
	parts := strings.Split(rest, ".")
	host := ""
	if len(parts) == 3 {
		host, parts = parts[0], parts[1:]
	}
	if len(parts) != 2 {
		return nil, false
	}
	t.mu.RLock()
	defer t.mu.RUnlock()
	s := t.services[types.NamespacedName{Name: parts[0], Namespace: parts[1]}]
	if s == nil || s.spec == nil {
		return nil, false
	}
	if ip, err := netip.ParseAddr(s.spec.Spec.ClusterIP); err == nil && host == "" {
		return []netip.Addr{ip}, true
	}
	for _, slice := range s.slices {
		for _, e := range slice.Endpoints {
			unready := e.Conditions.Ready != nil && !*e.Conditions.Ready && !s.spec.Spec.PublishNotReadyAddresses
			if unready || host != "" && (e.Hostname == nil || *e.Hostname != host) {
				continue
			}
			for _, a := range e.Addresses {
				if ip, err := netip.ParseAddr(a); err == nil {
					addrs = append(addrs, ip)
				}
			}
		}
	}
	return addrs, true
}

func (p *Port) String() string {
	return fmt.Sprintf("%s:%d", p.Service, p.Port)
}
