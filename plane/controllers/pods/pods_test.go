package pods

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"

	"copepod/plane/controllers/api"
	"copepod/plane/controllers/looptest"
)

func pod(name string, change ...func(*corev1.Pod)) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, Labels: map[string]string{"app": "web", "tier": "front"}}}
	for _, f := range change {
		f(p)
	}
	return p
}

func owned(uid string) func(*corev1.Pod) {
	yes := true
	return func(p *corev1.Pod) {
		p.OwnerReferences = []metav1.OwnerReference{{Kind: "ReplicaSet", Name: "rs-" + uid, UID: types.UID(uid), Controller: &yes}}
	}
}

func ready(p *corev1.Pod) {
	p.Spec.NodeName, p.Status.Phase = "n", corev1.PodRunning
	p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.NewTime(time.Unix(100, 0))}}
}

func TestLabelsMatchLikeTheMapTheyCameFrom(t *testing.T) {
	maps := []map[string]string{nil, {"a": ""}, {"a": "1"}, {"a": "1", "b": "2"}, {"a.b/c": "d", "a": "b"}, {"b": "2", "a": "1", "c": "3"}}
	for _, text := range []string{"", "a", "!a", "a=1", "a!=1", "a in (1,2)", "a notin (1)", "a=1,b=2", "c", "b=1"} {
		sel, err := labels.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range maps {
			if got, want := sel.Matches(MakeLabels(m)), sel.Matches(labels.Set(m)); got != want {
				t.Errorf("%q on %v: got %v, want %v", text, m, got, want)
			}
		}
	}
	if MakeLabels(map[string]string{"a": "1", "b": "2"}) != MakeLabels(map[string]string{"b": "2", "a": "1"}) {
		t.Error("got different words for the same labels")
	}
}

func TestProjectionKeepsWhatControllersAskFor(t *testing.T) {
	always := corev1.ContainerRestartPolicyAlways
	p, ok := Project(pod("a", owned("x"), ready, func(p *corev1.Pod) {
		p.Spec.Containers = []corev1.Container{{Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: 80, Protocol: corev1.ProtocolTCP}}}}
		p.Spec.InitContainers = []corev1.Container{
			{Ports: []corev1.ContainerPort{{Name: "no", ContainerPort: 1}}},
			{RestartPolicy: &always, Ports: []corev1.ContainerPort{{Name: "side", ContainerPort: 81, Protocol: corev1.ProtocolUDP}}},
		}
		p.Status.PodIPs = []corev1.PodIP{{IP: "10.0.0.1"}, {IP: "fd00::1"}}
		p.Status.ContainerStatuses = []corev1.ContainerStatus{{RestartCount: 2}, {RestartCount: 3}}
		p.Annotations = map[string]string{corev1.PodDeletionCost: "-7"}
	}))
	if !ok {
		t.Fatal("got no projection")
	}
	if p.Owner() != (Owner{"ReplicaSet", "rs-x", "x"}) || p.Restarts != 5 || p.DeletionCost != -7 || !p.Ready || p.ReadySince != time.Unix(100, 0) {
		t.Errorf("got %+v of %+v", p, p.Owner())
	}
	if want := []Port{{"http", 80, corev1.ProtocolTCP}, {"side", 81, corev1.ProtocolUDP}}; !slices.Equal(p.Ports(), want) {
		t.Errorf("got ports %v, want %v", p.Ports(), want)
	}
	if want := []string{"10.0.0.1", "fd00::1"}; !slices.Equal(p.IPs, want) {
		t.Errorf("got addresses %v, want %v", p.IPs, want)
	}
}

func TestBookKeepsTotalsInStep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := looptest.New()
		b := New(a, nil)
		looptest.Start(t, b.Run)
		for i := range 10 {
			a.Create(t.Context(), pod(fmt.Sprint("p", i), owned("x")))
		}
		synctest.Wait()
		tally := func() string {
			c := b.Count("x")
			return fmt.Sprintf("active=%d ready=%d terminating=%d present=%d labels=%v", c.Active, c.Ready, c.Terminating, c.Present, len(c.Labels))
		}
		want := func(text string) {
			t.Helper()
			synctest.Wait()
			if got := tally(); got != text {
				t.Errorf("got %s, want %s", got, text)
			}
		}
		want("active=10 ready=0 terminating=0 present=10 labels=1")
		for i := range 4 {
			a.BindAll(t.Context(), []*corev1.Binding{{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: fmt.Sprint("p", i)}, Target: corev1.ObjectReference{Name: "n"}}})
			a.Modify(t.Context(), api.Pods, "default", fmt.Sprint("p", i), "status", func(o api.Object) error { ready(o.(*corev1.Pod)); return nil })
		}
		want("active=10 ready=4 terminating=0 present=10 labels=1")
		if got := len(b.OnNode("n")); got != 4 {
			t.Errorf("got %d pods on n, want 4", got)
		}
		a.Delete(t.Context(), api.Pods, "default", "p0", metav1.DeleteOptions{})
		want("active=9 ready=3 terminating=1 present=10 labels=1")
		b.Doom(types.NamespacedName{Namespace: "default", Name: "p1"}, looptest.Get[*corev1.Pod](t, a, "default", "p1").UID)
		want("active=8 ready=2 terminating=2 present=10 labels=1")
		a.Modify(t.Context(), api.Pods, "default", "p2", "status", func(o api.Object) error {
			o.(*corev1.Pod).Status.Phase = corev1.PodFailed
			return nil
		})
		want("active=7 ready=1 terminating=2 present=9 labels=1")
		a.Modify(t.Context(), api.Pods, "default", "p3", "", func(o api.Object) error {
			o.SetLabels(map[string]string{"app": "debug"})
			return nil
		})
		want("active=7 ready=1 terminating=2 present=9 labels=2")
		a.Modify(t.Context(), api.Pods, "default", "p3", "", func(o api.Object) error { o.SetOwnerReferences(nil); return nil })
		want("active=6 ready=0 terminating=2 present=8 labels=1")
		all, debug := labels.Everything(), labels.SelectorFromSet(labels.Set{"app": "debug"})
		if got := len(b.Matching("default", all)); got != 10 {
			t.Errorf("got %d pods matched by everything, want 10", got)
		}
		if got := b.Strays("default", debug); len(got) != 1 || got[0].Key.Name != "p3" {
			t.Errorf("got strays %v, want p3", got)
		}
		if got := b.Strays("other", all); len(got) != 0 {
			t.Errorf("got strays %v in a namespace without pods", got)
		}
	})
}
