package deployment

import (
	"fmt"
	"math"
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// situation is all that a plan depends on.
type situation struct {
	deployment *appsv1.Deployment
	sets       []*appsv1.ReplicaSet // the Deployment's own
	// pods tells how many pods of a ReplicaSet have not finished yet, those being
	// deleted included. Recreate waits for them.
	pods func(*appsv1.ReplicaSet) int
	now  time.Time
}

// steps is what to do, in this order.
type steps struct {
	create   *appsv1.ReplicaSet
	update   []*appsv1.ReplicaSet // changed copies
	remove   []*appsv1.ReplicaSet
	revision string // annotation for the Deployment; "" leaves it
	status   appsv1.DeploymentStatus
	events   []event
	after    time.Duration // look again then, if above zero
}

type event struct{ reason, message string }

// planner works on private copies of the ReplicaSets, so that each decision sees
// the ones before it.
type planner struct {
	situation
	d     *appsv1.Deployment // copy; its status gathers conditions
	fresh *appsv1.ReplicaSet // of the present template; nil when there is none
	old   []*appsv1.ReplicaSet
	dirty map[*appsv1.ReplicaSet]bool
	steps steps
}

// plan decides the next steps of a Deployment. It makes at most one move of a
// rollout: the status of the ReplicaSets tells when the next is safe.
func plan(s situation) steps {
	p := &planner{situation: s, d: s.deployment.DeepCopy(), dirty: map[*appsv1.ReplicaSet]bool{}}
	p.split()
	if p.d.DeletionTimestamp == nil {
		p.move()
	}
	p.finish()
	return p.steps
}

func (p *planner) move() {
	p.pauseConditions()
	switch {
	case p.d.Spec.Paused, p.resized():
		p.adoptRevision()
		p.scale()
		if p.d.Spec.Paused {
			p.trimHistory()
		}
	case p.d.Spec.Strategy.Type == appsv1.RecreateDeploymentStrategyType:
		p.recreate()
	default:
		p.roll()
	}
}

// split copies the ReplicaSets and tells the fresh one from the old.
func (p *planner) split() {
	copies := make([]*appsv1.ReplicaSet, len(p.sets))
	for i, rs := range p.sets {
		copies[i] = rs.DeepCopy()
	}
	p.fresh = newest(p.d, copies)
	for _, rs := range byAge(copies) {
		if rs != p.fresh {
			p.old = append(p.old, rs)
		}
	}
}

// all is every ReplicaSet, the fresh one last.
func (p *planner) all() []*appsv1.ReplicaSet {
	if p.fresh == nil {
		return p.old
	}
	return append(slices.Clip(p.old), p.fresh)
}

// nextRevision is one above that of the old ReplicaSets.
func (p *planner) nextRevision() int64 {
	var top int64
	for _, rs := range p.old {
		top = max(top, revision(rs))
	}
	return top + 1
}

// adoptRevision brings annotations of an existing fresh ReplicaSet up to date.
func (p *planner) adoptRevision() {
	if p.fresh == nil {
		return
	}
	changed := annotate(p.d, p.fresh, p.nextRevision(), false)
	if p.fresh.Spec.MinReadySeconds != p.d.Spec.MinReadySeconds {
		p.fresh.Spec.MinReadySeconds = p.d.Spec.MinReadySeconds
		changed = true
	}
	if changed {
		p.dirty[p.fresh] = true
	}
	p.steps.revision = p.fresh.Annotations[annotationRevision]
	if hasDeadline(p.d) && find(p.d.Status.Conditions, appsv1.DeploymentProgressing) == nil {
		p.progressing(corev1.ConditionTrue, "FoundNewReplicaSet", "Found new replica set %q", p.fresh.Name)
	}
}

// ensureFresh finds or makes the ReplicaSet of the present template.
func (p *planner) ensureFresh() {
	if p.fresh != nil {
		p.adoptRevision()
		return
	}
	rs := made(p.d, p.nextRevision())
	p.fresh = rs
	setSize(p.d, rs, p.freshSize())
	p.steps.create = rs
	p.steps.revision = rs.Annotations[annotationRevision]
	if *rs.Spec.Replicas > 0 {
		p.event("ScalingReplicaSet", "Scaled up replica set %s from 0 to %d", rs.Name, *rs.Spec.Replicas)
	}
	if hasDeadline(p.d) {
		p.progressing(corev1.ConditionTrue, "NewReplicaSetCreated", "Created new replica set %q", rs.Name)
	}
}

func (p *planner) event(reason, format string, args ...any) {
	p.steps.events = append(p.steps.events, event{reason, fmt.Sprintf(format, args...)})
}

// resize sets the size of a ReplicaSet and says so in an event.
func (p *planner) resize(rs *appsv1.ReplicaSet, n int32) {
	was := *rs.Spec.Replicas
	if !setSize(p.d, rs, n) {
		return
	}
	if rs != p.steps.create {
		p.dirty[rs] = true
	}
	switch {
	case was < n:
		p.event("ScalingReplicaSet", "Scaled up replica set %s from %d to %d", rs.Name, was, n)
	case was > n:
		p.event("ScalingReplicaSet", "Scaled down replica set %s from %d to %d", rs.Name, was, n)
	}
}

// freshSize is how large the fresh ReplicaSet may be now.
func (p *planner) freshSize() int32 {
	size := *p.fresh.Spec.Replicas
	if !rolling(p.d) {
		return *p.d.Spec.Replicas
	}
	room := *p.d.Spec.Replicas + maxSurge(p.d) - sum(p.all(), wanted)
	if room <= 0 {
		return size
	}
	return size + min(room, *p.d.Spec.Replicas-size)
}

func rolling(d *appsv1.Deployment) bool {
	return d.Spec.Strategy.Type != appsv1.RecreateDeploymentStrategyType
}

// fenceposts resolves maxSurge (rounded up) and maxUnavailable (rounded down);
// if both come to zero a rollout could not move, so one may be unavailable.
func fenceposts(d *appsv1.Deployment) (surge, unavailable int32) {
	if !rolling(d) || *d.Spec.Replicas == 0 {
		return 0, 0
	}
	quarter := intstr.FromString("25%")
	maxSurge, maxUnavailable := &quarter, &quarter
	if r := d.Spec.Strategy.RollingUpdate; r != nil {
		maxSurge, maxUnavailable = or(r.MaxSurge, maxSurge), or(r.MaxUnavailable, maxUnavailable)
	}
	s, err := intstr.GetScaledValueFromIntOrPercent(maxSurge, int(*d.Spec.Replicas), true)
	if err != nil {
		s = 0 // validation keeps this out
	}
	u, err := intstr.GetScaledValueFromIntOrPercent(maxUnavailable, int(*d.Spec.Replicas), false)
	if err != nil {
		u = 0
	}
	if s == 0 && u == 0 {
		u = 1
	}
	return int32(s), min(int32(u), *d.Spec.Replicas)
}

func or(v, otherwise *intstr.IntOrString) *intstr.IntOrString {
	if v == nil {
		return otherwise
	}
	return v
}

func maxSurge(d *appsv1.Deployment) int32       { s, _ := fenceposts(d); return s }
func maxUnavailable(d *appsv1.Deployment) int32 { _, u := fenceposts(d); return u }

// trimHistory removes old, empty ReplicaSets above the history limit, those of
// the lowest revision first.
func (p *planner) trimHistory() {
	limit := p.d.Spec.RevisionHistoryLimit
	if limit == nil || *limit == math.MaxInt32 {
		return
	}
	alive := slices.DeleteFunc(slices.Clone(p.old), func(rs *appsv1.ReplicaSet) bool { return rs.DeletionTimestamp != nil })
	slices.SortStableFunc(alive, func(a, b *appsv1.ReplicaSet) int { return int(revision(a) - revision(b)) })
	for _, rs := range alive[:max(0, len(alive)-int(*limit))] {
		if rs.Status.Replicas == 0 && *rs.Spec.Replicas == 0 && rs.Generation <= rs.Status.ObservedGeneration {
			p.steps.remove = append(p.steps.remove, rs)
		}
	}
}
