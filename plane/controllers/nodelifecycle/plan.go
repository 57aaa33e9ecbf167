package nodelifecycle

import (
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Taints that this controller owns: those of other keys are never touched.
var managed = []string{
	corev1.TaintNodeNotReady, corev1.TaintNodeUnreachable, corev1.TaintNodeUnschedulable,
	corev1.TaintNodeMemoryPressure, corev1.TaintNodeDiskPressure, corev1.TaintNodePIDPressure, corev1.TaintNodeNetworkUnavailable,
}

// heartbeats are the conditions that a node reports as long as it lives.
var heartbeats = []corev1.NodeConditionType{
	corev1.NodeReady, corev1.NodeMemoryPressure, corev1.NodeDiskPressure, corev1.NodePIDPressure,
}

func condition(n *corev1.Node, kind corev1.NodeConditionType) *corev1.NodeCondition {
	for i := range n.Status.Conditions {
		if n.Status.Conditions[i].Type == kind {
			return &n.Status.Conditions[i]
		}
	}
	return nil
}

// readiness is the status of the condition Ready; Unknown when it has none.
func readiness(n *corev1.Node) corev1.ConditionStatus {
	if c := condition(n, corev1.NodeReady); c != nil {
		return c.Status
	}
	return corev1.ConditionUnknown
}

// silence is the conditions of a node that has not been heard of for too long.
func silence(n *corev1.Node, now time.Time) []corev1.NodeCondition {
	at := metav1.NewTime(now)
	list := slices.Clone(n.Status.Conditions)
	for _, kind := range heartbeats {
		i := slices.IndexFunc(list, func(c corev1.NodeCondition) bool { return c.Type == kind })
		switch {
		case i < 0:
			list = append(list, corev1.NodeCondition{
				Type: kind, Status: corev1.ConditionUnknown, Reason: "NodeStatusNeverUpdated", Message: "Kubelet never posted node status.",
				LastHeartbeatTime: n.CreationTimestamp, LastTransitionTime: at,
			})
		case list[i].Status != corev1.ConditionUnknown:
			list[i].Status, list[i].Reason, list[i].Message = corev1.ConditionUnknown, "NodeStatusUnknown", "Kubelet stopped posting node status."
			list[i].LastTransitionTime = at
		}
	}
	return list
}

// eviction says what becomes of the taint that evicts the pods of a lost node.
type eviction uint8

const (
	evictHold eviction = iota // it stays if it is there
	evictNow                  // it is set
	evictStop                 // it goes
)

// lost says that pods are to leave the node: it says that it is not ready, or is
// not heard any more.
func lost(n *corev1.Node) bool {
	r := condition(n, corev1.NodeReady)
	return r != nil && r.Status != corev1.ConditionTrue
}

// evicts says that the node has a taint that evicts for being lost.
func evicts(n *corev1.Node) bool {
	return slices.ContainsFunc(n.Spec.Taints, func(t corev1.Taint) bool {
		return t.Effect == corev1.TaintEffectNoExecute && (t.Key == corev1.TaintNodeNotReady || t.Key == corev1.TaintNodeUnreachable)
	})
}

// taints is the node's taints as its conditions ask for, and whether they differ
// from those it has.
func taints(n *corev1.Node, now time.Time, e eviction) ([]corev1.Taint, bool) {
	want := wanted(n, now, e == evictNow || e == evictHold && evicts(n))
	var list []corev1.Taint
	changed := false
	for _, t := range n.Spec.Taints {
		keep := !slices.Contains(managed, t.Key) || slices.ContainsFunc(want, func(w corev1.Taint) bool { return w.MatchTaint(&t) })
		if !keep {
			changed = true
			continue
		}
		list = append(list, t)
	}
	for _, w := range want {
		if !slices.ContainsFunc(list, func(t corev1.Taint) bool { return t.MatchTaint(&w) }) {
			list = append(list, w)
			changed = true
		}
	}
	return list, changed
}

func wanted(n *corev1.Node, now time.Time, evicting bool) []corev1.Taint {
	var list []corev1.Taint
	keep := func(key string) { list = append(list, corev1.Taint{Key: key, Effect: corev1.TaintEffectNoSchedule}) }
	evict := func(key string) {
		if !evicting {
			return
		}
		at := metav1.NewTime(now)
		list = append(list, corev1.Taint{Key: key, Effect: corev1.TaintEffectNoExecute, TimeAdded: &at})
	}
	switch ready := condition(n, corev1.NodeReady); {
	case ready == nil: // it has only just registered
		keep(corev1.TaintNodeNotReady)
	case ready.Status == corev1.ConditionFalse:
		keep(corev1.TaintNodeNotReady)
		evict(corev1.TaintNodeNotReady)
	case ready.Status == corev1.ConditionUnknown:
		keep(corev1.TaintNodeUnreachable)
		evict(corev1.TaintNodeUnreachable)
	}
	for _, pressure := range []struct {
		kind corev1.NodeConditionType
		key  string
	}{
		{corev1.NodeMemoryPressure, corev1.TaintNodeMemoryPressure},
		{corev1.NodeDiskPressure, corev1.TaintNodeDiskPressure},
		{corev1.NodePIDPressure, corev1.TaintNodePIDPressure},
		{corev1.NodeNetworkUnavailable, corev1.TaintNodeNetworkUnavailable},
	} {
		if c := condition(n, pressure.kind); c != nil && c.Status == corev1.ConditionTrue {
			keep(pressure.key)
		}
	}
	if n.Spec.Unschedulable {
		keep(corev1.TaintNodeUnschedulable)
	}
	return list
}

// unready is the conditions of a pod whose node is not ready, and whether they
// differ from those it has.
func unready(conditions []corev1.PodCondition, now time.Time) ([]corev1.PodCondition, bool) {
	list, changed := slices.Clone(conditions), false
	for i := range list {
		if c := &list[i]; c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue {
			c.Status, c.LastTransitionTime = corev1.ConditionFalse, metav1.NewTime(now)
			changed = true
		}
	}
	return list, changed
}
