package pods

import (
	"fmt"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	corehelper "k8s.io/component-helpers/resource"
)

// ledger is what the pods of this node have asked for. It is kept up to date
// rather than summed, so that admitting a pod costs the same on a full node.
type ledger struct {
	pods    int
	used    map[v1.ResourceName]int64 // milli-units
	entries map[*worker]v1.ResourceList
}

func newLedger() ledger {
	return ledger{used: map[v1.ResourceName]int64{}, entries: map[*worker]v1.ResourceList{}}
}

// requests is what a pod asks for.
func requests(pod *v1.Pod) v1.ResourceList {
	return corehelper.PodRequests(pod, corehelper.PodResourcesOptions{})
}

// admit says why a pod does not fit beside the others, in the kubelet's words,
// or nil. The scheduler asked the same before; pods that name their node did not
// pass it.
func (l *ledger) admit(pod *v1.Pod, allocatable v1.ResourceList) *fault {
	if max, ok := allocatable[v1.ResourcePods]; ok && int64(l.pods+1) > max.Value() {
		return reject("pods", 1, int64(l.pods), max.Value())
	}
	wants := requests(pod)
	for _, name := range []v1.ResourceName{v1.ResourceCPU, v1.ResourceMemory, v1.ResourceEphemeralStorage} {
		want, asked := wants[name]
		has, known := allocatable[name]
		if !asked || !known || want.IsZero() {
			continue
		}
		if l.used[name]+milli(name, want) > milli(name, has) {
			return reject(name, milli(name, want), l.used[name], milli(name, has))
		}
	}
	return nil
}

// milli is a quantity in thousandths for processor time, in units for the rest:
// memory in thousandths would overflow.
func milli(name v1.ResourceName, q resource.Quantity) int64 {
	if name == v1.ResourceCPU {
		return q.MilliValue()
	}
	return q.Value()
}

func reject(name v1.ResourceName, requested, used, capacity int64) *fault {
	return &fault{
		reason: "OutOf" + string(name),
		message: fmt.Sprintf("Pod was rejected: Node didn't have enough resource: %s, requested: %d, used: %d, capacity: %d",
			name, requested, used, capacity),
	}
}

// enter counts a pod.
func (l *ledger) enter(w *worker, pod *v1.Pod) {
	list := requests(pod)
	l.entries[w] = list
	l.pods++
	for name, q := range list {
		l.used[name] += milli(name, q)
	}
}

// leave stops counting it; it may be called again.
func (l *ledger) leave(w *worker) {
	list, ok := l.entries[w]
	if !ok {
		return
	}
	delete(l.entries, w)
	l.pods--
	for name, q := range list {
		l.used[name] -= milli(name, q)
	}
}
