package table

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

func svc(name, ip string, port, nodePort int32) *corev1.Service {
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name},
		Spec:       corev1.ServiceSpec{ClusterIP: ip, Ports: []corev1.ServicePort{{Name: "http", Port: port, NodePort: nodePort, Protocol: corev1.ProtocolTCP}}},
	}
}

func slice(name, service string, ready bool, addrs ...string) *discoveryv1.EndpointSlice {
	s := &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, Labels: map[string]string{discoveryv1.LabelServiceName: service}},
		Ports:      []discoveryv1.EndpointPort{{Name: new("http"), Port: new(int32(8080))}},
	}
	for _, a := range addrs {
		s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{Addresses: []string{a}, Conditions: discoveryv1.EndpointConditions{Ready: &ready}, Hostname: new("h" + a[len(a)-1:])})
	}
	return s
}

func TestOnlyReadyEndpointsArePicked(t *testing.T) {
	tab := New()
	tab.SetSlice(slice("a", "web", true, "10.42.0.1", "10.42.0.2")) // before its Service: order does not matter
	tab.SetService(svc("web", "10.43.0.1", 80, 30080))
	tab.SetSlice(slice("b", "web", false, "10.42.0.3"))
	port, ok := tab.Node(30080)
	if !ok {
		t.Fatal("node port 30080 leads nowhere")
	}
	seen := map[string]bool{}
	for range 100 {
		addr, done, err := port.Pick()
		if err != nil {
			t.Fatal(err)
		}
		seen[addr.String()] = true
		done()
	}
	if len(seen) != 2 || seen["10.42.0.3:8080"] {
		t.Errorf("picked %v, want the two ready ones", seen)
	}
}

func TestPickPrefersTheLessBusyOfTwo(t *testing.T) {
	tab := New()
	tab.SetService(svc("web", "10.43.0.1", 80, 0))
	tab.SetSlice(slice("a", "web", true, "10.42.0.1", "10.42.0.2"))
	port, _ := tab.Virtual(netip.MustParseAddrPort("10.43.0.1:80"))
	turn := 0
	alternate := func(n int) int { turn++; return turn % n }
	first, _, _ := pick(port.internal, nil, alternate)
	for range 3 {
		addr, done, _ := pick(port.internal, nil, alternate)
		if addr == first {
			t.Errorf("picked %s, which has a connection open, over one that has none", addr)
		}
		done()
	}
}

func TestRoutesGoWithTheirObjects(t *testing.T) {
	tab := New()
	s, e := svc("web", "10.43.0.1", 80, 30080), slice("a", "web", true, "10.42.0.1")
	tab.SetService(s)
	tab.SetSlice(e)
	tab.DeleteSlice(e)
	port, ok := tab.Node(30080)
	if !ok {
		t.Fatal("the Service is gone with its endpoints")
	}
	if _, _, err := port.Pick(); !errors.Is(err, ErrNoEndpoints) {
		t.Errorf("Pick = %v, want ErrNoEndpoints", err)
	}
	moved := svc("web", "10.43.0.1", 80, 30081)
	tab.SetService(moved)
	if got := tab.NodePorts(); !slices.Equal(got, []uint16{30081}) {
		t.Errorf("node ports %v, want 30081 alone", got)
	}
	tab.DeleteService(types.NamespacedName{Namespace: "default", Name: "web"})
	if len(tab.services)+len(tab.virtual)+len(tab.nodes)+len(tab.load) != 0 {
		t.Errorf("left behind: %d services, %d addresses, %d node ports, %d loads", len(tab.services), len(tab.virtual), len(tab.nodes), len(tab.load))
	}
}

func TestNamesResolveAsClusterDNSDoes(t *testing.T) {
	tab := New()
	tab.SetService(svc("web", "10.43.0.1", 80, 0))
	tab.SetService(svc("db", corev1.ClusterIPNone, 80, 0))
	tab.SetSlice(slice("a", "db", true, "10.42.0.1", "10.42.0.2"))
	for _, tt := range []struct {
		name, want string
		ok         bool
	}{
		{"web.default.svc.cluster.local", "[10.43.0.1]", true},
		{"Web.Default.svc.cluster.local", "[10.43.0.1]", true},
		{"db.default.svc.cluster.local", "[10.42.0.1 10.42.0.2]", true},
		{"h2.db.default.svc.cluster.local", "[10.42.0.2]", true},
		{"none.default.svc.cluster.local", "[]", false},
		{"web", "[]", false},
		{"example.com", "[]", false},
	} {
		addrs, ok := tab.Lookup(tt.name)
		if fmt.Sprint(addrs) != tt.want || ok != tt.ok {
			t.Errorf("Lookup(%s) = %v, %v; want %s, %v", tt.name, addrs, ok, tt.want, tt.ok)
		}
	}
}

func BenchmarkOneChangeAmong10000Services(b *testing.B) {
	tab := New()
	for i := range 10_000 {
		name := fmt.Sprint("s", i)
		tab.SetService(svc(name, fmt.Sprintf("10.43.%d.%d", i/250, i%250), 80, 0))
		addrs := make([]string, 10)
		for j := range addrs {
			addrs[j] = fmt.Sprintf("10.42.%d.%d", (i*10+j)/250%250, j)
		}
		tab.SetSlice(slice(name, name, true, addrs...))
	}
	change := slice("s5000", "s5000", true, "10.42.0.1", "10.42.0.2")
	for b.Loop() {
		tab.SetSlice(change)
	}
}

// on puts the endpoints of a slice on nodes.
func on(s *discoveryv1.EndpointSlice, nodes ...string) *discoveryv1.EndpointSlice {
	for i, n := range nodes {
		s.Endpoints[i].NodeName = &n
	}
	return s
}

// picked is who is chosen in many tries.
func picked(pick func(...netip.AddrPort) (netip.AddrPort, func(), error)) (addrs []string) {
	for range 100 {
		if addr, done, err := pick(); err == nil {
			done()
			addrs = append(addrs, addr.Addr().String())
		}
	}
	slices.Sort(addrs)
	return slices.Compact(addrs)
}

func TestTrafficPolicyLocalStaysOnTheNode(t *testing.T) {
	cluster, local := corev1.ServiceExternalTrafficPolicyCluster, corev1.ServiceExternalTrafficPolicyLocal
	inCluster, inLocal := corev1.ServiceInternalTrafficPolicyCluster, corev1.ServiceInternalTrafficPolicyLocal
	for _, row := range []struct {
		node                 string
		external             corev1.ServiceExternalTrafficPolicy
		internal             corev1.ServiceInternalTrafficPolicy
		wantOuter, wantInner string
	}{
		{"n1", cluster, inCluster, "[10.42.0.1 10.42.1.2]", "[10.42.0.1 10.42.1.2]"},
		{"n1", local, inCluster, "[10.42.0.1]", "[10.42.0.1 10.42.1.2]"},
		{"n2", local, inLocal, "[10.42.1.2]", "[10.42.1.2]"},
		{"n3", local, inLocal, "[]", "[]"},
		{"", local, inLocal, "[]", "[]"},
	} {
		tab := NewFor(row.node)
		s := svc("web", "10.43.0.1", 80, 30080)
		s.Spec.ExternalTrafficPolicy, s.Spec.InternalTrafficPolicy = row.external, &row.internal
		tab.SetService(s)
		tab.SetSlice(on(slice("a", "web", true, "10.42.0.1", "10.42.1.2"), "n1", "n2"))
		port, _ := tab.Node(30080)
		if outer, inner := fmt.Sprint(picked(port.PickExternal)), fmt.Sprint(picked(port.Pick)); outer != row.wantOuter || inner != row.wantInner {
			t.Errorf("%q, %s, %s: got %s from outside, %s from inside; want %s, %s", row.node, row.external, row.internal, outer, inner, row.wantOuter, row.wantInner)
		}
	}
}

func TestEndpointsThatWereTriedAreNotPickedAgain(t *testing.T) {
	tab := New()
	tab.SetService(svc("web", "10.43.0.1", 80, 30080))
	tab.SetSlice(slice("a", "web", true, "10.42.0.1", "10.42.0.2", "10.42.0.3"))
	port, _ := tab.Node(30080)
	var tried []netip.AddrPort
	for range 3 {
		addr, _, err := port.Pick(tried...)
		if err != nil || slices.Contains(tried, addr) {
			t.Fatalf("picked %s after %v, %v", addr, tried, err)
		}
		tried = append(tried, addr)
	}
	if addr, _, err := port.Pick(tried...); !errors.Is(err, ErrNoEndpoints) {
		t.Errorf("picked %s after all were tried, %v", addr, err)
	}
}

func TestEndpointsThatTerminateServeWhenNoOtherDoes(t *testing.T) {
	tab := New()
	tab.SetService(svc("web", "10.43.0.1", 80, 30080))
	leaving := slice("a", "web", false, "10.42.0.1")
	leaving.Endpoints[0].Conditions.Serving, leaving.Endpoints[0].Conditions.Terminating = new(true), new(true)
	tab.SetSlice(leaving)
	port, _ := tab.Node(30080)
	if got := fmt.Sprint(picked(port.Pick)); got != "[10.42.0.1]" {
		t.Errorf("got %s, want the one that still serves", got)
	}
	tab.SetSlice(slice("b", "web", true, "10.42.0.2"))
	port, _ = tab.Node(30080)
	if got := fmt.Sprint(picked(port.Pick)); got != "[10.42.0.2]" {
		t.Errorf("got %s, want the ready one alone", got)
	}
	tab.DeleteSlice(leaving)
	tab.DeleteSlice(slice("b", "web", true))
	if len(tab.load) != 0 {
		t.Errorf("%d loads are left of no endpoints", len(tab.load))
	}
}
