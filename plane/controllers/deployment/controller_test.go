package deployment

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"copepod/plane/controllers/api"
	"copepod/plane/controllers/cache"
	"copepod/plane/controllers/loop"
	"copepod/plane/controllers/looptest"
	"copepod/plane/controllers/pods"
	"copepod/plane/controllers/record"
	"copepod/plane/controllers/replicaset"
)

// start runs this controller and that of ReplicaSets over a.
func start(t testing.TB, a *looptest.API) (stop func()) {
	t.Helper()
	ds := cache.New(cache.Config[*appsv1.Deployment]{Source: a, Resource: api.Deployments, Project: cache.As[*appsv1.Deployment]})
	sets := cache.New(cache.Config[*appsv1.ReplicaSet]{Source: a, Resource: api.ReplicaSets, Project: cache.As[*appsv1.ReplicaSet]})
	book := pods.New(a, nil)
	events := record.New(record.Config{Client: a, Component: "deployment-controller"})
	c := New(Config{Client: a, Deployments: ds, ReplicaSets: sets, Pods: book, Events: events})
	r := replicaset.New(replicaset.Config{Client: a, ReplicaSets: sets, Pods: book, Events: events})
	return looptest.Start(t, ds.Run, sets.Run, book.Run, events.Run,
		loop.After(c.Run, ds.Synced(), sets.Synced(), book.Synced()), loop.After(r.Run, sets.Synced(), book.Synced()))
}

func change(t testing.TB, a *looptest.API, f func(*appsv1.Deployment)) {
	t.Helper()
	if _, err := a.Modify(t.Context(), api.Deployments, "default", "web", "", func(o api.Object) error {
		f(o.(*appsv1.Deployment))
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

func web(t testing.TB, a *looptest.API) *appsv1.Deployment {
	return looptest.Get[*appsv1.Deployment](t, a, "default", "web")
}

// images counts the pods that are not being deleted by image.
func images(a *looptest.API) map[string]int {
	n := map[string]int{}
	for _, p := range looptest.List[*corev1.Pod](a, "default") {
		if p.DeletionTimestamp == nil {
			n[p.Spec.Containers[0].Image]++
		}
	}
	return n
}

func wantImages(t testing.TB, a *looptest.API, want map[string]int) {
	t.Helper()
	if got := images(a); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got pods %v, want %v", got, want)
	}
}

func TestDeploymentRollsOutAndBackWithHistory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := looptest.New()
		start(t, a)
		looptest.Start(t, (&looptest.Agent{API: a, Node: "n"}).Run)
		a.Create(t.Context(), deployment(10, func(d *appsv1.Deployment) { d.Spec.Template = template("v1") }))
		synctest.Wait()
		wantImages(t, a, map[string]int{"v1": 10})
		for rev, image := range []string{"v2", "v3", "v1"} {
			change(t, a, func(d *appsv1.Deployment) { d.Spec.Template = template(image) })
			time.Sleep(time.Minute)
			synctest.Wait()
			wantImages(t, a, map[string]int{image: 10})
			if got, want := web(t, a).Annotations[annotationRevision], fmt.Sprint(rev+2); got != want {
				t.Errorf("got revision %s after %s, want %s", got, image, want)
			}
		}
		s := web(t, a).Status
		if s.ObservedGeneration != web(t, a).Generation || s.UpdatedReplicas != 10 || s.AvailableReplicas != 10 || s.Replicas != 10 {
			t.Errorf("got status %+v", s)
		}
		if c := find(s.Conditions, appsv1.DeploymentProgressing); c.Reason != "NewReplicaSetAvailable" {
			t.Errorf("got %+v, want NewReplicaSetAvailable", c)
		}
		if n := len(looptest.List[*appsv1.ReplicaSet](a, "default")); n != 3 {
			t.Errorf("got %d ReplicaSets, want 3", n)
		}
		said := looptest.Said(a, "web")
		first := looptest.List[*appsv1.ReplicaSet](a, "default")
		for _, rs := range first {
			if rs.Spec.Template.Spec.Containers[0].Image == "v1" && !slices.Contains(said, "Normal ScalingReplicaSet Scaled up replica set "+rs.Name+" from 0 to 10") {
				t.Errorf("got events %q, want the first scale up of %s", said, rs.Name)
			}
		}
	})
}

func TestRolloutNeverLeavesItsBounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := looptest.New()
		start(t, a)
		a.Create(t.Context(), deployment(20, limits("3", "2"), func(d *appsv1.Deployment) { d.Spec.Template = template("v1") }))
		looptest.Start(t, (&looptest.Agent{API: a, Node: "n"}).Run)
		synctest.Wait()
		var most, least atomic.Int64
		least.Store(20)
		bounds := watchBounds(t, a, &most, &least)
		looptest.Start(t, bounds...)
		change(t, a, func(d *appsv1.Deployment) { d.Spec.Template = template("v2") })
		time.Sleep(time.Minute)
		synctest.Wait()
		wantImages(t, a, map[string]int{"v2": 20})
		if most.Load() > 23 || least.Load() < 18 {
			t.Errorf("got at most %d pods asked for and at least %d available, want 23 and 18", most.Load(), least.Load())
		}
	})
}

// watchBounds notes the most pods that were asked for and the fewest that were
// up.
func watchBounds(t *testing.T, a *looptest.API, most, least *atomic.Int64) []func(context.Context) error {
	sets, err := a.Watch(t.Context(), api.ReplicaSets, 0)
	if err != nil {
		t.Fatal(err)
	}
	podEvents, err := a.Watch(t.Context(), api.Pods, 0)
	if err != nil {
		t.Fatal(err)
	}
	asked := func(context.Context) error {
		size := map[string]int64{}
		for batch := range sets {
			for _, e := range batch {
				size[e.Object.GetName()] = int64(*e.Object.(*appsv1.ReplicaSet).Spec.Replicas)
				var sum int64
				for _, n := range size {
					sum += n
				}
				most.Store(max(most.Load(), sum))
			}
		}
		return nil
	}
	up := func(context.Context) error {
		running, full := map[string]bool{}, false
		for batch := range podEvents {
			for _, e := range batch {
				p := e.Object.(*corev1.Pod)
				running[p.Name] = true
				if p.DeletionTimestamp != nil || p.Status.Phase != corev1.PodRunning {
					delete(running, p.Name)
				}
				if full = full || len(running) == 20; full {
					least.Store(min(least.Load(), int64(len(running))))
				}
			}
		}
		return nil
	}
	return []func(context.Context) error{asked, up}
}

func TestStuckRolloutIsReportedAtTheDeadlineAndKeepsTheOldPods(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := looptest.New()
		start(t, a)
		sick := func(p *corev1.Pod) bool { return p.Spec.Containers[0].Image == "bad" }
		looptest.Start(t, (&looptest.Agent{API: a, Node: "n", Sick: sick}).Run)
		a.Create(t.Context(), deployment(4, func(d *appsv1.Deployment) { d.Spec.Template = template("v1") }))
		synctest.Wait()
		change(t, a, func(d *appsv1.Deployment) { d.Spec.Template = template("bad") })
		time.Sleep(11 * time.Minute)
		synctest.Wait()
		wantImages(t, a, map[string]int{"v1": 3, "bad": 2})
		if c := find(web(t, a).Status.Conditions, appsv1.DeploymentProgressing); c.Reason != "ProgressDeadlineExceeded" || c.Status != corev1.ConditionFalse {
			t.Errorf("got %+v, want ProgressDeadlineExceeded", c)
		}
		change(t, a, func(d *appsv1.Deployment) { d.Spec.Template = template("v1") })
		time.Sleep(time.Minute)
		synctest.Wait()
		wantImages(t, a, map[string]int{"v1": 4})
	})
}

func TestPausedTemplateChangesRollOutTogetherOnResume(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := looptest.New()
		start(t, a)
		looptest.Start(t, (&looptest.Agent{API: a, Node: "n"}).Run)
		a.Create(t.Context(), deployment(3, func(d *appsv1.Deployment) { d.Spec.Template = template("v1") }))
		synctest.Wait()
		change(t, a, paused)
		change(t, a, func(d *appsv1.Deployment) { d.Spec.Template = template("v2") })
		change(t, a, func(d *appsv1.Deployment) { d.Spec.Template = template("v3") })
		synctest.Wait()
		wantImages(t, a, map[string]int{"v1": 3})
		change(t, a, func(d *appsv1.Deployment) { d.Spec.Paused = false })
		time.Sleep(time.Minute)
		synctest.Wait()
		wantImages(t, a, map[string]int{"v3": 3})
		if n := len(looptest.List[*appsv1.ReplicaSet](a, "default")); n != 2 {
			t.Errorf("got %d ReplicaSets, want 2", n)
		}
	})
}

func TestRecreateNeverRunsTwoVersions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := looptest.New()
		start(t, a)
		agent := &looptest.Agent{API: a, Node: "n", Lingers: true}
		looptest.Start(t, agent.Run)
		a.Create(t.Context(), deployment(3, recreate, func(d *appsv1.Deployment) { d.Spec.Template = template("v1") }))
		synctest.Wait()
		change(t, a, func(d *appsv1.Deployment) { d.Spec.Template = template("v2") })
		synctest.Wait()
		wantImages(t, a, map[string]int{})
		zero := int64(0)
		for _, p := range looptest.List[*corev1.Pod](a, "default") {
			a.Delete(t.Context(), api.Pods, "default", p.Name, metav1.DeleteOptions{GracePeriodSeconds: &zero})
		}
		synctest.Wait()
		wantImages(t, a, map[string]int{"v2": 3})
	})
}

func TestDeploymentAdoptsAReplicaSetOfItsTemplate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := looptest.New()
		d := deployment(3)
		orphan := replicaSet(d, "v2", 1, 3, 0)
		orphan.OwnerReferences = nil
		a.Create(t.Context(), orphan)
		start(t, a)
		a.Create(t.Context(), d)
		synctest.Wait()
		sets := looptest.List[*appsv1.ReplicaSet](a, "default")
		if len(sets) != 1 || metav1.GetControllerOf(sets[0]) == nil {
			t.Errorf("got %d ReplicaSets, want the orphan adopted", len(sets))
		}
		wantImages(t, a, map[string]int{"v2": 3})
	})
}

func TestNameTakenByAStrangerCountsAsACollision(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := looptest.New()
		d := deployment(1)
		stranger := replicaSet(d, "v2", 1, 0, 0)
		stranger.OwnerReferences, stranger.Labels = nil, nil
		a.Create(t.Context(), stranger)
		start(t, a)
		a.Create(t.Context(), d)
		time.Sleep(time.Minute)
		synctest.Wait()
		wantImages(t, a, map[string]int{"v2": 1})
		if n := web(t, a).Status.CollisionCount; n == nil || *n != 1 {
			t.Errorf("got collision count %v, want 1", n)
		}
	})
}

func TestLeaderChangeInTheMiddleOfARolloutHarmsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := looptest.New()
		looptest.Start(t, (&looptest.Agent{API: a, Node: "n"}).Run)
		a.Create(t.Context(), deployment(50, func(d *appsv1.Deployment) { d.Spec.Template = template("v1") }))
		for i := range 20 {
			stop := start(t, a)
			time.Sleep(time.Duration(i) * time.Microsecond)
			stop()
			if i == 10 {
				change(t, a, func(d *appsv1.Deployment) { d.Spec.Template = template("v2") })
			}
		}
		start(t, a)
		time.Sleep(time.Minute)
		synctest.Wait()
		wantImages(t, a, map[string]int{"v2": 50})
	})
}

func BenchmarkDeploymentOfAThousand(b *testing.B) {
	for b.Loop() {
		a := looptest.New()
		stopAgent := looptest.Start(b, (&looptest.Agent{API: a, Node: "n"}).Run)
		stop := start(b, a)
		a.Create(b.Context(), deployment(1000))
		for web(b, a).Status.AvailableReplicas < 1000 {
			time.Sleep(100 * time.Microsecond)
		}
		stop()
		stopAgent()
	}
}
