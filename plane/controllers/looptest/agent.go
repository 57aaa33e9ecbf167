package looptest

import (
	"context"
	"fmt"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"

	"copepod/plane/controllers/api"
)

// Agent plays every node of the cluster: pods that are bound become running and
// ready, pods that are deleted go away.
type Agent struct {
	API *API
	// Node, when set, also plays the scheduler: pods without a node go there.
	Node string
	// Sick tells which pods never become ready; nil: none.
	Sick func(*corev1.Pod) bool
	// Lingers keeps deleted pods until the test removes them.
	Lingers bool

	serial int
}

// Run plays until ctx ends.
func (n *Agent) Run(ctx context.Context) error {
	view := n.API.View()
	events, err := n.API.Watch(ctx, api.Pods, view.Revision())
	if err != nil {
		return err
	}
	var have []*corev1.Pod
	for o := range view.List(api.Pods, "") {
		have = append(have, o.(*corev1.Pod))
	}
	n.step(ctx, have)
	for batch := range events {
		var changed []*corev1.Pod
		for _, e := range batch {
			if e.Type != watch.Deleted {
				changed = append(changed, e.Object.(*corev1.Pod))
			}
		}
		n.step(ctx, changed)
	}
	return nil
}

func (n *Agent) step(ctx context.Context, pods []*corev1.Pod) {
	var bind []*corev1.Binding
	var run []api.Object
	zero := int64(0)
	for _, p := range pods {
		switch {
		case p.DeletionTimestamp != nil && !n.Lingers:
			n.API.Delete(ctx, api.Pods, p.Namespace, p.Name, metav1.DeleteOptions{GracePeriodSeconds: &zero})
		case p.DeletionTimestamp != nil:
		case p.Spec.NodeName == "" && n.Node != "":
			bind = append(bind, &corev1.Binding{ObjectMeta: metav1.ObjectMeta{Namespace: p.Namespace, Name: p.Name}, Target: corev1.ObjectReference{Kind: "Node", Name: n.Node}})
		case p.Spec.NodeName != "" && p.Status.Phase == corev1.PodPending:
			run = append(run, n.running(p))
		}
	}
	if len(bind) > 0 {
		n.API.BindAll(ctx, bind)
	}
	if len(run) > 0 {
		n.API.UpdateStatusAll(ctx, run)
	}
}

func (n *Agent) running(p *corev1.Pod) *corev1.Pod {
	n.serial++
	p = p.DeepCopy()
	p.Status.Phase = corev1.PodRunning
	p.Status.PodIP = fmt.Sprintf("10.%d.%d.%d", n.serial>>16&255, n.serial>>8&255, n.serial&255)
	p.Status.PodIPs = []corev1.PodIP{{IP: p.Status.PodIP}}
	ready := corev1.ConditionTrue
	if n.Sick != nil && n.Sick(p) {
		ready = corev1.ConditionFalse
	}
	p.Status.Conditions = append(p.Status.Conditions, corev1.PodCondition{Type: corev1.PodReady, Status: ready, LastTransitionTime: *now()})
	return p
}

// Start runs each function until stop is called or the test ends. stop waits
// for all of them.
func Start(t testing.TB, runs ...func(context.Context) error) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	for _, run := range runs {
		wg.Go(func() {
			if err := run(ctx); err != nil {
				t.Error(err)
			}
		})
	}
	stop = func() { cancel(); wg.Wait() }
	t.Cleanup(stop)
	return stop
}

// Said is the events on objects of a name, as "Type Reason Message".
func Said(a *API, name string) []string {
	var list []string
	for _, e := range List[*corev1.Event](a, "") {
		if e.InvolvedObject.Name == name {
			list = append(list, e.Type+" "+e.Reason+" "+e.Message)
		}
	}
	return list
}
