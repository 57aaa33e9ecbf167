package node

import (
	"context"
	"errors"
	"sync"
	"time"

	v1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// cordonedBy marks a node that closed itself to new pods when it stopped, so that
// it opens again when it comes back. Who cordons by hand does not set it, and is
// not overruled.
const cordonedBy = "copepod.dev/cordoned-by-shutdown"

// errLeaving is why a node that stops is not ready, in the kubelet's words.
var errLeaving = errors.New("node is shutting down")

// phase is how far a node is on its way out.
type phase int32

const (
	staying   phase = iota
	cordoning       // no new pods
	leaving         // not ready either
)

// leave moves pods away before the node stops, if it is to take the time: it
// cordons itself, evicts the pods that something will make again elsewhere, waits
// until they have ended, and says last that it is not ready. Disruption budgets
// hold, which is why that comes last: the taint of a node that is not ready
// evicts without asking them. Pods that nothing makes again, and those of a
// DaemonSet, which belong to the node, stay and stop with it.
func (n *Node) leave(ctx context.Context) {
	if n.cfg.Drain == nil {
		return
	}
	grace := n.cfg.Drain()
	if grace <= 0 || !isClosed(n.registered) {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, grace)
	defer cancel()
	begin := time.Now()
	n.log.Info("node moves its pods elsewhere", "most", grace)
	n.tell(ctx, cordoning)
	var evictions sync.WaitGroup
	slots := make(chan struct{}, 16)
	wanted := map[types.UID]bool{}
	for _, pod := range n.pods.Pods() {
		if !moves(pod) {
			continue
		}
		wanted[pod.UID] = true
		evictions.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			n.evict(ctx, pod)
		})
	}
	for here := len(wanted) > 0; here; here = n.count(wanted) > 0 {
		if !pause(ctx, 20*time.Millisecond) {
			break
		}
	}
	cancel() // what is not evicted by now is not any more
	evictions.Wait()
	last, stop := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer stop()
	n.tell(last, leaving)
	n.log.Info("node has moved its pods", "took", time.Since(begin), "left", n.count(wanted))
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// moves says that a pod ends here and is made again elsewhere.
func moves(pod *v1.Pod) bool {
	owner := metav1.GetControllerOf(pod)
	return owner != nil && owner.Kind != "DaemonSet" && owner.Kind != "Node" && pod.Status.Phase != v1.PodSucceeded && pod.Status.Phase != v1.PodFailed
}

// count is how many of the pods are still here.
func (n *Node) count(wanted map[types.UID]bool) int {
	here := 0
	for _, pod := range n.pods.Pods() {
		if wanted[pod.UID] {
			here++
		}
	}
	return here
}

// evict asks until the pod may go. A disruption budget says 429 until then.
func (n *Node) evict(ctx context.Context, pod *v1.Pod) {
	eviction := &policyv1.Eviction{
		ObjectMeta:    metav1.ObjectMeta{Namespace: pod.Namespace, Name: pod.Name},
		DeleteOptions: &metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &pod.UID}},
	}
	for wait := retryInterval; ; wait = min(2*wait, retryMost) {
		err := n.api.CoreV1().Pods(pod.Namespace).EvictV1(ctx, eviction)
		if err == nil || apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
			return
		}
		if !pause(ctx, wait) {
			n.log.Warn("pod not moved", "namespace", pod.Namespace, "pod", pod.Name, "err", err)
			return
		}
	}
}

// tell has beat write how far the node is, and waits until it has.
func (n *Node) tell(ctx context.Context, p phase) {
	done := make(chan struct{})
	n.phase.Store(int32(p)) // before told: who takes that up says this
	n.told.Store(&done)
	n.poke()
	select {
	case <-done:
	case <-ctx.Done():
		n.log.Warn("node could not say that it stops", "err", ctx.Err())
	}
}

// schedulable brings the part of the Node object up to date that says whether it
// takes pods; false if it is as it should be.
func (n *Node) schedulable(node *v1.Node) bool {
	_, ours := node.Annotations[cordonedBy]
	switch out := phase(n.phase.Load()) != staying; {
	case out && !node.Spec.Unschedulable:
		node.Spec.Unschedulable = true
		if node.Annotations == nil {
			node.Annotations = map[string]string{}
		}
		node.Annotations[cordonedBy] = time.Now().UTC().Format(time.RFC3339)
	case !out && ours:
		node.Spec.Unschedulable = false
		delete(node.Annotations, cordonedBy)
	default:
		return false
	}
	return true
}
