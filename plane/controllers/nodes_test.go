package controllers_test

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"copepod/plane/controllers"
	"copepod/plane/controllers/api"
	"copepod/plane/controllers/looptest"
)

// node is a ready node and its lease.
func node(t testing.TB, a *looptest.API, name string) {
	t.Helper()
	n := looptest.Must[*corev1.Node](t)(a.Create(t.Context(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}))
	n = n.DeepCopy()
	n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue, LastHeartbeatTime: metav1.Now()}}
	if _, err := a.UpdateStatus(t.Context(), n); err != nil {
		t.Fatal(err)
	}
	a.Create(t.Context(), &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Namespace: corev1.NamespaceNodeLease, Name: name}})
}

// beat renews the leases of nodes until stopped.
func beat(a *looptest.API, names ...string) func(context.Context) error {
	return func(ctx context.Context) error {
		for {
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(10 * time.Second):
			}
			for _, name := range names {
				a.Modify(ctx, api.Leases, corev1.NamespaceNodeLease, name, "", func(o api.Object) error {
					now := metav1.NowMicro()
					o.(*coordinationv1.Lease).Spec.RenewTime = &now
					return nil
				})
			}
		}
	}
}

func TestSilentNodeIsTaintedAndItsPodsGoElsewhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := looptest.New()
		start(t, a)
		node(t, a, "dead")
		node(t, a, "alive")
		looptest.Start(t, beat(a, "alive"))
		stop := looptest.Start(t, (&looptest.Agent{API: a, Node: "dead"}).Run)
		d := deployment(3)
		tolerate := int64(2)
		d.Spec.Template.Spec.Tolerations = []corev1.Toleration{{Key: corev1.TaintNodeUnreachable, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute, TolerationSeconds: &tolerate}}
		a.Create(t.Context(), d)
		settle(time.Second)
		stop() // nobody confirms deletions on the dead node
		settle(38 * time.Second)
		if n := looptest.Get[*corev1.Node](t, a, "", "dead"); len(n.Spec.Taints) != 0 {
			t.Errorf("got taints %v before the grace period was over, want none", n.Spec.Taints)
		}
		settle(2 * time.Second)
		n := looptest.Get[*corev1.Node](t, a, "", "dead")
		if c := n.Status.Conditions[0]; c.Status != corev1.ConditionUnknown || c.Reason != "NodeStatusUnknown" || c.Message != "Kubelet stopped posting node status." {
			t.Errorf("got %+v, want Ready Unknown NodeStatusUnknown", c)
		}
		if len(n.Spec.Taints) != 2 || n.Spec.Taints[0].Key != corev1.TaintNodeUnreachable {
			t.Errorf("got taints %v, want unreachable", n.Spec.Taints)
		}
		for _, p := range looptest.List[*corev1.Pod](a, "default") {
			if p.Status.Conditions[1].Status != corev1.ConditionFalse {
				t.Errorf("got pod %s ready on a node that is silent", p.Name)
			}
		}
		looptest.Start(t, (&looptest.Agent{API: a, Node: "alive", Lingers: true}).Run)
		settle(3 * time.Second)
		alive := 0
		for _, p := range looptest.List[*corev1.Pod](a, "default") {
			if p.DeletionTimestamp == nil && p.Spec.NodeName == "alive" {
				alive++
			}
		}
		if alive != 3 {
			t.Errorf("got %d pods on the node that lives, want 3", alive)
		}
		if n := looptest.Get[*corev1.Node](t, a, "", "alive"); len(n.Spec.Taints) != 0 {
			t.Errorf("got taints %v on the node that lives", n.Spec.Taints)
		}
		a.Delete(t.Context(), api.Nodes, "", "dead", metav1.DeleteOptions{})
		settle(time.Minute)
		if got := count[*corev1.Pod](a, "default"); got != 3 {
			t.Errorf("got %d pods after the dead node was removed, want 3", got)
		}
	})
}

func TestNodeThatComesBackLosesItsTaints(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := looptest.New()
		start(t, a)
		node(t, a, "n")
		node(t, a, "alive") // or every node would be lost, and nothing evicted
		looptest.Start(t, beat(a, "alive"))
		a.Modify(t.Context(), api.Nodes, "", "n", "", func(o api.Object) error {
			n := o.(*corev1.Node)
			n.Spec.Unschedulable = true
			n.Spec.Taints = []corev1.Taint{{Key: "dedicated", Value: "x", Effect: corev1.TaintEffectNoSchedule}}
			return nil
		})
		settle(time.Minute)
		keys := func() (list []string) {
			for _, taint := range looptest.Get[*corev1.Node](t, a, "", "n").Spec.Taints {
				list = append(list, taint.Key+":"+string(taint.Effect))
			}
			return list
		}
		want := []string{"dedicated:NoSchedule", "node.kubernetes.io/unschedulable:NoSchedule", "node.kubernetes.io/unreachable:NoSchedule", "node.kubernetes.io/unreachable:NoExecute"}
		if got := keys(); !slices.Equal(got, want) {
			t.Errorf("got taints %v, want %v", got, want)
		}
		a.Modify(t.Context(), api.Nodes, "", "n", "status", func(o api.Object) error {
			o.(*corev1.Node).Status.Conditions[0] = corev1.NodeCondition{Type: corev1.NodeReady, Status: corev1.ConditionTrue, LastHeartbeatTime: metav1.Now()}
			return nil
		})
		synctest.Wait()
		if got := keys(); !slices.Equal(got, want[:2]) {
			t.Errorf("got taints %v, want %v", got, want[:2])
		}
	})
}

// deaths is what somebody found who looked for nodes.
type deaths struct {
	mu      sync.Mutex // guards what follows
	at      map[string]time.Time
	follows []func(string)
}

func (d *deaths) Dead(node string) (time.Time, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	at, ok := d.at[node]
	return at, ok
}

func (d *deaths) Follow(f func(string)) func() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.follows = append(d.follows, f)
	return func() {}
}

func (d *deaths) set(node string, dead bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if delete(d.at, node); dead {
		d.at[node] = time.Now()
	}
	for _, f := range d.follows {
		f(node)
	}
}

// run runs the controllers with what d finds.
func (d *deaths) run(t *testing.T, a *looptest.API) {
	t.Helper()
	d.at = map[string]time.Time{}
	c, err := controllers.New(controllers.Config{Client: a, Deaths: d, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	looptest.Start(t, c.Run)
}

func ready(t *testing.T, a *looptest.API, name string) string {
	c := looptest.Get[*corev1.Node](t, a, "", name).Status.Conditions[0]
	return string(c.Status) + " " + c.Reason
}

// say has a node write its own status.
func say(t *testing.T, a *looptest.API, name string) {
	t.Helper()
	_, err := a.Modify(t.Context(), api.Nodes, "", name, "status", func(o api.Object) error {
		o.(*corev1.Node).Status.Conditions[0] = corev1.NodeCondition{Type: corev1.NodeReady, Status: corev1.ConditionTrue, Reason: "KubeletReady", LastHeartbeatTime: metav1.Now()}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestPodsOfANodeThatWasFoundDeadAreElsewhereWithinSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, d := looptest.New(), &deaths{}
		d.run(t, a)
		node(t, a, "dead")
		node(t, a, "alive")
		looptest.Start(t, beat(a, "alive"))
		stop := looptest.Start(t, (&looptest.Agent{API: a, Node: "dead"}).Run)
		work := deployment(3)
		tolerate := int64(2)
		work.Spec.Template.Spec.Tolerations = []corev1.Toleration{{Key: corev1.TaintNodeUnreachable, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute, TolerationSeconds: &tolerate}}
		a.Create(t.Context(), work)
		settle(time.Second)
		stop()
		d.set("dead", true)
		synctest.Wait()
		if got := ready(t, a, "dead"); got != "Unknown NodeStatusUnknown" {
			t.Errorf("got %s at once, want Unknown NodeStatusUnknown", got)
		}
		for _, p := range looptest.List[*corev1.Pod](a, "default") {
			if p.Status.Conditions[1].Status != corev1.ConditionFalse {
				t.Errorf("got pod %s in service on a node that is dead", p.Name)
			}
		}
		looptest.Start(t, (&looptest.Agent{API: a, Node: "alive", Lingers: true}).Run)
		settle(3 * time.Second)
		alive := 0
		for _, p := range looptest.List[*corev1.Pod](a, "default") {
			if p.DeletionTimestamp == nil && p.Spec.NodeName == "alive" {
				alive++
			}
		}
		if alive != 3 {
			t.Errorf("got %d pods on the node that lives 3 s later, want 3", alive)
		}
		// It comes back, and is used again.
		d.set("dead", false)
		say(t, a, "dead")
		synctest.Wait()
		if n := looptest.Get[*corev1.Node](t, a, "", "dead"); len(n.Spec.Taints) != 0 {
			t.Errorf("got taints %v on a node that came back", n.Spec.Taints)
		}
	})
}

func TestANodeThatGoesOnToReportIsNotDeadWhateverIsFound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, d := looptest.New(), &deaths{}
		d.run(t, a)
		for _, name := range []string{"n", "alive"} {
			node(t, a, name)
		}
		looptest.Start(t, beat(a, "n", "alive"))
		settle(time.Second)
		d.set("n", true) // its port cannot be reached; it reaches us
		synctest.Wait()
		if got := ready(t, a, "n"); got != "Unknown NodeStatusUnknown" {
			t.Fatalf("got %s, want Unknown", got)
		}
		settle(time.Second)
		say(t, a, "n")
		for range 60 {
			settle(time.Second)
			d.set("n", true) // found again and again
			synctest.Wait()
			if got := ready(t, a, "n"); got != "True KubeletReady" {
				t.Fatalf("got %s, want the node believed", got)
			}
		}
		d.set("n", false) // reached once
		synctest.Wait()
		settle(time.Second)
		d.set("n", true) // and now dead in earnest
		synctest.Wait()
		if got := ready(t, a, "n"); got != "Unknown NodeStatusUnknown" {
			t.Errorf("got %s, want Unknown", got)
		}
	})
}

func TestEvictionGoesOnUnderANewLeader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, d := looptest.New(), &deaths{at: map[string]time.Time{}}
		run := func() (stop func()) {
			c, err := controllers.New(controllers.Config{Client: a, Deaths: d, Log: slog.New(slog.DiscardHandler)})
			if err != nil {
				t.Fatal(err)
			}
			return looptest.Start(t, c.Run)
		}
		for _, name := range []string{"dead", "alive"} {
			node(t, a, name)
		}
		tolerate := int64(2)
		a.Create(t.Context(), &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "p"}, Spec: corev1.PodSpec{
			NodeName:    "dead",
			Tolerations: []corev1.Toleration{{Key: corev1.TaintNodeUnreachable, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute, TolerationSeconds: &tolerate}},
		}})
		stop := run()
		settle(time.Second)
		d.set("dead", true)
		synctest.Wait()
		stop() // with the taint written, and nothing evicted
		looptest.Start(t, beat(a, "alive"))
		run()
		settle(3 * time.Second)
		for _, p := range looptest.List[*corev1.Pod](a, "default") {
			if p.DeletionTimestamp == nil {
				t.Errorf("got pod %s still there", p.Name)
			}
		}
	})
}
