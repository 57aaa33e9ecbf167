package node

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"copepod/node/desired"
	"copepod/node/objects"
	"copepod/node/pods"
)

// boot is what is known of pods until the API has told them all.
type boot struct {
	offline atomic.Bool // the node runs what it ran, and the API has not spoken yet

	mu      sync.Mutex             // guards what follows
	told    map[types.UID]struct{} // pods that the API told of; nil: all are known
	resumed map[types.UID]*v1.Pod  // pods that run because they did before
}

func newBoot() *boot {
	return &boot{told: map[types.UID]struct{}{}, resumed: map[types.UID]*v1.Pod{}}
}

// refs are the objects that a boot without the API needs for a pod.
func refs(pod *v1.Pod) []objects.Ref {
	list := pods.References(pod)
	if class := pod.Spec.RuntimeClassName; class != nil && *class != "" {
		list = append(list, objects.Ref{Kind: desired.RuntimeClass, Name: *class})
	}
	return list
}

// set takes a pod from the API.
func (n *Node) set(obj any) {
	pod := obj.(*v1.Pod)
	n.boot.mu.Lock()
	defer n.boot.mu.Unlock() // so that nothing older follows from resume
	if n.boot.told != nil {
		n.boot.told[pod.UID] = struct{}{}
		delete(n.boot.resumed, pod.UID)
	}
	n.desired.SetPod(pod)
	n.pods.Set(pod)
}

// gone takes that a pod is no longer in the API.
func (n *Node) gone(pod *v1.Pod) {
	n.desired.DropPod(pod.UID)
	n.pods.Gone(pod)
}

// resume runs what the node ran, unless the API has told by now what to run. The
// API knows better as soon as it answers: see synced.
func (n *Node) resume() {
	n.boot.mu.Lock()
	defer n.boot.mu.Unlock()
	if n.boot.told == nil || n.boot.offline.Swap(true) {
		return
	}
	n.objects.Offline(true)
	if cidr := n.desired.Range(); cidr != "" {
		if err := n.podRange(cidr); err != nil {
			n.log.Warn("range of pod addresses not taken", "range", cidr, "err", err)
		}
	}
	for _, pod := range n.desired.Pods() {
		if _, told := n.boot.told[pod.UID]; !told && pod.Spec.NodeName == n.cfg.Name {
			n.boot.resumed[pod.UID] = pod
			n.pods.Set(pod)
		}
	}
	n.log.Warn("the API does not answer: the node runs what it ran", "pods", len(n.boot.resumed))
	n.pods.Launch()
}

// synced takes that the API has told of all pods: whatever else runs was replaced
// or deleted while the node was away, and ends. Pods are compared by UID: one of
// the same name is another.
func (n *Node) synced() {
	n.boot.mu.Lock()
	told, stale := n.boot.told, n.boot.resumed
	n.boot.told, n.boot.resumed = nil, nil
	for _, pod := range stale {
		n.log.Info("pod is gone from the API and ends", "namespace", pod.Namespace, "pod", pod.Name, "uid", pod.UID)
		n.gone(pod)
	}
	n.boot.offline.Store(false)
	n.boot.mu.Unlock()
	n.objects.Offline(false)
	if err := n.desired.Keep(func(uid types.UID) bool { _, ok := told[uid]; return ok }); err != nil {
		n.log.Warn("leftovers of the desired state not removed", "err", err)
	}
	n.pods.Synced()
}

// wait resumes when the API is silent for too long after a boot.
func (n *Node) wait(ctx context.Context, told <-chan struct{}) {
	t := time.NewTimer(n.cfg.Offline)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-told:
	case <-t.C:
		if n.refused.Load() {
			n.log.Warn("the API refuses this node: nothing is run until it does not")
			return
		}
		n.resume()
	}
}

// Pods are the pods that the node has, as it sees them.
func (n *Node) Pods() []*v1.Pod { return n.pods.Pods() }
