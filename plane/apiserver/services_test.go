package apiserver_test

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
)

// service is a Service of a type with one port.
func service(name string, kind corev1.ServiceType) *corev1.Service {
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec:       corev1.ServiceSpec{Type: kind, Ports: []corev1.ServicePort{{Port: 80}}},
	}
}

// newServices gives the services of a new namespace. What they hold of the two
// ranges they give back when the test ends.
func newServices(t *testing.T) typedcorev1.ServiceInterface {
	namespace := one.namespace(t)
	t.Cleanup(func() { one.removeServices(t, namespace) })
	return one.CoreV1().Services(namespace)
}

func (c *cluster) removeServices(t *testing.T, namespace string) {
	ctx := context.WithoutCancel(t.Context())
	for _, svc := range must(c.CoreV1().Services(namespace).List(ctx, metav1.ListOptions{}))(t).Items {
		if err := c.CoreV1().Services(namespace).Delete(ctx, svc.Name, metav1.DeleteOptions{}); err != nil {
			t.Error(err)
		}
	}
}

func TestServiceGetsAnAddressAndAPortOfItsRanges(t *testing.T) {
	svc := must(newServices(t).Create(t.Context(), service("web", corev1.ServiceTypeNodePort), metav1.CreateOptions{}))(t)
	ip := must(netip.ParseAddr(svc.Spec.ClusterIP))(t)
	if !netip.MustParsePrefix("10.43.0.0/16").Contains(ip) || svc.Spec.ClusterIPs[0] != svc.Spec.ClusterIP {
		t.Errorf("got addresses %s, %v", svc.Spec.ClusterIP, svc.Spec.ClusterIPs)
	}
	if port := svc.Spec.Ports[0].NodePort; port < 30000 || port > 32767 {
		t.Errorf("got node port %d", port)
	}
	if svc.Spec.IPFamilies[0] != corev1.IPv4Protocol || *svc.Spec.IPFamilyPolicy != corev1.IPFamilyPolicySingleStack {
		t.Errorf("got families %v, policy %v", svc.Spec.IPFamilies, *svc.Spec.IPFamilyPolicy)
	}
}

func TestServiceOfTheSameNameGetsItsAddressBack(t *testing.T) {
	ctx, services := t.Context(), newServices(t)
	first := must(services.Create(ctx, service("web", corev1.ServiceTypeNodePort), metav1.CreateOptions{}))(t)
	if err := services.Delete(ctx, "web", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	second := must(services.Create(ctx, service("web", corev1.ServiceTypeNodePort), metav1.CreateOptions{}))(t)
	if first.Spec.ClusterIP != second.Spec.ClusterIP || first.Spec.Ports[0].NodePort != second.Spec.Ports[0].NodePort {
		t.Errorf("got %s:%d, want %s:%d again", second.Spec.ClusterIP, second.Spec.Ports[0].NodePort, first.Spec.ClusterIP, first.Spec.Ports[0].NodePort)
	}
}

func TestTakenAndForeignAddressesAreRefused(t *testing.T) {
	ctx, services := t.Context(), newServices(t)
	taken := must(services.Create(ctx, service("web", corev1.ServiceTypeNodePort), metav1.CreateOptions{}))(t)
	tests := []struct {
		name   string
		change func(*corev1.Service)
		want   string
	}{
		{"address taken", func(s *corev1.Service) { s.Spec.ClusterIP = taken.Spec.ClusterIP },
			fmt.Sprintf("spec.clusterIPs: Invalid value: [%q]: failed to allocate IP %s: provided IP is already allocated", taken.Spec.ClusterIP, taken.Spec.ClusterIP)},
		{"address outside", func(s *corev1.Service) { s.Spec.ClusterIP = "10.99.0.1" },
			"the provided IP (10.99.0.1) is not in the valid range. The range of valid IPs is 10.43.0.0/16"},
		{"port taken", func(s *corev1.Service) { s.Spec.Ports[0].NodePort = taken.Spec.Ports[0].NodePort },
			fmt.Sprintf("spec.ports[0].nodePort: Invalid value: %d: provided port is already allocated", taken.Spec.Ports[0].NodePort)},
		{"port outside", func(s *corev1.Service) { s.Spec.Ports[0].NodePort = 80 },
			"spec.ports[0].nodePort: Invalid value: 80: provided port is not in the valid range. The range of valid ports is 30000-32767"},
		{"second family", func(s *corev1.Service) { s.Spec.IPFamilies = []corev1.IPFamily{corev1.IPv6Protocol} },
			`spec.ipFamilies[0]: Invalid value: "IPv6": not configured on this cluster`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			svc := service("other", corev1.ServiceTypeNodePort)
			test.change(svc)
			_, err := services.Create(ctx, svc, metav1.CreateOptions{})
			wantError(t, err, test.want)
		})
	}
}

func TestRefusedServiceHoldsNothing(t *testing.T) {
	ctx, services := t.Context(), newServices(t)
	bad := service("bad", corev1.ServiceTypeNodePort)
	bad.Spec.Ports[0].NodePort = 32100
	bad.Spec.SessionAffinity = "Sometimes"
	_, err := services.Create(ctx, bad, metav1.CreateOptions{})
	wantReason(t, err, metav1.StatusReasonInvalid)
	good := service("good", corev1.ServiceTypeNodePort)
	good.Spec.Ports[0].NodePort = 32100
	must(services.Create(ctx, good, metav1.CreateOptions{}))(t)
}

func TestHeadlessAndExternalServicesGetNoAddress(t *testing.T) {
	ctx, services := t.Context(), newServices(t)
	headless := service("headless", corev1.ServiceTypeClusterIP)
	headless.Spec.ClusterIP = corev1.ClusterIPNone
	if got := must(services.Create(ctx, headless, metav1.CreateOptions{}))(t); got.Spec.ClusterIP != corev1.ClusterIPNone {
		t.Errorf("got %q for a headless service", got.Spec.ClusterIP)
	}
	external := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "external"}, Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeExternalName, ExternalName: "example.com"}}
	if got := must(services.Create(ctx, external, metav1.CreateOptions{}))(t); got.Spec.ClusterIP != "" {
		t.Errorf("got %q for an external name", got.Spec.ClusterIP)
	}
}

func TestUpdatesKeepWhatWasAllocated(t *testing.T) {
	ctx, services := t.Context(), newServices(t)
	before := must(services.Create(ctx, service("web", corev1.ServiceTypeNodePort), metav1.CreateOptions{}))(t)
	// The manifest again, with one more port, as `kubectl replace` sends it.
	again := service("web", corev1.ServiceTypeNodePort)
	again.Spec.Ports[0].Name = "http"
	again.Spec.Ports = append(again.Spec.Ports, corev1.ServicePort{Name: "https", Port: 443})
	after := must(services.Update(ctx, again, metav1.UpdateOptions{}))(t)
	if after.Spec.ClusterIP != before.Spec.ClusterIP || after.Spec.Ports[0].NodePort != before.Spec.Ports[0].NodePort {
		t.Errorf("got %s:%d, want %s:%d", after.Spec.ClusterIP, after.Spec.Ports[0].NodePort, before.Spec.ClusterIP, before.Spec.Ports[0].NodePort)
	}
	if second := after.Spec.Ports[1].NodePort; second == 0 || second == after.Spec.Ports[0].NodePort {
		t.Errorf("got node port %d for the second port", second)
	}
	// Without node ports these are free again.
	inner := must(services.Patch(ctx, "web", types.MergePatchType, []byte(`{"spec":{"type":"ClusterIP"}}`), metav1.PatchOptions{}))(t)
	if inner.Spec.Ports[0].NodePort != 0 || inner.Spec.ExternalTrafficPolicy != "" || inner.Spec.ClusterIP != before.Spec.ClusterIP {
		t.Errorf("got port %d, policy %q after the change to ClusterIP", inner.Spec.Ports[0].NodePort, inner.Spec.ExternalTrafficPolicy)
	}
	heir := service("heir", corev1.ServiceTypeNodePort)
	heir.Spec.Ports[0].NodePort = before.Spec.Ports[0].NodePort
	must(services.Create(ctx, heir, metav1.CreateOptions{}))(t)
	_, err := services.Patch(ctx, "web", types.MergePatchType, []byte(`{"spec":{"clusterIP":"10.43.9.9"}}`), metav1.PatchOptions{})
	wantError(t, err, "may not change once set")
}

func TestServicesCreatedAtOnceShareNothing(t *testing.T) {
	ctx, services := t.Context(), newServices(t)
	const n = 24
	results := make([]*corev1.Service, n)
	var work sync.WaitGroup
	for i := range n {
		work.Go(func() {
			svc, err := services.Create(ctx, service(fmt.Sprintf("web-%d", i), corev1.ServiceTypeNodePort), metav1.CreateOptions{})
			if err != nil {
				t.Error(err)
				return
			}
			results[i] = svc
		})
	}
	work.Wait()
	seen := map[string]bool{}
	for _, svc := range results {
		if svc == nil {
			continue
		}
		for _, what := range []string{svc.Spec.ClusterIP, fmt.Sprint(svc.Spec.Ports[0].NodePort)} {
			if seen[what] {
				t.Errorf("%s was given twice", what)
			}
			seen[what] = true
		}
	}
}

func TestKubernetesServiceLeadsToThisServer(t *testing.T) {
	ctx := t.Context()
	svc := must(one.CoreV1().Services("default").Get(ctx, "kubernetes", metav1.GetOptions{}))(t)
	if svc.Spec.ClusterIP != "10.43.0.1" || one.ServiceAddress().String() != "10.43.0.1" {
		t.Errorf("got address %s, want 10.43.0.1", svc.Spec.ClusterIP)
	}
	slice := must(one.DiscoveryV1().EndpointSlices("default").Get(ctx, "kubernetes", metav1.GetOptions{}))(t)
	got := fmt.Sprintf("%s:%d", slice.Endpoints[0].Addresses[0], *slice.Ports[0].Port)
	if got != one.address {
		t.Errorf("got endpoint %s, want %s", got, one.address)
	}
}
