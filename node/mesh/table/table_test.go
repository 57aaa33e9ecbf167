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
	first, _, _ := port.pick(alternate)
	for range 3 {
		addr, done, _ := port.pick(alternate)
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
