package status_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/fake"
	corev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	core "k8s.io/client-go/testing"

	"copepod/node/status"
)

func pod(name string) *v1.Pod {
	return &v1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, UID: types.UID("uid-" + name), ResourceVersion: "1"}}
}

func phase(p v1.PodPhase) v1.PodStatus { return v1.PodStatus{Phase: p} }

// start runs a writer in a bubble.
func start(t *testing.T, client *fake.Clientset, workers int) *status.Writer {
	t.Helper()
	return startWith(t, client.CoreV1(), workers)
}

func startWith(t *testing.T, client corev1.PodsGetter, workers int) *status.Writer {
	t.Helper()
	w, err := status.New(status.Config{Client: client, Workers: workers, Linger: 50 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); _ = w.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	return w
}

// slow is an API whose updates take a while. (The fake clientset holds a lock
// while it answers, so it cannot take time itself.)
type slow struct {
	corev1.PodsGetter
	takes time.Duration
	calls atomic.Int64
	now   atomic.Int64
	most  atomic.Int64
}

func (s *slow) Pods(namespace string) corev1.PodInterface {
	return slowPods{s.PodsGetter.Pods(namespace), s}
}

type slowPods struct {
	corev1.PodInterface
	slow *slow
}

func (p slowPods) UpdateStatus(ctx context.Context, pod *v1.Pod, opts metav1.UpdateOptions) (*v1.Pod, error) {
	p.slow.calls.Add(1)
	p.slow.most.Store(max(p.slow.most.Load(), p.slow.now.Add(1)))
	time.Sleep(p.slow.takes)
	p.slow.now.Add(-1)
	return p.PodInterface.UpdateStatus(ctx, pod, opts)
}

func verbs(client *fake.Clientset) string {
	var all []string
	for _, a := range client.Actions() {
		all = append(all, a.GetVerb())
	}
	client.ClearActions()
	return strings.Join(all, " ")
}

func TestALingeringReportIsOvertakenByAnUrgentOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client := fake.NewClientset(pod("a"))
		w := start(t, client, 2)
		w.Report(status.Report{Pod: pod("a"), Status: phase(v1.PodPending)})
		synctest.Wait()
		if got := verbs(client); got != "" {
			t.Errorf("got %q at once, want nothing yet", got)
		}
		w.Report(status.Report{Pod: pod("a"), Status: phase(v1.PodRunning), Urgent: true})
		time.Sleep(time.Second)
		if got := verbs(client); got != "update" {
			t.Errorf("got %q, want one update for both reports", got)
		}
		got, _ := client.CoreV1().Pods("default").Get(t.Context(), "a", metav1.GetOptions{})
		if got.Status.Phase != v1.PodRunning {
			t.Errorf("got phase %s, want Running", got.Status.Phase)
		}
	})
}

func TestALingeringReportGoesInTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client := fake.NewClientset(pod("a"))
		w := start(t, client, 2)
		w.Report(status.Report{Pod: pod("a"), Status: phase(v1.PodPending)})
		time.Sleep(51 * time.Millisecond)
		synctest.Wait()
		if got := verbs(client); got != "update" {
			t.Errorf("got %q, want update", got)
		}
	})
}

func TestReportsWhileOneIsSentBecomeOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client := fake.NewClientset(pod("a"))
		api := &slow{PodsGetter: client.CoreV1(), takes: time.Second}
		w := startWith(t, api, 4)
		for i := range 20 {
			w.Report(status.Report{Pod: pod("a"), Status: v1.PodStatus{Message: fmt.Sprint(i)}, Urgent: true})
			time.Sleep(10 * time.Millisecond)
		}
		time.Sleep(5 * time.Second)
		if got := api.calls.Load(); got != 2 {
			t.Errorf("got %d updates, want two: the first and the last", got)
		}
		got, _ := client.CoreV1().Pods("default").Get(t.Context(), "a", metav1.GetOptions{})
		if got.Status.Message != "19" {
			t.Errorf("got message %q, want the last, 19", got.Status.Message)
		}
	})
}

func TestNoMoreRequestsAtOnceThanWorkers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := &slow{PodsGetter: fake.NewClientset().CoreV1(), takes: time.Millisecond}
		w := startWith(t, api, 3)
		for i := range 100 {
			w.Report(status.Report{Pod: pod(fmt.Sprint("p", i)), Urgent: true})
		}
		time.Sleep(time.Minute)
		if calls, most := api.calls.Load(), api.most.Load(); calls != 100 || most != 3 {
			t.Errorf("got %d updates, %d at once, want 100, 3", calls, most)
		}
	})
}

func TestConditionsOfOthersAreKeptThroughAConflict(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		there := pod("a")
		there.ResourceVersion = "7"
		there.Labels = map[string]string{"added": "later"}
		there.Status.Conditions = []v1.PodCondition{{Type: "example.com/gate", Status: v1.ConditionTrue}, {Type: v1.PodReady, Status: v1.ConditionFalse}}
		client := fake.NewClientset(there)
		client.PrependReactor("update", "pods", func(a core.Action) (bool, runtime.Object, error) {
			if got := a.(core.UpdateAction).GetObject().(*v1.Pod); got.ResourceVersion != "7" {
				return true, nil, apierrors.NewConflict(v1.Resource("pods"), "a", errors.New("changed"))
			}
			return false, nil, nil
		})
		w := start(t, client, 1)
		w.Report(status.Report{Pod: pod("a"), Urgent: true, Status: v1.PodStatus{Conditions: []v1.PodCondition{{Type: v1.PodReady, Status: v1.ConditionTrue}}}})
		time.Sleep(time.Second)
		if got := verbs(client); got != "update get update" {
			t.Errorf("got %q, want update get update", got)
		}
		got, _ := client.CoreV1().Pods("default").Get(t.Context(), "a", metav1.GetOptions{})
		if len(got.Status.Conditions) != 2 || got.Status.Conditions[0].Status != v1.ConditionTrue || got.Status.Conditions[1].Type != "example.com/gate" {
			t.Errorf("got conditions %+v, want Ready and the gate", got.Status.Conditions)
		}
		if got.Labels["added"] != "later" {
			t.Error("the write took away a label that somebody else had added")
		}
	})
}

func TestAFinalReportDeletesThePodWithItsUID(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client := fake.NewClientset(pod("a"))
		w := start(t, client, 1)
		var opts metav1.DeleteOptions
		client.PrependReactor("delete", "pods", func(a core.Action) (bool, runtime.Object, error) {
			opts = a.(core.DeleteActionImpl).DeleteOptions
			return false, nil, nil
		})
		w.Report(status.Report{Pod: pod("a"), Status: phase(v1.PodSucceeded), Final: true})
		time.Sleep(time.Second)
		if got := verbs(client); got != "update delete" {
			t.Errorf("got %q, want update delete", got)
		}
		if opts.Preconditions == nil || *opts.Preconditions.UID != "uid-a" || *opts.GracePeriodSeconds != 0 {
			t.Errorf("got options %+v, want the UID and grace 0", opts)
		}
	})
}

func TestAFailedWriteIsTriedAgainWithTheNewestReport(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client := fake.NewClientset(pod("a"))
		var down atomic.Bool
		down.Store(true)
		client.PrependReactor("update", "pods", func(core.Action) (bool, runtime.Object, error) {
			return down.Load(), nil, errors.New("connection refused")
		})
		w := start(t, client, 1)
		w.Report(status.Report{Pod: pod("a"), Status: phase(v1.PodPending), Urgent: true})
		time.Sleep(10 * time.Second)
		w.Report(status.Report{Pod: pod("a"), Status: phase(v1.PodRunning), Urgent: true})
		down.Store(false)
		time.Sleep(time.Minute)
		got, _ := client.CoreV1().Pods("default").Get(t.Context(), "a", metav1.GetOptions{})
		if got.Status.Phase != v1.PodRunning {
			t.Errorf("got phase %q, want Running", got.Status.Phase)
		}
	})
}

func TestAPodThatIsGoneIsForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client := fake.NewClientset()
		w := start(t, client, 1)
		w.Report(status.Report{Pod: pod("a"), Urgent: true})
		time.Sleep(time.Hour)
		if got := verbs(client); got != "update" {
			t.Errorf("got %q, want a single update", got)
		}
	})
}

func TestEventsSpeakAsTheKubeletAndRepeatsAreCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client := fake.NewClientset()
		e, err := status.NewEvents(status.EventsConfig{Client: client.CoreV1(), Host: "n1"})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); _ = e.Run(ctx) }()
		about := v1.ObjectReference{Kind: "Pod", Namespace: "default", Name: "a", UID: "uid-a", FieldPath: "spec.containers{app}"}
		for range 3 {
			e.Event(about, v1.EventTypeWarning, "Unhealthy", "Readiness probe failed")
			synctest.Wait()
		}
		e.Event(about, v1.EventTypeNormal, "Pulled", strings.Repeat("x", 5000))
		synctest.Wait()
		cancel()
		<-done
		list, err := client.CoreV1().Events("default").List(t.Context(), metav1.ListOptions{})
		if err != nil || len(list.Items) != 2 {
			t.Fatalf("got %d events (%v), want 2", len(list.Items), err)
		}
		for _, got := range list.Items {
			if got.Source.Component != "kubelet" || got.Source.Host != "n1" || len(got.Message) > 1024 {
				t.Errorf("got %+v, want source kubelet on n1 and at most 1024 bytes", got)
			}
			if got.Reason == "Unhealthy" && got.Count != 3 {
				t.Errorf("got count %d, want 3", got.Count)
			}
		}
	})
}
