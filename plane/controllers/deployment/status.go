package deployment

import (
	"fmt"
	"math"
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Reasons of the conditions, as kubectl rollout status reads them.
const (
	reasonAvailable = "NewReplicaSetAvailable"
	reasonTimedOut  = "ProgressDeadlineExceeded"
	reasonPaused    = "DeploymentPaused"
)

func hasDeadline(d *appsv1.Deployment) bool {
	return d.Spec.ProgressDeadlineSeconds != nil && *d.Spec.ProgressDeadlineSeconds != math.MaxInt32
}

func deadline(d *appsv1.Deployment) time.Duration {
	return time.Duration(*d.Spec.ProgressDeadlineSeconds) * time.Second
}

func find(list []appsv1.DeploymentCondition, kind appsv1.DeploymentConditionType) *appsv1.DeploymentCondition {
	for i := range list {
		if list[i].Type == kind {
			return &list[i]
		}
	}
	return nil
}

func drop(list []appsv1.DeploymentCondition, kind appsv1.DeploymentConditionType) []appsv1.DeploymentCondition {
	return slices.DeleteFunc(slices.Clone(list), func(c appsv1.DeploymentCondition) bool { return c.Type == kind })
}

// set enters a condition. One of the same status and reason stays as it is; one
// of the same status keeps its transition time.
func set(s *appsv1.DeploymentStatus, c appsv1.DeploymentCondition) {
	if was := find(s.Conditions, c.Type); was != nil {
		if was.Status == c.Status && was.Reason == c.Reason {
			return
		}
		if was.Status == c.Status {
			c.LastTransitionTime = was.LastTransitionTime
		}
	}
	s.Conditions = append(drop(s.Conditions, c.Type), c)
}

func (p *planner) condition(kind appsv1.DeploymentConditionType, status corev1.ConditionStatus, reason, message string) appsv1.DeploymentCondition {
	now := metav1.NewTime(p.now)
	return appsv1.DeploymentCondition{Type: kind, Status: status, Reason: reason, Message: message, LastUpdateTime: now, LastTransitionTime: now}
}

func (p *planner) progressing(status corev1.ConditionStatus, reason, format string, args ...any) {
	set(&p.d.Status, p.condition(appsv1.DeploymentProgressing, status, reason, fmt.Sprintf(format, args...)))
}

// pauseConditions stops and starts the clock of the progress deadline.
func (p *planner) pauseConditions() {
	if !hasDeadline(p.d) {
		return
	}
	was := find(p.d.Status.Conditions, appsv1.DeploymentProgressing)
	if was != nil && was.Reason == reasonTimedOut {
		return
	}
	paused := was != nil && was.Reason == reasonPaused
	switch {
	case p.d.Spec.Paused && !paused:
		p.progressing(corev1.ConditionUnknown, reasonPaused, "Deployment is paused")
	case !p.d.Spec.Paused && paused:
		p.progressing(corev1.ConditionUnknown, "DeploymentResumed", "Deployment is resumed")
	}
}

// finish turns what was planned into steps and adds the status.
func (p *planner) finish() {
	for _, rs := range p.all() {
		if p.dirty[rs] {
			p.steps.update = append(p.steps.update, rs)
		}
	}
	if p.steps.revision == p.deployment.Annotations[annotationRevision] {
		p.steps.revision = ""
	}
	status := p.counted()
	if p.d.DeletionTimestamp == nil && !p.d.Spec.Paused {
		p.judgeProgress(&status)
	}
	p.steps.status = status
	p.steps.after = p.untilTimeout(&status)
}

// counted adds up the ReplicaSets and judges availability.
func (p *planner) counted() appsv1.DeploymentStatus {
	all := p.all()
	s := *p.d.Status.DeepCopy()
	s.ObservedGeneration = p.d.Generation
	s.Replicas, s.ReadyReplicas, s.AvailableReplicas = sum(all, present), sum(all, ready), sum(all, availableOf)
	s.UpdatedReplicas = 0
	if p.fresh != nil {
		s.UpdatedReplicas = p.fresh.Status.Replicas
	}
	s.UnavailableReplicas = max(0, sum(all, wanted)-s.AvailableReplicas)
	var terminating int32
	for _, rs := range all {
		if rs.Status.TerminatingReplicas != nil {
			terminating += *rs.Status.TerminatingReplicas
		}
	}
	s.TerminatingReplicas = &terminating
	if s.AvailableReplicas >= *p.d.Spec.Replicas-maxUnavailable(p.d) {
		set(&s, p.condition(appsv1.DeploymentAvailable, corev1.ConditionTrue, "MinimumReplicasAvailable", "Deployment has minimum availability."))
	} else {
		set(&s, p.condition(appsv1.DeploymentAvailable, corev1.ConditionFalse, "MinimumReplicasUnavailable", "Deployment does not have minimum availability."))
	}
	return s
}

// complete tells whether every pod is of the present template and available.
func complete(d *appsv1.Deployment, s *appsv1.DeploymentStatus) bool {
	want := *d.Spec.Replicas
	return s.UpdatedReplicas == want && s.Replicas == want && s.AvailableReplicas == want && s.ObservedGeneration >= d.Generation
}

// progressed tells whether the new status is nearer to the goal.
func progressed(was, is *appsv1.DeploymentStatus) bool {
	return is.UpdatedReplicas > was.UpdatedReplicas || is.Replicas-is.UpdatedReplicas < was.Replicas-was.UpdatedReplicas ||
		is.ReadyReplicas > was.ReadyReplicas || is.AvailableReplicas > was.AvailableReplicas
}

func (p *planner) judgeProgress(s *appsv1.DeploymentStatus) {
	was := find(p.d.Status.Conditions, appsv1.DeploymentProgressing)
	if !hasDeadline(p.d) {
		s.Conditions = drop(s.Conditions, appsv1.DeploymentProgressing)
	}
	settled := s.Replicas == s.UpdatedReplicas && was != nil && was.Reason == reasonAvailable
	if hasDeadline(p.d) && !settled {
		p.judgeRollout(s, was)
	}
	s.Conditions = drop(s.Conditions, appsv1.DeploymentReplicaFailure)
	if c := p.replicaFailure(); c != nil {
		if was := find(p.d.Status.Conditions, appsv1.DeploymentReplicaFailure); was != nil && was.Status == c.Status && was.Reason == c.Reason {
			c = was
		}
		s.Conditions = append(s.Conditions, *c)
	}
}

func (p *planner) judgeRollout(s *appsv1.DeploymentStatus, was *appsv1.DeploymentCondition) {
	subject := fmt.Sprintf("Deployment %q", p.d.Name)
	if p.fresh != nil {
		subject = fmt.Sprintf("ReplicaSet %q", p.fresh.Name)
	}
	switch {
	case complete(p.d, s):
		set(s, p.condition(appsv1.DeploymentProgressing, corev1.ConditionTrue, reasonAvailable, subject+" has successfully progressed."))
	case progressed(&p.deployment.Status, s):
		c := p.condition(appsv1.DeploymentProgressing, corev1.ConditionTrue, "ReplicaSetUpdated", subject+" is progressing.")
		if was != nil && was.Status == corev1.ConditionTrue {
			c.LastTransitionTime = was.LastTransitionTime
		}
		// The same reason again must still move LastUpdateTime: it is the clock of
		// the deadline.
		s.Conditions = append(drop(s.Conditions, appsv1.DeploymentProgressing), c)
	case p.timedOut(s):
		set(s, p.condition(appsv1.DeploymentProgressing, corev1.ConditionFalse, reasonTimedOut, subject+" has timed out progressing."))
	}
}

func (p *planner) timedOut(s *appsv1.DeploymentStatus) bool {
	c := find(s.Conditions, appsv1.DeploymentProgressing)
	switch {
	case c == nil, c.Reason == reasonAvailable:
		return false
	case c.Reason == reasonTimedOut:
		return true
	}
	return c.LastUpdateTime.Add(deadline(p.d)).Before(p.now)
}

// untilTimeout is when the deadline has to be judged again.
func (p *planner) untilTimeout(s *appsv1.DeploymentStatus) time.Duration {
	c := find(s.Conditions, appsv1.DeploymentProgressing)
	if !hasDeadline(p.d) || p.d.Spec.Paused || c == nil || c.Reason == reasonTimedOut || complete(p.d, s) {
		return 0
	}
	return max(0, c.LastUpdateTime.Add(deadline(p.d)).Sub(p.now)) + time.Second
}

// replicaFailure passes on why a ReplicaSet cannot make its pods, the fresh one's
// word first.
func (p *planner) replicaFailure() *appsv1.DeploymentCondition {
	sets := slices.Clone(p.all())
	slices.Reverse(sets)
	for _, rs := range sets {
		for _, c := range rs.Status.Conditions {
			if c.Type == appsv1.ReplicaSetReplicaFailure {
				found := p.condition(appsv1.DeploymentReplicaFailure, c.Status, c.Reason, c.Message)
				found.LastUpdateTime, found.LastTransitionTime = c.LastTransitionTime, c.LastTransitionTime
				return &found
			}
		}
	}
	return nil
}
