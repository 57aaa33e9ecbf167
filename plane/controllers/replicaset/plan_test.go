package replicaset

import (
	"errors"
	"slices"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"

	"copepod/plane/controllers/pods"
)

var now = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

func set(replicas int32) *appsv1.ReplicaSet {
	return &appsv1.ReplicaSet{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web", UID: "rs", Generation: 3},
		Spec: appsv1.ReplicaSetSpec{
			Replicas: &replicas, Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": "web"}}},
		},
	}
}

func TestMissingIsBoundedByTheBurst(t *testing.T) {
	deleted := set(5)
	deleted.DeletionTimestamp = &metav1.Time{Time: now}
	for _, row := range []struct {
		name   string
		rs     *appsv1.ReplicaSet
		active int
		want   int
	}{
		{"none yet", set(3), 0, 3},
		{"enough", set(3), 3, 0},
		{"too many", set(3), 5, -2},
		{"a great many missing", set(10000), 0, burst},
		{"a great many too many", set(0), 10000, -burst},
		{"being deleted", deleted, 2, 0},
	} {
		t.Run(row.name, func(t *testing.T) {
			if got := missing(row.rs, pods.Tally{Active: row.active}); got != row.want {
				t.Errorf("got %d, want %d", got, row.want)
			}
		})
	}
}

func TestVictimsAreThosePodsWhoseLossCostsLeast(t *testing.T) {
	base := func(name string, change func(*pods.Pod)) *pods.Pod {
		p := &pods.Pod{
			Key: types.NamespacedName{Name: name}, UID: types.UID(name), Node: "a", Phase: corev1.PodRunning,
			Ready: true, ReadySince: now.Add(-time.Hour), Created: now.Add(-2 * time.Hour),
		}
		change(p)
		return p
	}
	same := func(*pods.Pod) {}
	for _, row := range []struct {
		name        string
		first, then *pods.Pod
		related     map[string]int
	}{
		{"without a node before bound", base("x", func(p *pods.Pod) { p.Node = "" }), base("y", same), nil},
		{"pending before running", base("x", func(p *pods.Pod) { p.Phase = corev1.PodPending }), base("y", same), nil},
		{"unknown before running", base("x", func(p *pods.Pod) { p.Phase = corev1.PodUnknown }), base("y", same), nil},
		{"not ready before ready", base("x", func(p *pods.Pod) { p.Ready = false }), base("y", same), nil},
		{"cheap before dear", base("x", func(p *pods.Pod) { p.DeletionCost = -1 }), base("y", same), nil},
		{"doubled up before alone", base("x", func(p *pods.Pod) { p.Node = "b" }), base("y", same), map[string]int{"a": 1, "b": 2}},
		{"ready lately before ready long", base("x", func(p *pods.Pod) { p.ReadySince = now.Add(-time.Minute) }), base("a", same), nil},
		{"about as long ready: by UID", base("x", func(p *pods.Pod) { p.ReadySince = now.Add(-59 * time.Minute) }), base("y", same), nil},
		{"more restarts before fewer", base("x", func(p *pods.Pod) { p.Restarts = 3 }), base("a", same), nil},
		{"younger before older", base("x", func(p *pods.Pod) { p.Created = now.Add(-time.Minute) }), base("a", same), nil},
	} {
		t.Run(row.name, func(t *testing.T) {
			for _, order := range [][]*pods.Pod{{row.first, row.then}, {row.then, row.first}} {
				if got := victims(order, row.related, 1, now); got[0] != row.first {
					t.Errorf("got %s, want %s", got[0].Key.Name, row.first.Key.Name)
				}
			}
		})
	}
}

func TestVictimsLeavePodsThatAreGoingAnyway(t *testing.T) {
	going := &pods.Pod{UID: "a", Deleting: true}
	failed := &pods.Pod{UID: "b", Phase: corev1.PodFailed}
	runs := &pods.Pod{UID: "c", Phase: corev1.PodRunning}
	if got := victims([]*pods.Pod{going, failed, runs}, nil, 3, now); !slices.Equal(got, []*pods.Pod{runs}) {
		t.Errorf("got %v, want only the running pod", got)
	}
}

func TestReplicaSetKeepsOrphansItMatches(t *testing.T) {
	sel := labels.SelectorFromSet(labels.Set{"app": "web"})
	stray := &pods.Pod{UID: "stray", Phase: corev1.PodRunning}
	done := &pods.Pod{UID: "done", Phase: corev1.PodSucceeded}
	own := &pods.Pod{UID: "own", Labels: pods.MakeLabels(map[string]string{"app": "web"})}
	relabeled := &pods.Pod{UID: "relabeled", Labels: pods.MakeLabels(map[string]string{"app": "debug"})}
	adopt, release := claims(set(1), sel, []*pods.Pod{stray, done}, []*pods.Pod{own, relabeled})
	if !slices.Equal(adopt, []*pods.Pod{stray}) {
		t.Errorf("got adopted %v, want the running stray", adopt)
	}
	if !slices.Equal(release, []*pods.Pod{relabeled}) {
		t.Errorf("got released %v, want the relabeled pod", release)
	}
	deleted := set(1)
	deleted.DeletionTimestamp = &metav1.Time{Time: now}
	if adopt, release := claims(deleted, sel, []*pods.Pod{stray}, []*pods.Pod{relabeled}); adopt != nil || release != nil {
		t.Errorf("got %v, %v from a ReplicaSet that is being deleted, want nothing", adopt, release)
	}
}

func TestStatusCountsWhatThePodsAre(t *testing.T) {
	web, odd := pods.MakeLabels(map[string]string{"app": "web"}), pods.MakeLabels(map[string]string{"app": "odd"})
	s, _ := status(set(5), pods.Tally{Active: 4, Ready: 3, Terminating: 1, Labels: map[pods.Labels]int{web: 3, odd: 1}}, nil, nil, now)
	if s.Replicas != 4 || s.ReadyReplicas != 3 || s.AvailableReplicas != 3 || s.FullyLabeledReplicas != 3 || *s.TerminatingReplicas != 1 || s.ObservedGeneration != 3 {
		t.Errorf("got %+v", s)
	}
}

func TestPodIsAvailableAfterMinReadySeconds(t *testing.T) {
	rs := set(2)
	rs.Spec.MinReadySeconds = 30
	own := []*pods.Pod{
		{UID: "a", Phase: corev1.PodRunning, Ready: true, ReadySince: now.Add(-time.Minute)},
		{UID: "b", Phase: corev1.PodRunning, Ready: true, ReadySince: now.Add(-10 * time.Second)},
	}
	s, again := status(rs, pods.Tally{Active: 2, Ready: 2}, own, nil, now)
	if s.AvailableReplicas != 1 || again != 20*time.Second {
		t.Errorf("got %d available, again in %v, want 1, 20s", s.AvailableReplicas, again)
	}
}

func TestFailureBecomesAConditionAndGoesAway(t *testing.T) {
	rs := set(2)
	rs.Status, _ = status(rs, pods.Tally{}, nil, errors.New("quota"), now)
	c := rs.Status.Conditions
	if len(c) != 1 || c[0].Type != appsv1.ReplicaSetReplicaFailure || c[0].Reason != "FailedCreate" || c[0].Message != "quota" {
		t.Fatalf("got %+v, want ReplicaFailure FailedCreate quota", c)
	}
	rs.Status, _ = status(rs, pods.Tally{Active: 2}, nil, nil, now)
	if len(rs.Status.Conditions) != 0 {
		t.Errorf("got %+v, want none", rs.Status.Conditions)
	}
}
