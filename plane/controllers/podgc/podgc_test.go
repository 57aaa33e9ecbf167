package podgc

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"copepod/plane/controllers/api"
	"copepod/plane/controllers/cache"
	"copepod/plane/controllers/loop"
	"copepod/plane/controllers/looptest"
	"copepod/plane/controllers/pods"
)

func start(t *testing.T, a *looptest.API) {
	nodes := cache.New(cache.Config[*corev1.Node]{Source: a, Resource: api.Nodes, Project: cache.As[*corev1.Node]})
	book := pods.New(a, nil)
	c := New(Config{Client: a, Nodes: nodes, Pods: book, Finished: 3})
	looptest.Start(t, nodes.Run, book.Run, loop.After(c.Run, nodes.Synced(), book.Synced()))
}

func pod(name, node string, phase corev1.PodPhase) *corev1.Pod {
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}, Spec: corev1.PodSpec{NodeName: node}, Status: corev1.PodStatus{Phase: phase}}
}

func left(a *looptest.API) (names []string) {
	for _, p := range looptest.List[*corev1.Pod](a, "default") {
		names = append(names, p.Name)
	}
	return names
}

func TestPodsOfANodeThatIsGoneGoAfterAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := looptest.New()
		for _, name := range []string{"stays", "goes", "returns"} {
			a.Create(t.Context(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}})
			a.Create(t.Context(), pod("on-"+name, name, corev1.PodRunning))
		}
		a.Create(t.Context(), pod("lost", "never-was", corev1.PodRunning))
		start(t, a)
		synctest.Wait()
		a.Delete(t.Context(), api.Nodes, "", "goes", metav1.DeleteOptions{})
		a.Delete(t.Context(), api.Nodes, "", "returns", metav1.DeleteOptions{})
		time.Sleep(30 * time.Second)
		synctest.Wait()
		if got := left(a); len(got) != 4 {
			t.Errorf("got %v during the quarantine, want all four", got)
		}
		a.Create(t.Context(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "returns"}})
		time.Sleep(time.Hour)
		synctest.Wait()
		if got := left(a); fmt.Sprint(got) != "[on-returns on-stays]" {
			t.Errorf("got %v, want those whose node is there", got)
		}
	})
}

func TestOldestFinishedPodsGoWhenThereAreTooMany(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := looptest.New()
		start(t, a)
		for i := range 6 {
			phase := corev1.PodSucceeded
			if i%2 == 0 {
				phase = corev1.PodFailed
			}
			a.Create(t.Context(), pod(fmt.Sprint("done-", i), "", phase))
			time.Sleep(time.Second)
		}
		a.Create(t.Context(), pod("waits", "", corev1.PodPending))
		synctest.Wait()
		if got := left(a); fmt.Sprint(got) != "[done-3 done-4 done-5 waits]" {
			t.Errorf("got %v, want the three youngest", got)
		}
	})
}
