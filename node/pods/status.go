package pods

import (
	"strings"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"copepod/node/probe"
)

// status is what the API is told of a pod. before is what it was told last, for
// the times at which conditions changed.
func (s *state) status(before *v1.PodStatus, hostIP string, now time.Time) v1.PodStatus {
	out := v1.PodStatus{
		ObservedGeneration: s.pod.Generation,
		HostIP:             hostIP,
		HostIPs:            []v1.HostIP{{IP: hostIP}},
		StartTime:          stamp(s.since),
		QOSClass:           s.pod.Status.QOSClass,
	}
	if out.QOSClass == "" {
		out.QOSClass = qosClass(s.pod)
	}
	if s.sandbox.ip.IsValid() && (s.sandbox.step == up || s.pod.Status.PodIP != "") {
		out.PodIP = s.sandbox.ip.String()
		out.PodIPs = []v1.PodIP{{IP: out.PodIP}}
	}
	for i := range s.containers {
		c := &s.containers[i]
		if cs := s.containerStatus(c); c.role == mainRole {
			out.ContainerStatuses = append(out.ContainerStatuses, cs)
		} else {
			out.InitContainerStatuses = append(out.InitContainerStatuses, cs)
		}
	}
	if s.verdict != nil {
		out.Reason, out.Message = s.verdict.reason, s.verdict.message
	}
	out.Phase = s.phase()
	out.Conditions = s.conditions(out.Phase, before, now)
	return out
}

func stamp(t time.Time) *metav1.Time {
	m := metav1.NewTime(t).Rfc3339Copy()
	return &m
}

// containerStatus is what is told of one container.
func (s *state) containerStatus(c *container) v1.ContainerStatus {
	out := v1.ContainerStatus{
		Name: c.spec.Name, RestartCount: c.restarts,
		Image: c.spec.Image, ImageID: c.image.ID, ContainerID: c.id,
	}
	started := c.started()
	out.Started = &started
	switch {
	case c.step == running || c.step == stopping:
		out.State.Running = &v1.ContainerStateRunning{StartedAt: *stamp(c.startedAt)}
		out.LastTerminationState.Terminated = c.last
		out.Ready = c.ready()
	case c.fault.reason != "" && !s.over():
		out.State.Waiting = &v1.ContainerStateWaiting{Reason: c.fault.reason, Message: c.fault.message}
		out.LastTerminationState.Terminated = c.exit
	case c.exit != nil:
		out.State.Terminated = c.exit
		out.LastTerminationState.Terminated = c.last
		out.Ready = c.role == initRole && c.exit.ExitCode == 0
	default:
		reason := reasonCreating
		if len(s.pod.Spec.InitContainers) > 0 && (c.role == mainRole || c != s.firstInit()) {
			reason = reasonInitializing
		}
		out.State.Waiting = &v1.ContainerStateWaiting{Reason: reason}
	}
	return out
}

// firstInit is the init container whose turn it is.
func (s *state) firstInit() *container {
	for i := range s.containers {
		c := &s.containers[i]
		if c.role == mainRole {
			return nil
		}
		if c.role == initRole && !(c.step == exited && !s.restarts(c)) || c.role == sidecarRole && !c.beenUp {
			return c
		}
	}
	return nil
}

// over says that the pod is ending or has ended.
func (s *state) over() bool {
	_, ending := s.ending()
	return ending
}

// phase sums a pod up, as the kubelet does.
func (s *state) phase() v1.PodPhase {
	var waits, runs, stopped, succeeded, initializing int
	failed := s.verdict != nil
	for i := range s.containers {
		c := &s.containers[i]
		live := c.step == running || c.step == stopping
		switch {
		case c.role == initRole && !(c.step == exited && c.exit.ExitCode == 0):
			failed = failed || c.step == exited && !s.restarts(c)
			initializing++
		case c.role == sidecarRole && !c.beenUp:
			initializing++
		case c.role != mainRole:
		case live:
			runs++
		case c.exit != nil:
			stopped++
			if c.exit.ExitCode == 0 {
				succeeded++
			}
		default:
			waits++
		}
	}
	switch {
	case failed && s.settled():
		return v1.PodFailed
	case s.over() && runs == 0 && stopped > 0 && s.settled():
		if stopped == succeeded {
			return v1.PodSucceeded
		}
		return v1.PodFailed
	case initializing > 0 && runs == 0 && stopped == 0, waits > 0:
		return v1.PodPending
	case runs == 0 && stopped == 0:
		return v1.PodPending
	}
	return v1.PodRunning
}

// settled says that no program of the pod is left, sidecars included.
func (s *state) settled() bool {
	for i := range s.containers {
		switch s.containers[i].step {
		case waiting, pulled, exited:
		default:
			return false
		}
	}
	return true
}

// conditions are the node's conditions of a pod, in the order that people know.
func (s *state) conditions(phase v1.PodPhase, before *v1.PodStatus, now time.Time) []v1.PodCondition {
	network := v1.PodCondition{Type: v1.PodReadyToStartContainers, Status: v1.ConditionFalse}
	if s.sandbox.step == up {
		network.Status = v1.ConditionTrue
	}
	containers := s.containersReady(phase)
	all := []v1.PodCondition{
		network,
		s.initialized(phase),
		s.podReady(containers),
		containers,
		{Type: v1.PodScheduled, Status: v1.ConditionTrue},
	}
	for i := range all {
		c := &all[i]
		c.ObservedGeneration = s.pod.Generation
		c.LastTransitionTime = *stamp(now)
		for j := range before.Conditions {
			if old := &before.Conditions[j]; old.Type == c.Type && old.Status == c.Status && !old.LastTransitionTime.IsZero() {
				c.LastTransitionTime = old.LastTransitionTime
			}
		}
	}
	return all
}

const (
	reasonPodCompleted = "PodCompleted"
	reasonPodFailed    = "PodFailed"
)

func (s *state) initialized(phase v1.PodPhase) v1.PodCondition {
	out := v1.PodCondition{Type: v1.PodInitialized, Status: v1.ConditionTrue}
	var unready []string
	for i := range s.containers {
		c := &s.containers[i]
		if c.role == initRole && !(c.step == exited && c.exit.ExitCode == 0) || c.role == sidecarRole && !c.beenUp {
			unready = append(unready, c.spec.Name)
		}
	}
	switch {
	case phase == v1.PodSucceeded:
		out.Reason = reasonPodCompleted
	case len(unready) > 0:
		out.Status, out.Reason = v1.ConditionFalse, "ContainersNotInitialized"
		out.Message = "containers with incomplete status: [" + strings.Join(unready, " ") + "]"
	}
	return out
}

func (s *state) containersReady(phase v1.PodPhase) v1.PodCondition {
	out := v1.PodCondition{Type: v1.ContainersReady, Status: v1.ConditionTrue}
	var unready []string
	for i := range s.containers {
		if c := &s.containers[i]; c.role != initRole && !c.ready() {
			unready = append(unready, c.spec.Name)
		}
	}
	switch {
	case phase == v1.PodSucceeded:
		out.Status, out.Reason = v1.ConditionFalse, reasonPodCompleted
	case phase == v1.PodFailed:
		out.Status, out.Reason = v1.ConditionFalse, reasonPodFailed
	case len(unready) > 0:
		out.Status, out.Reason = v1.ConditionFalse, "ContainersNotReady"
		out.Message = "containers with unready status: [" + strings.Join(unready, " ") + "]"
	}
	return out
}

// podReady is ContainersReady and the pod's readiness gates.
func (s *state) podReady(containers v1.PodCondition) v1.PodCondition {
	out := containers
	out.Type = v1.PodReady
	if containers.Status != v1.ConditionTrue {
		return out
	}
	var messages []string
	for _, gate := range s.pod.Spec.ReadinessGates {
		message := `corresponding condition of pod readiness gate "` + string(gate.ConditionType) + `" does not exist.`
		for i := range s.pod.Status.Conditions {
			if c := &s.pod.Status.Conditions[i]; c.Type == gate.ConditionType {
				message = ""
				if c.Status != v1.ConditionTrue {
					message = `the status of pod readiness gate "` + string(gate.ConditionType) + `" is not "True", but ` + string(c.Status)
				}
			}
		}
		if message != "" {
			messages = append(messages, message)
		}
	}
	if len(messages) > 0 {
		out.Status, out.Reason, out.Message = v1.ConditionFalse, "ReadinessGatesNotReady", strings.Join(messages, ", ")
	}
	return out
}

// urgent says whether others act on the difference between two statuses.
func urgent(before, now *v1.PodStatus) bool {
	if now.Phase != v1.PodPending || before.Phase != now.Phase {
		return before.Phase != "" || now.Phase != v1.PodPending
	}
	for _, list := range [][]v1.ContainerStatus{now.InitContainerStatuses, now.ContainerStatuses} {
		for i := range list {
			w := list[i].State.Waiting
			if w == nil || (w.Reason != reasonCreating && w.Reason != reasonInitializing) {
				return true
			}
		}
	}
	return false
}

// qosClass is the quality of service that a pod's resources ask for.
func qosClass(pod *v1.Pod) v1.PodQOSClass {
	any, guaranteed := false, true
	check := func(c *v1.Container) {
		for _, name := range []v1.ResourceName{v1.ResourceCPU, v1.ResourceMemory} {
			request, limit := c.Resources.Requests[name], c.Resources.Limits[name]
			any = any || !request.IsZero() || !limit.IsZero()
			if limit.IsZero() || (!request.IsZero() && !equal(request, limit)) {
				guaranteed = false
			}
		}
	}
	for i := range pod.Spec.InitContainers {
		check(&pod.Spec.InitContainers[i])
	}
	for i := range pod.Spec.Containers {
		check(&pod.Spec.Containers[i])
	}
	switch {
	case !any:
		return v1.PodQOSBestEffort
	case guaranteed:
		return v1.PodQOSGuaranteed
	}
	return v1.PodQOSBurstable
}

func equal(a, b resource.Quantity) bool { return a.Cmp(b) == 0 }

// observe counts what a probe found; true when that changed its verdict.
func (c *container) observe(k probe.Kind, o probe.Outcome, now time.Time) bool {
	before := c.probes[k]
	c.probing[k] = false
	c.probes[k] = before.Observe(o, now)
	c.mark()
	return c.probes[k].OK != before.OK
}
