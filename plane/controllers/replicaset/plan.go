package replicaset

import (
	"cmp"
	"math"
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"copepod/plane/controllers/pods"
)

// burst bounds the pods that one reconcile creates or deletes; the next one
// goes on where it stopped.
const burst = 500

// claims says which pods change hands: strays that the ReplicaSet matches, and
// pods of its own that it does not match any longer.
func claims(rs *appsv1.ReplicaSet, sel labels.Selector, strays, own []*pods.Pod) (adopt, release []*pods.Pod) {
	if rs.DeletionTimestamp != nil {
		return nil, nil
	}
	for _, p := range strays {
		if p.Active() {
			adopt = append(adopt, p)
		}
	}
	for _, p := range own {
		if !p.Deleting && !sel.Matches(p.Labels) {
			release = append(release, p)
		}
	}
	return adopt, release
}

// strayed tells whether some active pod of the ReplicaSet needs a release. It
// looks at sets of labels, not at pods.
func strayed(sel labels.Selector, t pods.Tally) bool {
	for l := range t.Labels {
		if !sel.Matches(l) {
			return true
		}
	}
	return false
}

// missing is how many pods to create (above zero) or delete (below) now.
func missing(rs *appsv1.ReplicaSet, t pods.Tally) int {
	if rs.DeletionTimestamp != nil {
		return 0
	}
	return max(-burst, min(burst, int(*rs.Spec.Replicas)-t.Active))
}

// victims picks n of the active pods for deletion: those whose loss costs least
// first. related counts active pods by node over all ReplicaSets of the same
// Deployment, so that nodes which carry many are relieved.
func victims(own []*pods.Pod, related map[string]int, n int, now time.Time) []*pods.Pod {
	list := slices.DeleteFunc(own, func(p *pods.Pod) bool { return !p.Active() })
	slices.SortFunc(list, func(a, b *pods.Pod) int { return expendable(a, b, related, now) })
	return list[:min(n, len(list))]
}

// expendable orders pods by Kubernetes' rules: below zero when a goes first.
func expendable(a, b *pods.Pod, related map[string]int, now time.Time) int {
	if c := cmp.Or(
		compareBool(a.Node != "", b.Node != ""),
		cmp.Compare(phaseOrder(a), phaseOrder(b)),
		compareBool(a.Ready, b.Ready),
		cmp.Compare(a.DeletionCost, b.DeletionCost),
		-cmp.Compare(related[a.Node], related[b.Node]),
	); c != 0 {
		return c
	}
	if a.Ready && b.Ready && !a.ReadySince.Equal(b.ReadySince) {
		return cmp.Or(compareAge(a.ReadySince, b.ReadySince, now), cmp.Compare(a.UID, b.UID))
	}
	return cmp.Or(
		-cmp.Compare(a.Restarts, b.Restarts),
		compareAge(a.Created, b.Created, now),
		cmp.Compare(a.UID, b.UID),
	)
}

func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}

func phaseOrder(p *pods.Pod) int {
	switch p.Phase {
	case corev1.PodPending:
		return 0
	case corev1.PodRunning:
		return 2
	}
	return 1
}

// compareAge compares by the logarithm of ages, younger first, so that pods of
// about the same age are picked at random rather than strictly by time.
func compareAge(a, b, now time.Time) int {
	return cmp.Compare(logAge(a, now), logAge(b, now))
}

func logAge(t, now time.Time) int {
	if d := now.Sub(t); d > 0 {
		return int(math.Log2(float64(d)))
	}
	return -1
}

// status is the ReplicaSet's new status, and when it will change by itself
// because a pod will have been ready long enough (zero: it will not).
func status(rs *appsv1.ReplicaSet, t pods.Tally, own []*pods.Pod, failure error, now time.Time) (appsv1.ReplicaSetStatus, time.Duration) {
	s := *rs.Status.DeepCopy()
	s.ObservedGeneration = rs.Generation
	s.Replicas = int32(t.Active)
	s.ReadyReplicas = int32(t.Ready)
	terminating := int32(t.Terminating)
	s.TerminatingReplicas = &terminating
	s.FullyLabeledReplicas = 0
	for l, n := range t.Labels {
		if l.Contains(rs.Spec.Template.Labels) {
			s.FullyLabeledReplicas += int32(n)
		}
	}
	var next time.Duration
	s.AvailableReplicas = s.ReadyReplicas
	if rs.Spec.MinReadySeconds > 0 {
		s.AvailableReplicas, next = available(own, time.Duration(rs.Spec.MinReadySeconds)*time.Second, now)
	}
	s.Conditions = withFailure(s.Conditions, failure, int(*rs.Spec.Replicas) > t.Active, now)
	return s, next
}

func available(own []*pods.Pod, minReady time.Duration, now time.Time) (n int32, next time.Duration) {
	for _, p := range own {
		at, ready := p.AvailableAt(minReady)
		if !ready || !p.Active() {
			continue
		}
		if wait := at.Sub(now); wait <= 0 {
			n++
		} else if next == 0 || wait < next {
			next = wait
		}
	}
	return n, next
}

// withFailure sets or removes the condition ReplicaFailure.
func withFailure(list []appsv1.ReplicaSetCondition, failure error, creating bool, now time.Time) []appsv1.ReplicaSetCondition {
	at := slices.IndexFunc(list, func(c appsv1.ReplicaSetCondition) bool { return c.Type == appsv1.ReplicaSetReplicaFailure })
	switch {
	case failure == nil && at >= 0:
		return slices.Delete(list, at, at+1)
	case failure != nil && at < 0:
		reason := "FailedDelete"
		if creating {
			reason = "FailedCreate"
		}
		return append(list, appsv1.ReplicaSetCondition{
			Type: appsv1.ReplicaSetReplicaFailure, Status: corev1.ConditionTrue,
			LastTransitionTime: metav1.NewTime(now), Reason: reason, Message: failure.Error(),
		})
	}
	return list
}

// pod is a new pod of the ReplicaSet. It shares what it has of the template.
func pod(rs *appsv1.ReplicaSet) *corev1.Pod {
	prefix := rs.Name + "-"
	if len(prefix) > 253 {
		prefix = rs.Name
	}
	template := &rs.Spec.Template
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: rs.Namespace, GenerateName: prefix,
			Labels: template.Labels, Annotations: template.Annotations, Finalizers: template.Finalizers,
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(rs, Kind)},
		},
		Spec: template.Spec,
	}
}
