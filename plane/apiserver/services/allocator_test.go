package services

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"copepod/plane/apiserver/scheme"
	"copepod/plane/kubestore"
	"copepod/plane/store"
)

// newAllocator is an allocator over a store in memory.
func newAllocator(t *testing.T, addresses string, ports PortRange) *Allocator {
	t.Helper()
	quiet := slog.New(slog.DiscardHandler)
	st, err := store.Open(store.Config{Log: quiet})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- st.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-ended })
	<-st.Ready()
	k, err := kubestore.New(st, kubestore.Config{Log: quiet})
	if err != nil {
		t.Fatal(err)
	}
	s := scheme.New()
	a, err := New(Config{
		Addresses: netip.MustParsePrefix(addresses), Ports: ports, Log: quiet,
		Storage: k.RESTOptions(func(gr schema.GroupResource) (runtime.Codec, runtime.GroupVersioner) {
			gv := schema.GroupVersion{Group: gr.Group, Version: "v1"}
			return s.StorageCodec(gv), gv
		}),
	})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func nodePortService(name string) *corev1.Service {
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "n", Name: name, UID: "uid"},
		Spec:       corev1.ServiceSpec{Type: corev1.ServiceTypeNodePort, Ports: []corev1.ServicePort{{Port: 80, Protocol: corev1.ProtocolTCP}}},
	}
}

func TestSmallRangeIsGivenOutToTheLast(t *testing.T) {
	a := newAllocator(t, "10.9.0.0/28", PortRange{31000, 31999})
	seen := map[string]bool{}
	for i := range 14 { // 16 less the network and the broadcast address
		svc := nodePortService(fmt.Sprint("s", i))
		if _, err := a.Create(t.Context(), svc, false); err != nil {
			t.Fatalf("service %d: %v", i, err)
		}
		if seen[svc.Spec.ClusterIP] || svc.Spec.ClusterIP == "10.9.0.0" || svc.Spec.ClusterIP == "10.9.0.15" {
			t.Errorf("got address %s again, or one that nobody may have", svc.Spec.ClusterIP)
		}
		seen[svc.Spec.ClusterIP] = true
	}
	_, err := a.Create(t.Context(), nodePortService("late"), false)
	if err == nil || !strings.Contains(err.Error(), "failed to allocate a serviceIP: range is full") {
		t.Errorf("got %v, want a full range", err)
	}
}

func TestRefusedCreationGivesEverythingBack(t *testing.T) {
	a := newAllocator(t, "10.9.0.0/16", PortRange{31000, 31000})
	ctx, first := t.Context(), nodePortService("first")
	done, err := a.Create(ctx, first, false)
	if err != nil {
		t.Fatal(err)
	}
	done(ctx, false) // validation said no
	second := nodePortService("second")
	second.Spec.ClusterIP = first.Spec.ClusterIP
	if _, err := a.Create(ctx, second, false); err != nil {
		t.Errorf("address or port are still held: %v", err)
	}
}

func TestRetriedCreationFindsItsOwnClaims(t *testing.T) {
	a := newAllocator(t, "10.9.0.0/16", PortRange{31000, 31999})
	first, again := nodePortService("s"), nodePortService("s")
	for _, svc := range []*corev1.Service{first, again} {
		if _, err := a.Create(t.Context(), svc, false); err != nil {
			t.Fatal(err)
		}
	}
	if first.Spec.ClusterIP != again.Spec.ClusterIP || first.Spec.Ports[0].NodePort != again.Spec.Ports[0].NodePort {
		t.Errorf("got %v, want %v again", again.Spec, first.Spec)
	}
}

func TestOneNodePortServesBothProtocols(t *testing.T) {
	a := newAllocator(t, "10.9.0.0/16", PortRange{31000, 31999})
	svc := nodePortService("dns")
	svc.Spec.Ports = []corev1.ServicePort{
		{Name: "udp", Port: 53, Protocol: corev1.ProtocolUDP}, {Name: "tcp", Port: 53, Protocol: corev1.ProtocolTCP}, {Name: "metrics", Port: 9153, Protocol: corev1.ProtocolTCP},
	}
	if _, err := a.Create(t.Context(), svc, false); err != nil {
		t.Fatal(err)
	}
	p := svc.Spec.Ports
	if p[0].NodePort != p[1].NodePort || p[2].NodePort == p[0].NodePort || p[2].NodePort == 0 {
		t.Errorf("got node ports %d %d %d", p[0].NodePort, p[1].NodePort, p[2].NodePort)
	}
}

func TestSweepReleasesWhatNoServiceUses(t *testing.T) {
	a := newAllocator(t, "10.9.0.0/16", PortRange{31000, 31999})
	ctx := t.Context()
	kept, lost := nodePortService("kept"), nodePortService("lost")
	for _, svc := range []*corev1.Service{kept, lost} {
		if _, err := a.Create(ctx, svc, false); err != nil {
			t.Fatal(err)
		}
	}
	holds := func(svc *corev1.Service) bool {
		_, taken, err := a.ips.holder(ctx, svc.Spec.ClusterIP)
		if err != nil {
			t.Fatal(err)
		}
		return taken
	}
	if err := a.Sweep(ctx, []*corev1.Service{kept}); err != nil {
		t.Fatal(err)
	}
	if !holds(lost) {
		t.Error("a young claim was swept: its request may still be on the way")
	}
	names := held(kept)
	keep := func(name string, _ owner) bool { return slices.Contains(names, name) }
	if err := a.ips.sweep(ctx, time.Now().Add(time.Hour), keep); err != nil {
		t.Fatal(err)
	}
	if holds(lost) || !holds(kept) {
		t.Errorf("after an hour: lost held %t, kept held %t", holds(lost), holds(kept))
	}
}

func TestSearchTriesEveryPlaceOnceUpperPartFirst(t *testing.T) {
	for _, n := range []int{1, 2, 14, 100, 2768} {
		band := staticBand(n, 128)
		var order []int
		_, err := search(n, band, "seed", func(i int) (string, bool, error) {
			order = append(order, i)
			return "", false, nil
		})
		if !errors.Is(err, errFull) {
			t.Errorf("%d: got %v, want %v", n, err, errFull)
		}
		for _, place := range order[:n-band] {
			if place < band {
				t.Errorf("%d: place %d of the lower part came early", n, place)
				break
			}
		}
		slices.Sort(order)
		if len(order) != n || order[0] != 0 || order[n-1] != n-1 || len(slices.Compact(order)) != n {
			t.Errorf("%d: tried %d places", n, len(order))
		}
	}
}

func TestRangesThatMakeNoSenseAreRefused(t *testing.T) {
	for name, test := range map[string]struct {
		cfg  Config
		want string
	}{
		"tiny":     {Config{Addresses: netip.MustParsePrefix("10.0.0.0/30")}, "want an IPv4 range of /28 or wider"},
		"ipv6":     {Config{Addresses: netip.MustParsePrefix("fd00::/64")}, "want an IPv4 range"},
		"ports":    {Config{Ports: PortRange{2, 1}}, "want a range within 1-65535"},
		"too high": {Config{Ports: PortRange{60000, 70000}}, "want a range within 1-65535"},
	} {
		if _, err := New(test.cfg); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %v, want %q", name, err, test.want)
		}
	}
}
