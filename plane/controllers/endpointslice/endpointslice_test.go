package endpointslice

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"copepod/plane/controllers/api"
	"copepod/plane/controllers/cache"
	"copepod/plane/controllers/loop"
	"copepod/plane/controllers/looptest"
	"copepod/plane/controllers/pods"
)

func service(change ...func(*corev1.Service)) *corev1.Service {
	svc := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web", UID: "svc", Labels: map[string]string{"team": "a"}},
		Spec: corev1.ServiceSpec{
			ClusterIP: "10.96.0.10", IPFamilies: []corev1.IPFamily{corev1.IPv4Protocol}, Selector: map[string]string{"app": "web"},
			Ports: []corev1.ServicePort{{Name: "http", Port: 80, Protocol: corev1.ProtocolTCP, TargetPort: intstr.FromString("http")}},
		},
	}
	for _, f := range change {
		f(svc)
	}
	return svc
}

func pod(t testing.TB, name string, change ...func(*corev1.Pod)) *corev1.Pod {
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, UID: types.UID("uid-" + name), Labels: map[string]string{"app": "web"}},
		Spec: corev1.PodSpec{NodeName: "n", Containers: []corev1.Container{{Name: "c", Ports: []corev1.ContainerPort{
			{Name: "http", ContainerPort: 8080, Protocol: corev1.ProtocolTCP},
		}}}},
		Status: corev1.PodStatus{
			Phase: corev1.PodRunning, PodIP: "10.0.0.1", PodIPs: []corev1.PodIP{{IP: "10.0.0.1"}},
			Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}},
		},
	}
	for _, f := range change {
		f(p)
	}
	return p
}

func project(p *corev1.Pod) *pods.Pod {
	out, _ := pods.Project(p)
	return out
}

func zone(string) string { return "z1" }

// show renders a slice as its ports and endpoints.
func show(s *discoveryv1.EndpointSlice) string {
	var parts []string
	for _, p := range s.Ports {
		parts = append(parts, fmt.Sprintf("%s:%d", *p.Name, *p.Port))
	}
	for _, e := range s.Endpoints {
		parts = append(parts, fmt.Sprintf("%s@%s ready=%v serving=%v terminating=%v", e.TargetRef.Name, e.Addresses[0], *e.Conditions.Ready, *e.Conditions.Serving, *e.Conditions.Terminating))
	}
	return string(s.AddressType) + " " + strings.Join(parts, ", ")
}

func TestEndpointsSayWhetherTheyAreReadyServingOrTerminating(t *testing.T) {
	sick := func(p *corev1.Pod) { p.Status.Conditions = nil }
	going := func(p *corev1.Pod) { p.DeletionTimestamp = &metav1.Time{Time: time.Now()} }
	publish := func(s *corev1.Service) { s.Spec.PublishNotReadyAddresses = true }
	for _, row := range []struct {
		name string
		svc  *corev1.Service
		pod  *corev1.Pod
		want string
	}{
		{"ready", service(), pod(t, "a"), "IPv4 http:8080, a@10.0.0.1 ready=true serving=true terminating=false"},
		{"not ready", service(), pod(t, "a", sick), "IPv4 http:8080, a@10.0.0.1 ready=false serving=false terminating=false"},
		{"terminating", service(), pod(t, "a", going), "IPv4 http:8080, a@10.0.0.1 ready=false serving=true terminating=true"},
		{"published though not ready", service(publish), pod(t, "a", sick), "IPv4 http:8080, a@10.0.0.1 ready=true serving=false terminating=false"},
		{"finished", service(), pod(t, "a", func(p *corev1.Pod) { p.Status.Phase = corev1.PodSucceeded }), "IPv4 "},
		{"without an address", service(), pod(t, "a", func(p *corev1.Pod) { p.Status.PodIP, p.Status.PodIPs = "", nil }), "IPv4 "},
		{"of another family", service(func(s *corev1.Service) { s.Spec.IPFamilies = []corev1.IPFamily{corev1.IPv6Protocol} }), pod(t, "a"), "IPv6 "},
		{"numbered port", service(func(s *corev1.Service) { s.Spec.Ports[0].TargetPort = intstr.FromInt32(99) }), pod(t, "a"), "IPv4 http:99, a@10.0.0.1 ready=true serving=true terminating=false"},
		{"named port that it does not declare", service(func(s *corev1.Service) { s.Spec.Ports[0].TargetPort = intstr.FromString("grpc") }), pod(t, "a"), "IPv4 a@10.0.0.1 ready=true serving=true terminating=false"},
	} {
		t.Run(row.name, func(t *testing.T) {
			s := plan(row.svc, []*pods.Pod{project(row.pod)}, nil, zone)
			if len(s.create) != 1 || show(s.create[0]) != row.want {
				t.Errorf("got %q, want %q", show(s.create[0]), row.want)
			}
		})
	}
}

func TestSliceCarriesTheLabelsThatConsumersSelectBy(t *testing.T) {
	s := plan(service(func(s *corev1.Service) { s.Spec.ClusterIP = corev1.ClusterIPNone }), []*pods.Pod{project(pod(t, "a"))}, nil, zone).create[0]
	want := map[string]string{
		"kubernetes.io/service-name": "web", "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
		"service.kubernetes.io/headless": "", "team": "a",
	}
	if fmt.Sprint(s.Labels) != fmt.Sprint(want) {
		t.Errorf("got labels %v, want %v", s.Labels, want)
	}
	if ref := metav1.GetControllerOf(s); ref == nil || ref.Kind != "Service" || ref.Name != "web" {
		t.Errorf("got owner %v, want the Service", ref)
	}
	if e := s.Endpoints[0]; *e.NodeName != "n" || *e.Zone != "z1" {
		t.Errorf("got node %v zone %v, want n z1", *e.NodeName, *e.Zone)
	}
}

func TestPodsWithDifferentNamedPortsGetSlicesOfTheirOwn(t *testing.T) {
	other := pod(t, "b", func(p *corev1.Pod) { p.Spec.Containers[0].Ports[0].ContainerPort = 9090 })
	s := plan(service(), []*pods.Pod{project(pod(t, "a")), project(other)}, nil, zone)
	if len(s.create) != 2 || show(s.create[0]) == show(s.create[1]) {
		t.Errorf("got %d slices, want 2", len(s.create))
	}
}

// many is n ready pods.
func many(t testing.TB, n int) []*pods.Pod {
	members := make([]*pods.Pod, n)
	for i := range members {
		members[i] = project(pod(t, fmt.Sprintf("p%05d", i)))
	}
	return members
}

// settled is the slices that a plan from nothing makes, as if they were written.
func settled(svc *corev1.Service, members []*pods.Pod) []*discoveryv1.EndpointSlice {
	list := plan(svc, members, nil, zone).create
	for i, s := range list {
		s.Name = fmt.Sprintf("web-%03d", i)
	}
	return list
}

func TestSlicesHoldAHundredAtMost(t *testing.T) {
	total := 0
	list := settled(service(), many(t, 250))
	for _, s := range list {
		total += len(s.Endpoints)
		if len(s.Endpoints) > 100 {
			t.Errorf("got %d endpoints in one slice, want 100 at most", len(s.Endpoints))
		}
	}
	if len(list) != 3 || total != 250 {
		t.Errorf("got %d endpoints in %d slices, want 250 in 3", total, len(list))
	}
}

func TestChangeOfOnePodWritesOneSlice(t *testing.T) {
	members := many(t, 1000)
	have := settled(service(), members)
	if s := plan(service(), members, have, zone); len(s.create)+len(s.update)+len(s.remove) != 0 {
		t.Fatalf("got %d, %d, %d writes when nothing changed, want none", len(s.create), len(s.update), len(s.remove))
	}
	sick := *members[512]
	sick.Ready = false
	members[512] = &sick
	if s := plan(service(), members, have, zone); len(s.create)+len(s.remove) != 0 || len(s.update) != 1 {
		t.Errorf("got %d, %d, %d writes for an unready pod, want one update", len(s.create), len(s.update), len(s.remove))
	}
	gone := append(members[:100:100], members[101:]...)
	more := append(gone, project(pod(t, "new")))
	have = settled(service(), members)
	if s := plan(service(), more, have, zone); len(s.create)+len(s.remove) != 0 || len(s.update) != 1 {
		t.Errorf("got %d, %d, %d writes for a replaced pod, want one update", len(s.create), len(s.update), len(s.remove))
	}
}

func TestEmptyServiceKeepsOneSlice(t *testing.T) {
	have := settled(service(), many(t, 250))
	s := plan(service(), nil, have, zone)
	if len(s.create) != 0 || len(s.update) != 1 || len(s.remove) != 2 || show(s.update[0]) != "IPv4 " {
		t.Errorf("got %d, %d, %d writes, want one slice emptied and two removed", len(s.create), len(s.update), len(s.remove))
	}
}

func run(t testing.TB, a *looptest.API) (stop func()) {
	svcs := cache.New(cache.Config[*corev1.Service]{Source: a, Resource: api.Services, Project: cache.As[*corev1.Service]})
	nodes := cache.New(cache.Config[*corev1.Node]{Source: a, Resource: api.Nodes, Project: cache.As[*corev1.Node]})
	sl := cache.New(cache.Config[*discoveryv1.EndpointSlice]{Source: a, Resource: api.EndpointSlices, Project: Project})
	book := pods.New(a, nil)
	c := New(Config{Client: a, Services: svcs, Nodes: nodes, Slices: sl, Pods: book})
	return looptest.Start(t, svcs.Run, nodes.Run, sl.Run, book.Run, loop.After(c.Run, svcs.Synced(), nodes.Synced(), sl.Synced(), book.Synced()))
}

func TestServiceFollowsItsPods(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := looptest.New()
		run(t, a)
		a.Create(t.Context(), service())
		for _, name := range []string{"a", "b"} {
			a.Create(t.Context(), pod(t, name))
		}
		a.Create(t.Context(), pod(t, "other", func(p *corev1.Pod) { p.Labels = map[string]string{"app": "other"} }))
		synctest.Wait()
		list := looptest.List[*discoveryv1.EndpointSlice](a, "default")
		if len(list) != 1 || len(list[0].Endpoints) != 2 {
			t.Fatalf("got %d slices, want one of two endpoints", len(list))
		}
		a.Modify(t.Context(), api.Pods, "default", "a", "", func(o api.Object) error {
			o.SetLabels(map[string]string{"app": "other"})
			return nil
		})
		synctest.Wait()
		list = looptest.List[*discoveryv1.EndpointSlice](a, "default")
		if len(list) != 1 || len(list[0].Endpoints) != 1 || list[0].Endpoints[0].TargetRef.Name != "b" {
			t.Errorf("got %s, want b alone", show(list[0]))
		}
		a.Delete(t.Context(), api.EndpointSlices, "default", list[0].Name, metav1.DeleteOptions{})
		synctest.Wait()
		if list = looptest.List[*discoveryv1.EndpointSlice](a, "default"); len(list) != 1 {
			t.Errorf("got %d slices after one was deleted, want it made again", len(list))
		}
		before := a.Entries()
		a.Modify(t.Context(), api.EndpointSlices, "default", list[0].Name, "", func(o api.Object) error {
			o.(*discoveryv1.EndpointSlice).Endpoints = nil
			return nil
		})
		synctest.Wait()
		if list = looptest.List[*discoveryv1.EndpointSlice](a, "default"); len(list[0].Endpoints) != 1 || a.Entries()-before != 2 {
			t.Errorf("got %d endpoints after %d writes, want 1 repaired by one write", len(list[0].Endpoints), a.Entries()-before)
		}
	})
}

func BenchmarkPlanOfTenThousandPodsWhereOneChanged(b *testing.B) {
	members := many(b, 10000)
	have := settled(service(), members)
	sick := *members[512]
	sick.Ready = false
	members[512] = &sick
	for b.Loop() {
		plan(service(), members, have, zone)
	}
}
