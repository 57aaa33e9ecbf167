package deployment

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

var now = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

type option func(*appsv1.Deployment)

func deployment(replicas int32, opts ...option) *appsv1.Deployment {
	deadline, history := int32(600), int32(10)
	d := &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web", UID: "d", Generation: 1},
		Spec: appsv1.DeploymentSpec{
			Replicas: &replicas, ProgressDeadlineSeconds: &deadline, RevisionHistoryLimit: &history,
			Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}},
			Template: template("v2"), Strategy: appsv1.DeploymentStrategy{Type: appsv1.RollingUpdateDeploymentStrategyType},
		},
	}
	for _, o := range opts {
		o(d)
	}
	return d
}

func template(image string) corev1.PodTemplateSpec {
	return corev1.PodTemplateSpec{
		ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": "web"}},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "web", Image: image}}},
	}
}

func limits(surge, unavailable string) option {
	return func(d *appsv1.Deployment) {
		s, u := intstr.Parse(surge), intstr.Parse(unavailable)
		d.Spec.Strategy.RollingUpdate = &appsv1.RollingUpdateDeployment{MaxSurge: &s, MaxUnavailable: &u}
	}
}

func paused(d *appsv1.Deployment)   { d.Spec.Paused = true }
func recreate(d *appsv1.Deployment) { d.Spec.Strategy.Type = appsv1.RecreateDeploymentStrategyType }

// replicaSet is a ReplicaSet of d with the image, sized n, of which up are available.
// It is annotated as if d had its present size when it was sized last.
func replicaSet(d *appsv1.Deployment, image string, rev int64, n, up int32) *appsv1.ReplicaSet {
	old := d.DeepCopy()
	old.Spec.Template = template(image)
	rs := made(old, rev)
	setSize(old, rs, n)
	rs.CreationTimestamp = metav1.NewTime(now.Add(time.Duration(rev) * time.Minute))
	rs.Status = appsv1.ReplicaSetStatus{Replicas: n, ReadyReplicas: up, AvailableReplicas: up}
	return rs
}

// moves renders what the steps do to sizes: "v1 10→8".
func moves(before []*appsv1.ReplicaSet, s steps) string {
	was := map[string]int32{}
	for _, rs := range before {
		was[rs.Name] = *rs.Spec.Replicas
	}
	var list []string
	if s.create != nil {
		list = append(list, fmt.Sprintf("%s new→%d", s.create.Spec.Template.Spec.Containers[0].Image, *s.create.Spec.Replicas))
	}
	for _, rs := range s.update {
		if was[rs.Name] != *rs.Spec.Replicas {
			list = append(list, fmt.Sprintf("%s %d→%d", rs.Spec.Template.Spec.Containers[0].Image, was[rs.Name], *rs.Spec.Replicas))
		}
	}
	for _, rs := range s.remove {
		list = append(list, rs.Spec.Template.Spec.Containers[0].Image+" removed")
	}
	slices.Sort(list)
	return strings.Join(list, ", ")
}

func TestRolloutMovesOneSafeStepAtATime(t *testing.T) {
	type size struct {
		image    string
		rev      int64
		size, up int32
	}
	for _, row := range []struct {
		name string
		d    *appsv1.Deployment
		sets []size
		want string
	}{
		{"first ReplicaSet", deployment(10), nil, "v2 new→10"},
		{"of no replicas", deployment(0), nil, "v2 new→0"},
		{"new template: surge of a quarter rounds up", deployment(10), []size{{"v1", 1, 10, 10}}, "v1 10→8, v2 new→3"},
		{"fresh pods not yet up: old ones stay at the least", deployment(10), []size{{"v1", 1, 8, 8}, {"v2", 2, 5, 0}}, ""},
		{"room after old ones left: fresh grows first", deployment(10), []size{{"v1", 1, 8, 8}, {"v2", 2, 3, 0}}, "v2 3→5"},
		{"fresh pods up: old ones go", deployment(10), []size{{"v1", 1, 8, 8}, {"v2", 2, 5, 5}}, "v1 8→3"},
		{"sick old pods go first", deployment(10), []size{{"v1", 1, 10, 6}, {"v2", 2, 3, 0}}, "v1 10→8"},
		{"sick ones of every old ReplicaSet, then one that is spare", deployment(10, limits("30%", "40%")), []size{{"v0", 1, 4, 2}, {"v1", 2, 6, 5}, {"v2", 3, 3, 0}}, "v0 4→1, v1 6→5"},
		{"no surge: old ones make room", deployment(4, limits("0", "1")), []size{{"v1", 1, 4, 4}}, "v1 4→3, v2 new→0"},
		{"no surge: fresh takes the room", deployment(4, limits("0", "1")), []size{{"v1", 1, 3, 3}, {"v2", 2, 0, 0}}, "v2 0→1"},
		{"neither surge nor unavailable: one may be", deployment(4, limits("0", "0")), []size{{"v1", 1, 4, 4}, {"v2", 2, 0, 0}}, "v1 4→3"},
		{"surge only: nothing old goes before its successor is up", deployment(4, limits("1", "0")), []size{{"v1", 1, 4, 4}, {"v2", 2, 1, 0}}, ""},
		{"surge only: one up, one goes", deployment(4, limits("1", "0")), []size{{"v1", 1, 4, 4}, {"v2", 2, 1, 1}}, "v1 4→3"},
		{"rollback: the old template is the fresh one again", deployment(3), []size{{"v2", 1, 0, 0}, {"v3", 2, 3, 3}}, "v2 0→1"},
		{"recreate takes the old away first", deployment(3, recreate), []size{{"v1", 1, 3, 3}}, "v1 3→0"},
		{"recreate then makes the fresh", deployment(3, recreate), []size{{"v1", 1, 0, 0}}, "v2 new→3"},
		{"paused makes nothing", deployment(3, paused), []size{{"v1", 1, 3, 3}}, ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			var sets []*appsv1.ReplicaSet
			for _, s := range row.sets {
				sets = append(sets, replicaSet(row.d, s.image, s.rev, s.size, s.up))
			}
			s := plan(situation{deployment: row.d, sets: sets, now: now, pods: func(*appsv1.ReplicaSet) int { return 0 }})
			if got := moves(sets, s); got != row.want {
				t.Errorf("got %q, want %q", got, row.want)
			}
		})
	}
}

func TestRecreateWaitsForTheLastOldPod(t *testing.T) {
	d := deployment(3, recreate)
	old := replicaSet(d, "v1", 1, 0, 0)
	s := plan(situation{deployment: d, sets: []*appsv1.ReplicaSet{old}, now: now, pods: func(*appsv1.ReplicaSet) int { return 1 }})
	if s.create != nil {
		t.Errorf("got a fresh ReplicaSet while an old pod terminates, want none")
	}
}

func TestResizeInTheMiddleOfARolloutIsProportional(t *testing.T) {
	for _, row := range []struct {
		name     string
		from, to int32
		old, new int32
		want     string
	}{
		{"grow", 10, 15, 8, 5, "v1 8→12, v2 5→7"},
		{"shrink", 10, 5, 8, 5, "v1 8→4, v2 5→3"},
		{"to nothing", 10, 0, 8, 5, "v1 8→0, v2 5→0"},
		{"grow equals: newer first", 10, 20, 5, 5, "v1 5→10, v2 5→15"},
	} {
		t.Run(row.name, func(t *testing.T) {
			before := deployment(row.from)
			sets := []*appsv1.ReplicaSet{replicaSet(before, "v1", 1, row.old, row.old), replicaSet(before, "v2", 2, row.new, 0)}
			s := plan(situation{deployment: deployment(row.to), sets: sets, now: now, pods: func(*appsv1.ReplicaSet) int { return 0 }})
			if got := moves(sets, s); got != row.want {
				t.Errorf("got %q, want %q", got, row.want)
			}
		})
	}
}

func TestPausedDeploymentStillResizes(t *testing.T) {
	sets := []*appsv1.ReplicaSet{replicaSet(deployment(3), "v1", 1, 3, 3)}
	s := plan(situation{deployment: deployment(6, paused), sets: sets, now: now})
	if got, want := moves(sets, s), "v1 3→6"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if c := find(s.status.Conditions, appsv1.DeploymentProgressing); c == nil || c.Reason != "DeploymentPaused" || c.Status != corev1.ConditionUnknown {
		t.Errorf("got %+v, want Progressing Unknown DeploymentPaused", c)
	}
}

func TestHistoryKeepsTheLatestRevisions(t *testing.T) {
	limit := int32(2)
	d := deployment(3, func(d *appsv1.Deployment) { d.Spec.RevisionHistoryLimit = &limit })
	d.Status = appsv1.DeploymentStatus{Replicas: 3, UpdatedReplicas: 3, AvailableReplicas: 3, ObservedGeneration: 1}
	sets := []*appsv1.ReplicaSet{replicaSet(d, "a", 1, 0, 0), replicaSet(d, "b", 4, 0, 0), replicaSet(d, "c", 2, 0, 0), replicaSet(d, "d", 3, 0, 0), replicaSet(d, "v2", 5, 3, 3)}
	s := plan(situation{deployment: d, sets: sets, now: now})
	if got, want := moves(sets, s), "a removed, c removed"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestRollbackTakesTheNextRevisionAndRemembersTheOld(t *testing.T) {
	d := deployment(3)
	sets := []*appsv1.ReplicaSet{replicaSet(d, "v2", 1, 0, 0), replicaSet(d, "v3", 2, 3, 3)}
	s := plan(situation{deployment: d, sets: sets, now: now})
	if s.revision != "3" {
		t.Errorf("got revision %q, want 3", s.revision)
	}
	if a := s.update[0].Annotations; a[annotationRevision] != "3" || a[annotationHistory] != "1" {
		t.Errorf("got annotations %v, want revision 3 and history 1", a)
	}
}

func TestNewReplicaSetCarriesWhatKubectlReads(t *testing.T) {
	d := deployment(4)
	d.Annotations = map[string]string{"kubernetes.io/change-cause": "why", corev1.LastAppliedConfigAnnotation: "{}"}
	rs := plan(situation{deployment: d, now: now}).create
	hash := rs.Labels["pod-template-hash"]
	if hash == "" || rs.Name != "web-"+hash || rs.Spec.Selector.MatchLabels["pod-template-hash"] != hash || rs.Spec.Template.Labels["pod-template-hash"] != hash {
		t.Errorf("got name %s, labels %v, selector %v", rs.Name, rs.Labels, rs.Spec.Selector)
	}
	want := map[string]string{"kubernetes.io/change-cause": "why", annotationRevision: "1", annotationDesired: "4", annotationMax: "5"}
	if fmt.Sprint(rs.Annotations) != fmt.Sprint(want) {
		t.Errorf("got annotations %v, want %v", rs.Annotations, want)
	}
	if again := plan(situation{deployment: d, now: now}).create; again.Name != rs.Name {
		t.Errorf("got names %s and %s for one template", rs.Name, again.Name)
	}
	one := int32(1)
	d.Status.CollisionCount = &one
	if other := plan(situation{deployment: d, now: now}).create; other.Name == rs.Name {
		t.Errorf("got the same name %s after a collision", rs.Name)
	}
}

func TestConditionsTellHowTheRolloutGoes(t *testing.T) {
	progress := func(s appsv1.DeploymentStatus) string {
		c := find(s.Conditions, appsv1.DeploymentProgressing)
		return fmt.Sprintf("%s %s %s", c.Status, c.Reason, c.Message)
	}
	d := deployment(2)
	s := plan(situation{deployment: d, now: now})
	name := s.create.Name
	if got, want := progress(s.status), `True NewReplicaSetCreated Created new replica set "`+name+`"`; got != want {
		t.Fatalf("got %q, want %q", got, want)
	}
	d.Status = s.status
	if s.after != 601*time.Second {
		t.Errorf("got a look again in %v, want one second after the deadline", s.after)
	}
	rs := replicaSet(d, "v2", 1, 2, 1)
	s = plan(situation{deployment: d, sets: []*appsv1.ReplicaSet{rs}, now: now.Add(time.Minute)})
	if got, want := progress(s.status), `True ReplicaSetUpdated ReplicaSet "`+name+`" is progressing.`; got != want {
		t.Fatalf("got %q, want %q", got, want)
	}
	d.Status = s.status
	late := plan(situation{deployment: d, sets: []*appsv1.ReplicaSet{rs}, now: now.Add(time.Hour)})
	if got, want := progress(late.status), `False ProgressDeadlineExceeded ReplicaSet "`+name+`" has timed out progressing.`; got != want {
		t.Fatalf("got %q, want %q", got, want)
	}
	rs.Status.AvailableReplicas, rs.Status.ReadyReplicas = 2, 2
	s = plan(situation{deployment: d, sets: []*appsv1.ReplicaSet{rs}, now: now.Add(time.Hour)})
	if got, want := progress(s.status), `True NewReplicaSetAvailable ReplicaSet "`+name+`" has successfully progressed.`; got != want {
		t.Fatalf("got %q, want %q", got, want)
	}
	if c := find(s.status.Conditions, appsv1.DeploymentAvailable); c.Status != corev1.ConditionTrue || c.Reason != "MinimumReplicasAvailable" {
		t.Errorf("got %+v, want Available", c)
	}
	d.Status = s.status
	again := plan(situation{deployment: d, sets: []*appsv1.ReplicaSet{rs}, now: now.Add(2 * time.Hour)})
	if !equality.Semantic.DeepEqual(again.status, d.Status) {
		t.Errorf("got a new status when nothing changed: %+v, want %+v", again.status, d.Status)
	}
}

func TestReplicaFailureIsPassedOn(t *testing.T) {
	d := deployment(2)
	rs := replicaSet(d, "v2", 1, 2, 0)
	rs.Status.Conditions = []appsv1.ReplicaSetCondition{{Type: appsv1.ReplicaSetReplicaFailure, Status: corev1.ConditionTrue, Reason: "FailedCreate", Message: "quota"}}
	s := plan(situation{deployment: d, sets: []*appsv1.ReplicaSet{rs}, now: now})
	if c := find(s.status.Conditions, appsv1.DeploymentReplicaFailure); c == nil || c.Reason != "FailedCreate" || c.Message != "quota" {
		t.Errorf("got %+v, want ReplicaFailure FailedCreate quota", c)
	}
}

func TestHistoryAnnotationStaysBounded(t *testing.T) {
	history := ""
	for i := range 2000 {
		history = appendHistory(history, fmt.Sprint(i))
	}
	if len(history) > historyLimit || !strings.HasSuffix(history, ",1999") {
		t.Errorf("got %d bytes ending in %q", len(history), history[len(history)-10:])
	}
}
