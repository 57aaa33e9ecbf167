package scheduler_test

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"copepod/plane/controllers/api"
	"copepod/plane/controllers/looptest"
)

func TestPodThatFitsNowhereIsToldOnceAndWhy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := looptest.New()
		start(t, a)
		taint := func(n *corev1.Node) {
			n.Spec.Taints = []corev1.Taint{{Key: "team", Value: "x", Effect: corev1.TaintEffectNoSchedule}}
		}
		node(t, a, "a", "1")
		node(t, a, "b", "8", taint)
		node(t, a, "c", "8", taint)
		synctest.Wait()
		a.Create(t.Context(), pod("big", "2"))
		time.Sleep(time.Hour)
		want(t, a, "-=1")
		text := "0/3 nodes are available: 1 Insufficient cpu, 2 node(s) had untolerated taint {team: x}."
		if said := looptest.Said(a, "big"); !slices.Equal(said, []string{"Warning FailedScheduling " + text}) {
			t.Errorf("got events %q", said)
		}
		c := looptest.Get[*corev1.Pod](t, a, "default", "big").Status.Conditions
		if len(c) != 1 || c[0].Type != corev1.PodScheduled || c[0].Status != corev1.ConditionFalse || c[0].Reason != "Unschedulable" || c[0].Message != text {
			t.Errorf("got conditions %+v", c)
		}
	})
}

func TestParkedPodIsTriedAgainWhenSomethingMattersAndOnlyThen(t *testing.T) {
	modify := func(t *testing.T, a *looptest.API, name string, f func(*corev1.Node)) {
		a.Modify(t.Context(), api.Nodes, "", name, "", func(o api.Object) error { f(o.(*corev1.Node)); return nil })
	}
	zero := int64(0)
	for _, row := range []struct {
		name   string
		change func(t *testing.T, a *looptest.API)
	}{
		{"a node comes", func(t *testing.T, a *looptest.API) { node(t, a, "new", "8") }},
		{"a node is uncordoned", func(t *testing.T, a *looptest.API) {
			modify(t, a, "cordoned", func(n *corev1.Node) { n.Spec.Unschedulable = false })
		}},
		{"a node grows", func(t *testing.T, a *looptest.API) {
			a.Modify(t.Context(), api.Nodes, "", "full", "status", func(o api.Object) error {
				o.(*corev1.Node).Status.Allocatable[corev1.ResourceCPU] = resource.MustParse("9")
				return nil
			})
		}},
		{"a pod goes", func(t *testing.T, a *looptest.API) {
			a.Delete(t.Context(), api.Pods, "default", "first", metav1.DeleteOptions{GracePeriodSeconds: &zero})
		}},
		{"a pod finishes", func(t *testing.T, a *looptest.API) {
			a.Modify(t.Context(), api.Pods, "default", "first", "status", func(o api.Object) error {
				o.(*corev1.Pod).Status.Phase = corev1.PodSucceeded
				return nil
			})
		}},
		{"the pod asks for less", func(t *testing.T, a *looptest.API) {
			a.Modify(t.Context(), api.Pods, "default", "second", "", func(o api.Object) error {
				o.(*corev1.Pod).Spec.Containers[0].Resources.Requests = nil
				return nil
			})
		}},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a := looptest.New()
				start(t, a)
				node(t, a, "full", "4")
				node(t, a, "cordoned", "4", func(n *corev1.Node) { n.Spec.Unschedulable = true })
				a.Create(t.Context(), pod("first", "3"))
				synctest.Wait()
				a.Create(t.Context(), pod("second", "3"))
				time.Sleep(time.Second)
				synctest.Wait()
				entries := a.Entries()
				modify(t, a, "full", func(n *corev1.Node) { n.Annotations = map[string]string{"nothing": "that matters"} })
				time.Sleep(time.Hour)
				want(t, a, "-=1 full=1")
				if a.Entries() != entries+1 {
					t.Errorf("got %d writes while nothing mattered, want none", a.Entries()-entries-1)
				}
				row.change(t, a)
				synctest.Wait()
				if p := looptest.Get[*corev1.Pod](t, a, "default", "second"); p.Spec.NodeName == "" {
					t.Errorf("got the pod still waiting: %v", p.Status.Conditions)
				}
			})
		})
	}
}

func TestFreedRoomWakesAsManyPodsAsFit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := looptest.New()
		start(t, a)
		node(t, a, "a", "1")
		a.CreateAll(t.Context(), batch("web", 200, "100m"))
		want(t, a, "-=190 a=10")
		node(t, a, "b", "5")
		want(t, a, "-=140 a=10 b=50")
	})
}
