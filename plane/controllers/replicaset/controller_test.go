package replicaset

import (
	"errors"
	"runtime"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"copepod/plane/controllers/api"
	"copepod/plane/controllers/cache"
	"copepod/plane/controllers/loop"
	"copepod/plane/controllers/looptest"
	"copepod/plane/controllers/pods"
	"copepod/plane/controllers/record"
)

// start runs the controller over a and waits until it is idle.
func start(t testing.TB, a *looptest.API) (stop func()) {
	t.Helper()
	sets := cache.New(cache.Config[*appsv1.ReplicaSet]{Source: a, Resource: api.ReplicaSets, Project: cache.As[*appsv1.ReplicaSet]})
	book := pods.New(a, nil)
	events := record.New(record.Config{Client: a, Component: "replicaset-controller"})
	c := New(Config{Client: a, ReplicaSets: sets, Pods: book, Events: events})
	return looptest.Start(t, sets.Run, book.Run, events.Run, loop.After(c.Run, sets.Synced(), book.Synced()))
}

func own(a *looptest.API) (n int) {
	for _, p := range looptest.List[*corev1.Pod](a, "default") {
		if metav1.GetControllerOf(p) != nil && p.DeletionTimestamp == nil {
			n++
		}
	}
	return n
}

func resize(t testing.TB, a *looptest.API, n int32) {
	t.Helper()
	if _, err := a.Modify(t.Context(), api.ReplicaSets, "default", "web", "", func(o api.Object) error {
		o.(*appsv1.ReplicaSet).Spec.Replicas = &n
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

func TestReplicaSetMakesItsPodsInOneBatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := looptest.New()
		start(t, a)
		synctest.Wait()
		before := a.Entries()
		a.Create(t.Context(), set(100))
		time.Sleep(time.Second)
		synctest.Wait()
		if got := own(a); got != 100 {
			t.Errorf("got %d pods, want 100", got)
		}
		// The ReplicaSet, the pods, the status, and a few batches of events.
		if got := a.Entries() - before; got > 8 {
			t.Errorf("got %d log entries, want a handful", got)
		}
		rs := looptest.Get[*appsv1.ReplicaSet](t, a, "default", "web")
		if rs.Status.Replicas != 100 || rs.Status.ObservedGeneration != rs.Generation {
			t.Errorf("got status %+v, want 100 replicas of the present generation", rs.Status)
		}
		p := looptest.List[*corev1.Pod](a, "default")[0]
		if ref := metav1.GetControllerOf(p); ref.Kind != "ReplicaSet" || ref.Name != "web" || !*ref.BlockOwnerDeletion {
			t.Errorf("got owner %+v, want ReplicaSet web that blocks deletion", ref)
		}
		if said := looptest.Said(a, "web"); !slices.Contains(said, "Normal SuccessfulCreate Created pod: "+p.Name) {
			t.Errorf("got events %q, want one for pod %s", said, p.Name)
		}
	})
}

func TestReplicaSetReplacesAPodThatGoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := looptest.New()
		a.Create(t.Context(), set(3))
		start(t, a)
		looptest.Start(t, (&looptest.Agent{API: a, Node: "n", Lingers: true}).Run)
		synctest.Wait()
		p := looptest.List[*corev1.Pod](a, "default")[0]
		a.Delete(t.Context(), api.Pods, "default", p.Name, metav1.DeleteOptions{})
		synctest.Wait()
		if got := own(a); got != 3 {
			t.Errorf("got %d pods, want 3 beside the one that is terminating", got)
		}
		rs := looptest.Get[*appsv1.ReplicaSet](t, a, "default", "web")
		if *rs.Status.TerminatingReplicas != 1 || rs.Status.ReadyReplicas != 3 {
			t.Errorf("got status %+v, want 3 ready and 1 terminating", rs.Status)
		}
	})
}

func TestReplicaSetShrinksByExactlyWhatIsTooMany(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := looptest.New()
		a.Create(t.Context(), set(40))
		start(t, a)
		looptest.Start(t, (&looptest.Agent{API: a, Node: "n"}).Run)
		synctest.Wait()
		for _, n := range []int32{25, 24, 30, 7, 0} {
			resize(t, a, n)
			synctest.Wait()
			if got := own(a); got != int(n) {
				t.Errorf("got %d pods, want %d", got, n)
			}
		}
	})
}

func TestReplicaSetOfThousandsGrowsInBursts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := looptest.New()
		a.Create(t.Context(), set(1203))
		start(t, a)
		synctest.Wait()
		if got := own(a); got != 1203 {
			t.Errorf("got %d pods, want 1203", got)
		}
	})
}

func TestReplicaSetAdoptsAndReleasesByLabels(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := looptest.New()
		a.Create(t.Context(), &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "stray", Labels: map[string]string{"app": "web"}}})
		a.Create(t.Context(), set(2))
		start(t, a)
		synctest.Wait()
		stray := looptest.Get[*corev1.Pod](t, a, "default", "stray")
		if metav1.GetControllerOf(stray) == nil || own(a) != 2 {
			t.Fatalf("got owner %v and %d pods, want the stray adopted as one of 2", metav1.GetControllerOf(stray), own(a))
		}
		a.Modify(t.Context(), api.Pods, "default", "stray", "", func(o api.Object) error {
			o.SetLabels(map[string]string{"app": "debug"})
			return nil
		})
		synctest.Wait()
		stray = looptest.Get[*corev1.Pod](t, a, "default", "stray")
		if metav1.GetControllerOf(stray) != nil || own(a) != 2 {
			t.Errorf("got owner %v and %d pods, want the pod let go and replaced", metav1.GetControllerOf(stray), own(a))
		}
	})
}

func TestRefusedPodsAreReportedAndTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := looptest.New()
		var full atomic.Bool
		full.Store(true)
		a.Refuse = func(verb string, o api.Object) error {
			if _, ok := o.(*corev1.Pod); ok && verb == "create" && full.Load() {
				return apierrors.NewForbidden(api.Pods, "", errors.New("exceeded quota"))
			}
			return nil
		}
		a.Create(t.Context(), set(50))
		start(t, a)
		time.Sleep(time.Second)
		synctest.Wait()
		rs := looptest.Get[*appsv1.ReplicaSet](t, a, "default", "web")
		if len(rs.Status.Conditions) != 1 || rs.Status.Conditions[0].Reason != "FailedCreate" {
			t.Errorf("got conditions %+v, want ReplicaFailure", rs.Status.Conditions)
		}
		if said := looptest.Said(a, "web"); len(said) != 1 || said[0] != `Warning FailedCreate Error creating: pods is forbidden: exceeded quota` {
			t.Errorf("got events %q", said)
		}
		full.Store(false)
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		rs = looptest.Get[*appsv1.ReplicaSet](t, a, "default", "web")
		if own(a) != 50 || len(rs.Status.Conditions) != 0 {
			t.Errorf("got %d pods, conditions %+v, want 50 and none", own(a), rs.Status.Conditions)
		}
	})
}

func TestReplicaSetBecomesAvailableByTimeAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := looptest.New()
		rs := set(2)
		rs.Spec.MinReadySeconds = 10
		a.Create(t.Context(), rs)
		start(t, a)
		looptest.Start(t, (&looptest.Agent{API: a, Node: "n"}).Run)
		synctest.Wait()
		if got := looptest.Get[*appsv1.ReplicaSet](t, a, "default", "web").Status; got.ReadyReplicas != 2 || got.AvailableReplicas != 0 {
			t.Errorf("got %+v, want 2 ready and none available", got)
		}
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if got := looptest.Get[*appsv1.ReplicaSet](t, a, "default", "web").Status; got.AvailableReplicas != 2 {
			t.Errorf("got %+v, want 2 available", got)
		}
	})
}

func TestControllerThatStartsAgainMakesNothingTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := looptest.New()
		a.Create(t.Context(), set(700))
		for range 5 {
			stop := start(t, a)
			runtime.Gosched() // let it come some way, or not
			stop()
		}
		start(t, a)
		synctest.Wait()
		if got := own(a); got != 700 {
			t.Errorf("got %d pods, want 700", got)
		}
	})
}
