package tainteviction

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/klog/v2"
)

// evicting is the taints of a node that pods have to leave for.
func evicting(n *corev1.Node) []corev1.Taint {
	var list []corev1.Taint
	for _, t := range n.Spec.Taints {
		if t.Effect == corev1.TaintEffectNoExecute {
			list = append(list, t)
		}
	}
	return list
}

// deadline is when a pod with these tolerations has to leave a node with these
// taints; false when it may stay for good. A taint without a time counts from
// since.
func deadline(tolerations []corev1.Toleration, taints []corev1.Taint, since time.Time) (time.Time, bool) {
	var first time.Time
	leaves := false
	for i := range taints {
		at, forGood := tolerated(tolerations, &taints[i], since)
		if !forGood && (!leaves || at.Before(first)) {
			first, leaves = at, true
		}
	}
	return first, leaves
}

// tolerated is until when one taint is tolerated. Of several tolerations that
// match, the shortest counts, as in Kubernetes.
func tolerated(tolerations []corev1.Toleration, taint *corev1.Taint, since time.Time) (until time.Time, forGood bool) {
	start := since
	if taint.TimeAdded != nil {
		start = taint.TimeAdded.Time
	}
	matched := false
	shortest := time.Duration(-1)
	for i := range tolerations {
		t := &tolerations[i]
		if !t.ToleratesTaint(klog.Background(), taint, false) {
			continue
		}
		matched = true
		if t.TolerationSeconds == nil {
			continue
		}
		d := max(0, time.Duration(*t.TolerationSeconds)*time.Second)
		if shortest < 0 || d < shortest {
			shortest = d
		}
	}
	switch {
	case !matched:
		return start, false
	case shortest < 0:
		return time.Time{}, true
	}
	return start.Add(shortest), false
}
