package scheduler

import (
	"maps"

	corev1 "k8s.io/api/core/v1"
	nodev1 "k8s.io/api/node/v1"
	"k8s.io/apimachinery/pkg/watch"

	"copepod/plane/controllers/api"
	"copepod/plane/scheduler/place"
)

// podEvent brings the picture of one pod up to date.
func (t *term) podEvent(e *api.Event) {
	if e.Type == watch.Deleted {
		if p := t.pods[api.Key(e.Object)]; p != nil && p.uid == e.Object.GetUID() {
			t.forget(p)
		}
		return
	}
	old, _ := e.Old.(*corev1.Pod)
	t.podIs(e.Object.(*corev1.Pod), old)
}

// podIs takes in the present state of a pod; old is the one before, nil if not
// known.
func (t *term) podIs(o, old *corev1.Pod) {
	p := t.pods[api.Key(o)]
	if p != nil && p.uid != o.UID {
		t.forget(p)
		p = nil
	}
	finished := o.Status.Phase == corev1.PodSucceeded || o.Status.Phase == corev1.PodFailed
	switch {
	case finished:
		if p != nil {
			t.forget(p)
		}
	case o.Spec.NodeName != "":
		t.podOnNode(p, o, old)
	case o.DeletionTimestamp != nil, o.Spec.SchedulerName != t.cfg.Name && o.Spec.SchedulerName != "", len(o.Spec.SchedulingGates) > 0:
		if p != nil && p.state != bound {
			t.forget(p)
		}
	default:
		t.podWaits(p, o)
	}
}

// podOnNode counts a pod where it runs. Nearly always it is there already: we
// put it there, or only its status changed.
func (t *term) podOnNode(p *pod, o, old *corev1.Pod) {
	if p != nil && p.state == bound && p.node == o.Spec.NodeName {
		if old == nil || maps.Equal(old.Labels, o.Labels) {
			return
		}
	}
	if p != nil {
		t.forget(p)
	}
	p = t.newPod(o)
	p.node, p.state = o.Spec.NodeName, bound
	t.cluster.Assign(p.class, p.node)
	t.wakeMinding(p.class)
}

// podWaits enters a pod without a node, or what changed about it.
func (t *term) podWaits(p *pod, o *corev1.Pod) {
	if p != nil {
		k := t.cluster.Class(o)
		t.cluster.Drop(k)
		if p.class == k || p.state == bound {
			return // nothing that matters, or it is on its way to a node
		}
		t.forget(p)
	}
	t.queue.push(t.newPod(o))
}

func (t *term) newPod(o *corev1.Pod) *pod {
	p := &pod{key: api.Key(o), uid: o.UID, class: t.cluster.Class(o)}
	if o.Spec.RuntimeClassName != nil {
		p.runtime = *o.Spec.RuntimeClassName
	}
	t.pods[p.key] = p
	return p
}

// forget drops a pod; if it was on a node, others may take its place.
func (t *term) forget(p *pod) {
	delete(t.pods, p.key)
	t.release(p)
	t.queue.remove(p)
	t.cluster.Drop(p.class)
}

// release takes a pod off its node.
func (t *term) release(p *pod) {
	if p.state != bound {
		return
	}
	t.cluster.Release(p.class, p.node)
	t.wakeForNode(p.node)
	t.wakeMinding(p.class)
}

func (t *term) nodeEvent(e *api.Event) {
	if e.Type == watch.Deleted {
		t.cluster.RemoveNode(e.Object.GetName())
		t.wakeCaused(place.CauseOthers) // a domain less to spread over
		return
	}
	if !t.cluster.SetNode(e.Object.(*corev1.Node)) {
		return
	}
	t.wakeForNode(e.Object.GetName())
	if e.Old != nil && !maps.Equal(e.Old.GetLabels(), e.Object.GetLabels()) {
		t.wakeCaused(place.CauseOthers) // it may be in another domain now
	}
}

func (t *term) namespaceEvent(e *api.Event) {
	if e.Type == watch.Deleted {
		t.cluster.RemoveNamespace(e.Object.GetName())
		return
	}
	t.cluster.SetNamespace(e.Object.GetName(), e.Object.GetLabels())
	if e.Old == nil || !maps.Equal(e.Old.GetLabels(), e.Object.GetLabels()) {
		t.wakeCaused(place.CauseOthers)
	}
}

// runtimeClassEvent gives the pods that wait with a RuntimeClass a new class.
func (t *term) runtimeClassEvent(e *api.Event) {
	name := e.Object.GetName()
	if e.Type == watch.Deleted {
		t.cluster.RemoveRuntimeClass(name)
	} else {
		t.cluster.SetRuntimeClass(e.Object.(*nodev1.RuntimeClass))
	}
	view := t.cfg.Client.View()
	for _, p := range t.pods {
		if p.runtime != name || p.state == bound {
			continue
		}
		if o, ok := view.Get(api.Pods, p.key.Namespace, p.key.Name); ok {
			t.podIs(o.(*corev1.Pod), nil)
		}
	}
}

// wakeForNode tries as many parked pods again as could fit on a node that has
// changed.
func (t *term) wakeForNode(name string) {
	if t.queue.asleep == 0 {
		return
	}
	for _, l := range t.queue.lines {
		if l.asleep > 0 {
			if n := t.cluster.Room(l.class, name, l.asleep); n > 0 {
				t.queue.wake(l, n)
			}
		}
	}
}

// wakeMinding tries parked pods again for which it matters where pods of a class
// are: one of each line. If that one finds a node, cycle wakes more.
func (t *term) wakeMinding(k *place.Class) {
	if t.queue.asleep == 0 {
		return
	}
	for _, l := range t.queue.lines {
		if l.asleep > 0 && l.causes&place.CauseOthers != 0 && t.cluster.Minds(l.class, k) {
			t.queue.wake(l, 1)
		}
	}
}

// wakeCaused tries pods again that are parked for a cause: one of each line.
func (t *term) wakeCaused(cause place.Cause) {
	for _, l := range t.queue.lines {
		if l.asleep > 0 && l.causes&cause != 0 {
			t.queue.wake(l, 1)
		}
	}
}
