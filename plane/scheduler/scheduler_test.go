package scheduler_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	nodev1 "k8s.io/api/node/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"copepod/plane/controllers/api"
	"copepod/plane/controllers/looptest"
	"copepod/plane/scheduler"
)

func start(t testing.TB, a *looptest.API) (stop func()) {
	t.Helper()
	s, err := scheduler.New(scheduler.Config{Client: a, Metrics: prometheus.NewRegistry()})
	if err != nil {
		t.Fatal(err)
	}
	return looptest.Start(t, s.Run)
}

func node(t testing.TB, a *looptest.API, name string, cpu string, change ...func(*corev1.Node)) {
	t.Helper()
	n := &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{corev1.LabelHostname: name}},
		Status: corev1.NodeStatus{Allocatable: corev1.ResourceList{
			corev1.ResourceCPU: resource.MustParse(cpu), corev1.ResourceMemory: resource.MustParse("8Gi"), corev1.ResourcePods: resource.MustParse("1000"),
		}},
	}
	for _, f := range change {
		f(n)
	}
	if _, err := a.Create(t.Context(), n); err != nil {
		t.Fatal(err)
	}
}

func pod(name, cpu string, change ...func(*corev1.Pod)) *corev1.Pod {
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, Labels: map[string]string{"app": "web"}},
		Spec: corev1.PodSpec{SchedulerName: "default-scheduler", Containers: []corev1.Container{{Name: "c", Resources: corev1.ResourceRequirements{
			Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(cpu)},
		}}}},
	}
	for _, f := range change {
		f(p)
	}
	return p
}

func batch(prefix string, n int, cpu string, change ...func(*corev1.Pod)) []api.Object {
	list := make([]api.Object, n)
	for i := range list {
		list[i] = pod(fmt.Sprintf("%s-%05d", prefix, i), cpu, change...)
	}
	return list
}

// where renders the pods of each node: "a=2 b=1 -=3", "-" being none.
func where(a *looptest.API) string {
	n := map[string]int{}
	for _, p := range looptest.List[*corev1.Pod](a, "default") {
		name := p.Spec.NodeName
		if name == "" {
			name = "-"
		}
		n[name]++
	}
	var list []string
	for _, name := range slices.Sorted(maps.Keys(n)) {
		list = append(list, fmt.Sprintf("%s=%d", name, n[name]))
	}
	return strings.Join(list, " ")
}

func want(t testing.TB, a *looptest.API, text string) {
	t.Helper()
	synctest.Wait()
	if got := where(a); got != text {
		t.Errorf("got %q, want %q", got, text)
	}
}

func TestPodsAreBoundInBatchesAndSaidSo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := looptest.New()
		start(t, a)
		node(t, a, "a", "64")
		node(t, a, "b", "64")
		synctest.Wait()
		before := a.Entries()
		a.CreateAll(t.Context(), batch("web", 500, "100m"))
		want(t, a, "a=250 b=250")
		time.Sleep(time.Second)
		synctest.Wait()
		if got := a.Entries() - before; got > 50 {
			t.Errorf("got %d log entries for 500 pods, want far fewer than pods", got)
		}
		said := looptest.Said(a, "web-00007")
		node := looptest.Get[*corev1.Pod](t, a, "default", "web-00007").Spec.NodeName
		if !slices.Equal(said, []string{"Normal Scheduled Successfully assigned default/web-00007 to " + node}) {
			t.Errorf("got events %q", said)
		}
		e := looptest.List[*corev1.Event](a, "default")[0]
		if e.Source.Component != "default-scheduler" || e.ReportingController != "default-scheduler" {
			t.Errorf("got source %q, reporting %q, want default-scheduler", e.Source.Component, e.ReportingController)
		}
	})
}

func TestHigherPriorityGoesFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := looptest.New()
		high := int32(1000)
		a.CreateAll(t.Context(), batch("low", 10, "1"))
		a.CreateAll(t.Context(), batch("high", 3, "1", func(p *corev1.Pod) { p.Spec.Priority = &high }))
		node(t, a, "a", "4")
		start(t, a)
		synctest.Wait()
		for _, p := range looptest.List[*corev1.Pod](a, "default") {
			if strings.HasPrefix(p.Name, "high") && p.Spec.NodeName == "" {
				t.Errorf("got %s waiting, want it before the others", p.Name)
			}
		}
		want(t, a, "-=9 a=4")
	})
}

func TestPodsOfOthersAreLeftAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := looptest.New()
		start(t, a)
		node(t, a, "a", "4")
		a.Create(t.Context(), pod("other", "1", func(p *corev1.Pod) { p.Spec.SchedulerName = "other" }))
		a.Create(t.Context(), pod("gated", "1", func(p *corev1.Pod) { p.Spec.SchedulingGates = []corev1.PodSchedulingGate{{Name: "wait"}} }))
		want(t, a, "-=2")
		a.Modify(t.Context(), api.Pods, "default", "gated", "", func(o api.Object) error {
			o.(*corev1.Pod).Spec.SchedulingGates = nil
			return nil
		})
		want(t, a, "-=1 a=1")
	})
}

func TestPodNamedToANodeTakesItsRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := looptest.New()
		start(t, a)
		node(t, a, "a", "4")
		a.Create(t.Context(), pod("direct", "3", func(p *corev1.Pod) { p.Spec.NodeName = "a" }))
		a.Create(t.Context(), pod("web", "2"))
		want(t, a, "-=1 a=1")
	})
}

func TestAffinityWaitsForItsCompanion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := looptest.New()
		start(t, a)
		node(t, a, "a", "8")
		node(t, a, "b", "8")
		near := func(p *corev1.Pod) {
			p.Spec.Affinity = &corev1.Affinity{PodAffinity: &corev1.PodAffinity{RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{{
				TopologyKey: corev1.LabelHostname, LabelSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "db"}},
			}}}}
		}
		a.CreateAll(t.Context(), batch("web", 20, "100m", near))
		want(t, a, "-=20")
		a.Create(t.Context(), pod("db", "1", func(p *corev1.Pod) { p.Labels = map[string]string{"app": "db"}; p.Spec.NodeName = "b" }))
		want(t, a, "b=21")
	})
}

func TestBindingThatFailsIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := looptest.New()
		var down atomic.Bool
		down.Store(true)
		a.Refuse = func(verb string, o api.Object) error {
			if verb == "bind" && down.Load() {
				return apierrors.NewServiceUnavailable("no leader")
			}
			return nil
		}
		start(t, a)
		node(t, a, "a", "8")
		a.CreateAll(t.Context(), batch("web", 20, "100m"))
		time.Sleep(5 * time.Second)
		want(t, a, "-=20")
		down.Store(false)
		time.Sleep(10 * time.Second)
		want(t, a, "a=20")
	})
}

func TestBindingRefusedForGoodHoldsNoRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := looptest.New()
		a.Refuse = func(verb string, o api.Object) error {
			if verb == "bind" && o.GetName() == "bad" {
				return errors.New("no")
			}
			return nil
		}
		start(t, a)
		node(t, a, "a", "4")
		a.Create(t.Context(), pod("bad", "3"))
		time.Sleep(time.Second)
		a.Create(t.Context(), pod("good", "3"))
		time.Sleep(30 * time.Second)
		want(t, a, "-=1 a=1")
	})
}

func TestRuntimeClassThatComesLateCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := looptest.New()
		start(t, a)
		node(t, a, "a", "4")
		name := "wasm"
		a.Create(t.Context(), pod("web", "5", func(p *corev1.Pod) { p.Spec.RuntimeClassName = &name }))
		want(t, a, "-=1")
		a.Create(t.Context(), &nodev1.RuntimeClass{ObjectMeta: metav1.ObjectMeta{Name: name}, Scheduling: &nodev1.Scheduling{NodeSelector: map[string]string{"runtime": "wasm"}}})
		synctest.Wait()
		node(t, a, "b", "8")
		want(t, a, "-=1")
		node(t, a, "c", "8", func(n *corev1.Node) { n.Labels["runtime"] = "wasm" })
		want(t, a, "c=1")
	})
}

func TestDeletedPodIsForgottenWhereverItWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := looptest.New()
		start(t, a)
		node(t, a, "a", "1")
		a.CreateAll(t.Context(), batch("web", 30, "100m"))
		want(t, a, "-=20 a=10")
		for _, p := range looptest.List[*corev1.Pod](a, "default") {
			if p.Spec.NodeName == "" && strings.HasSuffix(p.Name, "5") {
				a.Delete(t.Context(), api.Pods, "default", p.Name, metav1.DeleteOptions{})
			}
		}
		node(t, a, "b", "64")
		want(t, a, "a=10 b=18")
	})
}

func TestSchedulerStartsAgainAndBindsNothingTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := looptest.New()
		s, err := scheduler.New(scheduler.Config{Client: a, Batch: 50})
		if err != nil {
			t.Fatal(err)
		}
		node(t, a, "a", "10")
		node(t, a, "b", "10")
		a.CreateAll(t.Context(), batch("web", 150, "100m"))
		for i := range 10 {
			stop := looptest.Start(t, s.Run)
			time.Sleep(time.Duration(i) * time.Microsecond)
			stop()
		}
		looptest.Start(t, s.Run)
		time.Sleep(time.Second)
		want(t, a, "a=75 b=75")
	})
}

func Example() {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	cluster := looptest.New()
	cluster.Create(ctx, &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: "n1"},
		Status:     corev1.NodeStatus{Allocatable: corev1.ResourceList{corev1.ResourcePods: resource.MustParse("110")}},
	})
	cluster.Create(ctx, &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web"}})
	s, err := scheduler.New(scheduler.Config{Client: cluster})
	if err != nil {
		fmt.Println(err)
		return
	}
	done := make(chan error)
	go func() { done <- s.Run(ctx) }()
	for where(cluster) != "n1=1" {
		time.Sleep(time.Millisecond)
	}
	stop()
	<-done
	fmt.Println(where(cluster))
	// Output: n1=1
}

func BenchmarkTenThousandPodsOnAThousandNodes(b *testing.B) {
	const pods = 10000
	for b.Loop() {
		b.StopTimer()
		a := looptest.New()
		for i := range 1000 {
			node(b, a, fmt.Sprintf("n%04d", i), "4")
		}
		a.CreateAll(b.Context(), batch("web", pods, "10m"))
		b.StartTimer()
		stop := start(b, a)
		for strings.HasPrefix(where(a), "-") {
			time.Sleep(time.Millisecond)
		}
		stop()
	}
	b.ReportMetric(float64(b.N)*pods/b.Elapsed().Seconds(), "pods/s")
}
