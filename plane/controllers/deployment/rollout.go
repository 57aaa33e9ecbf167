package deployment

import (
	"math"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
)

// roll makes one move of a rolling update: up with the fresh ReplicaSet, else
// down with the old ones, else history.
func (p *planner) roll() {
	p.ensureFresh()
	if p.growFresh() || p.shrinkOld() {
		return
	}
	if complete(p.d, &p.d.Status) {
		p.trimHistory()
	}
}

func (p *planner) growFresh() bool {
	want := *p.d.Spec.Replicas
	if *p.fresh.Spec.Replicas == want {
		return false
	}
	if *p.fresh.Spec.Replicas < want {
		want = p.freshSize()
	}
	moved := *p.fresh.Spec.Replicas != want
	if moved {
		p.resize(p.fresh, want)
	}
	return moved
}

// shrinkOld scales old ReplicaSets down as far as availability allows: first
// pods that serve nobody, then those that fresh ones have replaced.
func (p *planner) shrinkOld() bool {
	if sum(p.old, wanted) == 0 {
		return false
	}
	least := *p.d.Spec.Replicas - maxUnavailable(p.d)
	freshMissing := *p.fresh.Spec.Replicas - p.fresh.Status.AvailableReplicas
	budget := sum(p.all(), wanted) - least - freshMissing
	if budget <= 0 {
		return false
	}
	moved := false
	for _, rs := range active(p.old) {
		sick := min(budget, *rs.Spec.Replicas-rs.Status.AvailableReplicas)
		if sick > 0 {
			p.resize(rs, *rs.Spec.Replicas-sick)
			budget -= sick
			moved = true
		}
	}
	spare := sum(p.all(), availableOf) - least
	for _, rs := range active(p.old) {
		n := min(spare, *rs.Spec.Replicas)
		if n > 0 {
			p.resize(rs, *rs.Spec.Replicas-n)
			spare -= n
			moved = true
		}
	}
	return moved
}

// recreate takes everything old away before anything fresh comes.
func (p *planner) recreate() {
	if p.fresh != nil {
		p.adoptRevision()
	}
	if olds := active(p.old); len(olds) > 0 {
		for _, rs := range olds {
			p.resize(rs, 0)
		}
		return
	}
	for _, rs := range p.old {
		if rs.Status.Replicas > 0 || p.pods(rs) > 0 {
			return
		}
	}
	p.ensureFresh()
	p.resize(p.fresh, *p.d.Spec.Replicas)
	if complete(p.d, &p.d.Status) {
		p.trimHistory()
	}
}

// resized tells whether the Deployment's size changed since its ReplicaSets were
// last sized. Then they are scaled before any rollout goes on.
func (p *planner) resized() bool {
	for _, rs := range active(p.all()) {
		if desired, ok := number(rs, annotationDesired); ok && desired != *p.d.Spec.Replicas {
			return true
		}
	}
	return false
}

// scale spreads the Deployment's size over its ReplicaSets without rolling.
func (p *planner) scale() {
	if rs := p.only(); rs != nil {
		if *rs.Spec.Replicas != *p.d.Spec.Replicas {
			p.resize(rs, *p.d.Spec.Replicas)
		}
		return
	}
	if p.saturated() {
		for _, rs := range active(p.old) {
			p.resize(rs, 0)
		}
		return
	}
	if rolling(p.d) {
		p.scaleInProportion()
	}
}

// only is the one ReplicaSet that carries the size: the only active one, or the
// latest when none is. Nil when several share it.
func (p *planner) only() *appsv1.ReplicaSet {
	switch busy := active(p.all()); {
	case len(busy) == 1:
		return busy[0]
	case len(busy) > 1:
		return nil
	case p.fresh != nil:
		return p.fresh
	case len(p.old) > 0:
		return p.old[len(p.old)-1]
	}
	return nil
}

func (p *planner) saturated() bool {
	if p.fresh == nil {
		return false
	}
	desired, ok := number(p.fresh, annotationDesired)
	want := *p.d.Spec.Replicas
	return ok && desired == want && *p.fresh.Spec.Replicas == want && p.fresh.Status.AvailableReplicas == want
}

// scaleInProportion shares a change of size among the active ReplicaSets by
// their present share; the largest takes what rounding leaves.
func (p *planner) scaleInProportion() {
	sets := active(p.all())
	var allowed int32
	if *p.d.Spec.Replicas > 0 {
		allowed = *p.d.Spec.Replicas + maxSurge(p.d)
	}
	change := allowed - sum(sets, wanted)
	slices.SortStableFunc(sets, func(a, b *appsv1.ReplicaSet) int {
		if d := int(*b.Spec.Replicas - *a.Spec.Replicas); d != 0 {
			return d
		}
		age := a.CreationTimestamp.Compare(b.CreationTimestamp.Time)
		if change > 0 {
			return -age // growth goes to newer ones
		}
		return age
	})
	sizes := make([]int32, len(sets))
	var done int32
	for i, rs := range sets {
		part := p.proportion(rs, change, done)
		sizes[i] = *rs.Spec.Replicas + part
		done += part
	}
	for i, rs := range sets {
		if i == 0 {
			sizes[0] = max(0, sizes[0]+change-done)
		}
		p.resize(rs, sizes[i])
	}
}

func (p *planner) proportion(rs *appsv1.ReplicaSet, change, done int32) int32 {
	if change == 0 || change == done || *rs.Spec.Replicas == 0 {
		return 0
	}
	part, left := p.share(rs), change-done
	if change > 0 {
		return min(part, left)
	}
	return max(part, left)
}

// share is how much rs would change if it kept its part of the whole.
func (p *planner) share(rs *appsv1.ReplicaSet) int32 {
	if *p.d.Spec.Replicas == 0 {
		return -*rs.Spec.Replicas
	}
	before, ok := number(rs, annotationMax)
	if !ok || before == 0 {
		if before = p.d.Status.Replicas; before == 0 {
			return 0
		}
	}
	size := float64(*rs.Spec.Replicas) * float64(*p.d.Spec.Replicas+maxSurge(p.d)) / float64(before)
	return int32(math.Round(size)) - *rs.Spec.Replicas
}
