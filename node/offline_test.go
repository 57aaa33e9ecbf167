package node_test

import (
	"errors"
	"net"
	"net/http"
	"sync"
	"syscall"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"

	"copepod/node"
)

// outage is an API that can go away for a node: everything is refused, and the
// watches that are open end.
type outage struct {
	*fake.Clientset

	mu    sync.Mutex // guards what follows
	gone  bool
	opens map[watch.Interface]struct{}
	lists map[string]bool // resources that were listed since the API came back
}

func newOutage() *outage {
	o := &outage{Clientset: fake.NewClientset(), opens: map[watch.Interface]struct{}{}, lists: map[string]bool{}}
	o.PrependReactor("*", "*", func(action clienttesting.Action) (bool, runtime.Object, error) {
		o.mu.Lock()
		defer o.mu.Unlock()
		if o.gone {
			return true, nil, &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
		}
		if action.GetVerb() == "list" {
			o.lists[action.GetResource().Resource] = true
		}
		update, ok := action.(clienttesting.UpdateAction)
		if !ok {
			return false, nil, nil
		}
		if pod, ok := update.GetObject().(*v1.Pod); ok { // the tracker does not tell pods of one name apart
			if there := o.stored(pod.Name); there != nil && there.UID != pod.UID {
				return true, nil, apierrors.NewConflict(v1.Resource("pods"), pod.Name, errors.New("it is another"))
			}
		}
		return false, nil, nil
	})
	o.PrependWatchReactor("*", func(action clienttesting.Action) (bool, watch.Interface, error) {
		o.mu.Lock()
		defer o.mu.Unlock()
		if o.gone {
			return true, nil, &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
		}
		if !o.lists[action.GetResource().Resource] { // the tracker keeps no history
			return true, nil, apierrors.NewResourceExpired("too old resource version")
		}
		w, err := o.Tracker().Watch(action.GetResource(), action.GetNamespace())
		if err == nil {
			o.opens[w] = struct{}{}
		}
		return true, w, err
	})
	return o
}

func (o *outage) set(gone bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.gone = gone; gone {
		for w := range o.opens {
			w.Stop()
		}
		clear(o.opens)
		clear(o.lists)
	}
}

// stored is a pod as the API has it, whether it answers or not; nil: none.
func (o *outage) stored(name string) *v1.Pod {
	obj, err := o.Tracker().Get(v1.SchemeGroupVersion.WithResource("pods"), "default", name)
	if err != nil {
		return nil
	}
	return obj.(*v1.Pod)
}

// running is what the node says runs, by name and UID.
func (a *agent) running() map[string]types.UID {
	out := map[string]types.UID{}
	for _, p := range a.node.Pods() {
		if isReady(watch.Event{}, p) {
			out[p.Name] = p.UID
		}
	}
	return out
}

func TestANodeThatBootsWithoutAPlaneRunsWhatItRan(t *testing.T) {
	dir, api := t.TempDir(), newOutage()
	secret := &v1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "app", ResourceVersion: "1"}, Data: map[string][]byte{"A": []byte("1")}}
	if _, err := api.CoreV1().Secrets("default").Create(t.Context(), secret, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	first := startNode(t, dir, api)
	needy := bound("needy", "server:v1")
	needy.Spec.Containers[0].EnvFrom = []v1.EnvFromSource{{SecretRef: &v1.SecretEnvSource{LocalObjectReference: v1.LocalObjectReference{Name: "app"}}}}
	for _, p := range []*v1.Pod{needy, bound("moved", "server:v1"), bound("renewed", "server:v1")} {
		first.pods(p.Name+" to be ready", isReady, first.create(p))
	}
	api.set(true)
	first.stop()

	second := startNode(t, dir, api, func(c *node.Config) { c.Offline = time.Millisecond })
	until(t, "the pods to run without a plane", func() bool { return len(second.running()) == 3 })

	// Meanwhile one was deleted, and another replaced by one of the same name.
	pods := v1.SchemeGroupVersion.WithResource("pods")
	for _, name := range []string{"moved", "renewed"} {
		if err := api.Tracker().Delete(pods, "default", name); err != nil {
			t.Fatal(err)
		}
	}
	other := bound("renewed", "server:v1")
	other.UID = "uid-other"
	if err := api.Tracker().Add(other); err != nil {
		t.Fatal(err)
	}
	api.set(false)
	second.awaitReady()
	until(t, "what was replaced to end, and what is new to run", func() bool {
		now := second.running()
		return len(now) == 2 && now["needy"] == "uid-needy" && now["renewed"] == "uid-other"
	})
	until(t, "the pod that ran on to be reported", func() bool {
		p := api.stored("needy")
		return p != nil && isReady(watch.Event{}, p) && p.Status.ContainerStatuses[0].RestartCount == 1
	})
}

func TestANodeThatIsCutOffKeepsItsPodsAndMergesBack(t *testing.T) {
	api := newOutage()
	a := startNode(t, t.TempDir(), api)
	for _, name := range []string{"stays", "moved"} {
		a.pods(name+" to be ready", isReady, a.create(bound(name, "server:v1")))
	}
	starts := a.rt.Starts.Load()
	api.set(true)
	if err := api.Tracker().Delete(v1.SchemeGroupVersion.WithResource("pods"), "default", "moved"); err != nil {
		t.Fatal(err)
	}
	if got := len(a.running()); got != 2 {
		t.Errorf("got %d pods while cut off, want 2", got)
	}
	api.set(false)
	until(t, "the pod that was replaced meanwhile to end", func() bool {
		now := a.running()
		return len(now) == 1 && now["stays"] != ""
	})
	if got := a.rt.Starts.Load(); got != starts {
		t.Errorf("got %d programs started since, want none", got-starts)
	}
}

func TestANodeThatIsTakenForLostSaysAtOnceThatItLives(t *testing.T) {
	a := startNode(t, t.TempDir(), fake.NewClientset())
	n, err := a.api.CoreV1().Nodes().Get(t.Context(), "n1", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		n = n.DeepCopy()
		for i := range n.Status.Conditions {
			n.Status.Conditions[i].Status = v1.ConditionUnknown
		}
		if _, err := a.api.CoreV1().Nodes().UpdateStatus(t.Context(), n, metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
		until(t, "the node to say that it is ready", func() bool {
			n, err = a.api.CoreV1().Nodes().Get(t.Context(), "n1", metav1.GetOptions{})
			return err == nil && readiness(n) == "True KubeletReady"
		})
	}
}

func readiness(n *v1.Node) string {
	for _, c := range n.Status.Conditions {
		if c.Type == v1.NodeReady {
			return string(c.Status) + " " + c.Reason
		}
	}
	return ""
}

// evictions answers evictions as the API server does: the pod is to end.
func evictions(t *testing.T, api *fake.Clientset) {
	t.Helper()
	api.PrependReactor("create", "pods", func(action clienttesting.Action) (bool, runtime.Object, error) {
		if action.GetSubresource() != "eviction" {
			return false, nil, nil
		}
		e := action.(clienttesting.CreateAction).GetObject().(*policyv1.Eviction)
		pods := v1.SchemeGroupVersion.WithResource("pods") // a client would wait for this very call
		obj, err := api.Tracker().Get(pods, e.Namespace, e.Name)
		if err != nil {
			return true, nil, err
		}
		now, grace := metav1.Now(), int64(5)
		p := obj.(*v1.Pod).DeepCopy()
		p.DeletionTimestamp, p.DeletionGracePeriodSeconds = &now, &grace
		err = api.Tracker().Update(pods, p, e.Namespace)
		return true, e, err
	})
}

func owned(p *v1.Pod, kind string) *v1.Pod {
	yes := true
	p.OwnerReferences = []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: kind, Name: "owner", UID: "owner", Controller: &yes}}
	return p
}

func TestANodeThatStopsMovesItsPodsFirst(t *testing.T) {
	dir, api := t.TempDir(), fake.NewClientset()
	evictions(t, api)
	a := startNode(t, dir, api, func(c *node.Config) { c.Drain = func() time.Duration { return patience } })
	for _, p := range []*v1.Pod{owned(bound("moves", "server:v1"), "ReplicaSet"), owned(bound("daemon", "server:v1"), "DaemonSet"), bound("bare", "server:v1")} {
		a.pods(p.Name+" to be ready", isReady, a.create(p))
	}
	a.stop()
	n, err := api.CoreV1().Nodes().Get(t.Context(), "n1", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if got := readiness(n); got != "False KubeletNotReady" || !n.Spec.Unschedulable {
		t.Errorf("got %s, cordoned %v, want a node that takes no pods", got, n.Spec.Unschedulable)
	}
	list, err := api.CoreV1().Pods("default").List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	left := map[string]bool{}
	for _, p := range list.Items {
		left[p.Name] = true
		if p.DeletionTimestamp != nil {
			t.Errorf("got pod %s deleted, and nothing would make it again elsewhere", p.Name)
		}
	}
	if left["moves"] || !left["daemon"] || !left["bare"] {
		t.Errorf("got %v left, want daemon and bare", left)
	}

	startNode(t, dir, api)
	until(t, "the node to open itself again", func() bool {
		n, err := api.CoreV1().Nodes().Get(t.Context(), "n1", metav1.GetOptions{})
		return err == nil && readiness(n) == "True KubeletReady" && !n.Spec.Unschedulable && n.Annotations["copepod.dev/cordoned-by-shutdown"] == ""
	})
}

func TestANodeThatPeopleCordonedStaysCordoned(t *testing.T) {
	dir, api := t.TempDir(), fake.NewClientset()
	a := startNode(t, dir, api, func(c *node.Config) { c.Drain = func() time.Duration { return patience } })
	n, err := api.CoreV1().Nodes().Get(t.Context(), "n1", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	n = n.DeepCopy()
	n.Spec.Unschedulable = true
	if _, err := api.CoreV1().Nodes().Update(t.Context(), n, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	a.stop()
	startNode(t, dir, api)
	until(t, "the node to be ready", func() bool {
		n, err = api.CoreV1().Nodes().Get(t.Context(), "n1", metav1.GetOptions{})
		return err == nil && readiness(n) == "True KubeletReady"
	})
	if !n.Spec.Unschedulable {
		t.Error("got a node open that people had cordoned")
	}
}

func TestANodeWhoseEvictionsAreRefusedStopsInTime(t *testing.T) {
	api := fake.NewClientset()
	api.PrependReactor("create", "pods", func(action clienttesting.Action) (bool, runtime.Object, error) {
		if action.GetSubresource() != "eviction" {
			return false, nil, nil
		}
		return true, nil, &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
	})
	a := startNode(t, t.TempDir(), api, func(c *node.Config) { c.Drain = func() time.Duration { return 200 * time.Millisecond } })
	a.pods("web to be ready", isReady, a.create(owned(bound("web", "server:v1"), "ReplicaSet")))
	a.stop() // fails the test if it does not return
	if p, err := api.CoreV1().Pods("default").Get(t.Context(), "web", metav1.GetOptions{}); err != nil || p.DeletionTimestamp != nil {
		t.Errorf("got %v, %v, want the pod left for the next start", p, err)
	}
}

func TestLivezAnswersThoseWithACertificateOnly(t *testing.T) {
	a := startNode(t, t.TempDir(), fake.NewClientset())
	if got := a.get("/livez"); got != "ok" {
		t.Errorf("got %q, want ok", got)
	}
	resp, err := http.Get(a.url + "/livez") //nolint:noctx,gosec // no certificate: that is what is tested
	if err == nil {
		_ = resp.Body.Close()
		t.Error("got an answer without a certificate")
	}
}
