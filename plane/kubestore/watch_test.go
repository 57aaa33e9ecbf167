package kubestore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"copepod/plane/store"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/apiserver/pkg/storage"
)

func watchPods(t testing.TB, s storage.Interface, rv string, pred storage.SelectionPredicate) watch.Interface {
	t.Helper()
	w, err := s.Watch(context.Background(), "/core/pods", storage.ListOptions{Recursive: true, ResourceVersion: rv, Predicate: pred})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Stop)
	return w
}

func TestWatchersShareOneEncoding(t *testing.T) {
	_, _, s := podStorage(t, Config{})
	pod := createPod(t, s, newPod("a", "node-1"))
	watchers := []watch.Interface{
		watchPods(t, s, pod.ResourceVersion, storage.Everything),
		watchPods(t, s, pod.ResourceVersion, storage.Everything),
	}
	createPod(t, s, newPod("b", "node-1"))
	for _, w := range watchers { // from here on they are fed by the hub
		next(t, w)
	}
	deleted := &corev1.Pod{}
	if err := s.Delete(context.Background(), podKey(pod), deleted, nil, storage.ValidateAllObjectFunc, nil, storage.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	encoded := 0
	encode := func(obj runtime.Object, w io.Writer) error {
		encoded++
		_, err := fmt.Fprintf(w, "%s@%s", obj.(*corev1.Pod).Name, obj.(*corev1.Pod).ResourceVersion)
		return err
	}
	for _, w := range watchers {
		e := next(t, w)
		var b bytes.Buffer
		for _, id := range []runtime.Identifier{"v1", "v2"} {
			if err := e.Object.(runtime.CacheableObject).CacheEncode(id, encode, &b); err != nil {
				t.Fatal(err)
			}
		}
		want := "a@" + deleted.ResourceVersion
		if e.Type != watch.Deleted || b.String() != want+want {
			t.Errorf("got %s of %s, want DELETED of %s twice, with the version of the deletion", e.Type, b.String(), want)
		}
	}
	if encoded != 2 {
		t.Errorf("got %d encodings, want one for each of two encoders", encoded)
	}
}

func TestWatchOfANodeSeesItsPodsComeAndGo(t *testing.T) {
	_, _, s := podStorage(t, Config{})
	start := createPod(t, s, newPod("other", "")).ResourceVersion
	live := map[string]watch.Interface{}
	for _, node := range []string{"node-1", "node-2"} {
		live[node] = watchPods(t, s, start, onNode(node))
	}
	pod := createPod(t, s, newPod("a", ""))
	updatePod(t, s, pod, func(p *corev1.Pod) { p.Spec.NodeName = "node-1" })
	moved := updatePod(t, s, pod, func(p *corev1.Pod) { p.Spec.NodeName = "node-2" })
	updatePod(t, s, pod, func(p *corev1.Pod) { p.Status.Phase = corev1.PodRunning })
	if err := s.Delete(context.Background(), podKey(pod), &corev1.Pod{}, nil, storage.ValidateAllObjectFunc, nil, storage.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"node-1": "ADDED DELETED", "node-2": "ADDED MODIFIED DELETED"}
	for _, node := range []string{"node-1", "node-2"} {
		for name, w := range map[string]watch.Interface{"live": live[node], "from history": watchPods(t, s, start, onNode(node))} {
			var got []string
			for range strings.Fields(want[node]) {
				e := next(t, w)
				got = append(got, string(e.Type))
				if rv := podOf(e).ResourceVersion; len(got) == 2 && node == "node-1" && rv != moved.ResourceVersion {
					t.Errorf("%s %s: got version %s of the pod that left, want %s of its leaving", node, name, rv, moved.ResourceVersion)
				}
			}
			if s := strings.Join(got, " "); s != want[node] {
				t.Errorf("%s %s: got %s, want %s", node, name, s, want[node])
			}
		}
	}
}

func TestSlowWatcherMissesNothingAndHoldsUpNobody(t *testing.T) {
	k, _, s := podStorage(t, Config{WatchQueue: 4})
	start := createPod(t, s, newPod("first", "")).ResourceVersion
	slow := watchPods(t, s, start, storage.Everything)
	quick := watchPods(t, s, start, storage.Everything)
	const n = 10 * outgoing
	for i := range n {
		if i%3 == 0 { // revisions that arrive together
			fillFrom(t, k, i*1000, 7)
		}
		createPod(t, s, newPod(fmt.Sprintf("single-%d", i), ""))
	}
	total := 0
	last := uint64(0)
	drain := func(w watch.Interface, until string) int {
		count := 0
		for {
			pod := podOf(next(t, w))
			count++
			rv, err := versioner.ObjectResourceVersion(pod)
			if err != nil || rv <= last {
				t.Fatalf("got version %d after %d (%v), want them to grow", rv, last, err)
			}
			last = rv
			if pod.Name == until {
				return count
			}
		}
	}
	end := fmt.Sprintf("single-%d", n-1)
	total = drain(quick, end)
	last = 0
	if got := drain(slow, end); got != total || total != n+7*((n+2)/3) {
		t.Errorf("got %d events at the slow and %d at the quick watcher, want %d", got, total, n+7*((n+2)/3))
	}
}

// fillFrom stores n pods in one go.
func fillFrom(t testing.TB, k *K, from, n int) {
	t.Helper()
	writes := make([]Write, n)
	for i := range writes {
		writes[i] = Write{Resource: podResource, Object: newPod(fmt.Sprintf("many-%07d", from+i), "")}
	}
	for _, w := range k.Write(context.Background(), writes) {
		if w.Err != nil {
			t.Fatal(w.Err)
		}
	}
}

func TestWatchBeyondHistoryIsExpired(t *testing.T) {
	k, st, s := podStorage(t, Config{})
	first := createPod(t, s, newPod("a", ""))
	createPod(t, s, newPod("b", ""))
	c := createPod(t, s, newPod("c", ""))
	rv, _ := versioner.ObjectResourceVersion(c)
	if err := st.Compact(t.Context(), revision(rv)); err != nil {
		t.Fatal(err)
	}
	e := next(t, watchPods(t, s, first.ResourceVersion, storage.Everything))
	status, ok := e.Object.(*metav1.Status)
	want := fmt.Sprintf("too old resource version: %s (%s)", first.ResourceVersion, c.ResourceVersion)
	if e.Type != watch.Error || !ok || status.Code != 410 || status.Reason != metav1.StatusReasonExpired || status.Message != want {
		t.Errorf("got %s %v, want ERROR 410 Expired: %s", e.Type, e.Object, want)
	}
	_, err := k.Watch(t.Context(), podResource, rv-1)
	if !errors.Is(err, ErrExpired) {
		t.Errorf("in the process: got %v, want %v", err, ErrExpired)
	}
	if _, err = k.Watch(t.Context(), podResource, rv); err != nil {
		t.Errorf("from the oldest version: got %v, want no error", err)
	}
}

func TestWatchFromTheFutureIsRefused(t *testing.T) {
	_, _, s := podStorage(t, Config{})
	e := next(t, watchPods(t, s, "1000", storage.Everything))
	status, ok := e.Object.(*metav1.Status)
	if e.Type != watch.Error || !ok || status.Reason != metav1.StatusReasonTimeout || status.Details.RetryAfterSeconds < 1 {
		t.Errorf("got %s %v, want ERROR Timeout with a time to retry", e.Type, e.Object)
	}
}

func TestEndsOfWatches(t *testing.T) {
	for _, row := range []struct {
		name string
		end  func(stop, destroy func())
	}{
		{"when the storage is destroyed", func(_, destroy func()) { destroy() }},
		{"when the process stops", func(stop, _ func()) { stop() }},
	} {
		t.Run(row.name, func(t *testing.T) {
			k, err := New(openStore(t), Config{})
			if err != nil {
				t.Fatal(err)
			}
			ctx, stop := context.WithCancel(t.Context())
			done := make(chan error)
			go func() { done <- k.Run(ctx) }()
			s, destroy := decoratePods(t, k)
			created := createPod(t, s, newPod("a", ""))
			w := watchPods(t, s, "0", storage.Everything)
			next(t, w)
			events, err := k.Watch(t.Context(), podResource, k.View().Revision())
			if err != nil {
				t.Fatal(err)
			}
			row.end(stop, destroy)
			if _, open := <-w.ResultChan(); open {
				t.Error("got an event, want the end of the watch")
			}
			if _, open := <-events; open {
				t.Error("in the process: got an event, want the end of the watch")
			}
			stop()
			if err := <-done; err != nil {
				t.Errorf("run: got %v, want no error", err)
			}
			if _, err := s.Watch(t.Context(), podKey(created), storage.ListOptions{Predicate: storage.Everything}); err == nil {
				t.Error("watch after the end: got none, want an error")
			}
		})
	}
}

// forgetful loses the history at which the hub is, once.
type forgetful struct {
	*store.Store
	forgot chan struct{}
}

func (f *forgetful) Watch(ctx context.Context, prefix string, from store.Revision) (*store.Watch, error) {
	select {
	case <-f.forgot:
		return f.Store.Watch(ctx, prefix, from)
	default:
		close(f.forgot)
		return nil, store.ErrCompacted
	}
}

func TestWatchersGoOnWhenTheHubLosesItsPlace(t *testing.T) {
	f := &forgetful{openStore(t), make(chan struct{})}
	k, err := New(f, Config{})
	if err != nil {
		t.Fatal(err)
	}
	s, destroy := decoratePods(t, k)
	t.Cleanup(destroy)
	first := createPod(t, s, newPod("a", ""))
	w := watchPods(t, s, first.ResourceVersion, storage.Everything)
	createPod(t, s, newPod("b", ""))
	runUntilEnd(t, k.Run)
	<-f.forgot
	createPod(t, s, newPod("c", ""))
	for _, want := range []string{"b", "c"} {
		if got := podOf(next(t, w)).Name; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

func TestTwoVersionsOfAResourceShareTheirKeys(t *testing.T) {
	k, _, s := podStorage(t, Config{})
	other, destroy := decoratePods(t, k)
	w, w2 := watchPods(t, s, "0", storage.Everything), watchPods(t, other, "0", storage.Everything)
	createPod(t, s, newPod("a", ""))
	for _, w := range []watch.Interface{w, w2} {
		if got := podOf(next(t, w)).Name; got != "a" {
			t.Errorf("got %s, want a", got)
		}
	}
	destroy()
	createPod(t, s, newPod("b", ""))
	if got := podOf(next(t, w)).Name; got != "b" {
		t.Errorf("after the other is gone: got %s, want b", got)
	}
	if _, ok := k.View().Get(podResource, "default", "b"); !ok {
		t.Error("view after the other is gone: got nothing, want b")
	}
}

func TestProgressIsSentWhenAskedFor(t *testing.T) {
	k, _, s := podStorage(t, Config{})
	pod := createPod(t, s, newPod("a", ""))
	w, err := s.Watch(t.Context(), "/core/pods", storage.ListOptions{
		Recursive: true, ResourceVersion: pod.ResourceVersion, Predicate: storage.Everything, ProgressNotify: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	createPod(t, s, newPod("b", ""))
	next(t, w)
	b := podOf(askProgress(t, s, w))
	if want := fmt.Sprint(k.View().Revision()); b.ResourceVersion != want || b.Name != "" {
		t.Errorf("got version %s of %q, want %s of nothing", b.ResourceVersion, b.Name, want)
	}
}

// askProgress asks until there is an answer: a watch that is not yet fed by
// the hub does not hear the question.
func askProgress(t *testing.T, s storage.Interface, w watch.Interface) watch.Event {
	t.Helper()
	for {
		if err := s.RequestWatchProgress(t.Context()); err != nil {
			t.Fatal(err)
		}
		select {
		case e := <-w.ResultChan():
			if e.Type != watch.Bookmark {
				t.Fatalf("got %s, want BOOKMARK", e.Type)
			}
			return e
		default:
		}
	}
}
