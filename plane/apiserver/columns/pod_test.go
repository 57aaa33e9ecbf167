package columns_test

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"copepod/plane/apiserver/columns"
)

var now = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)

func ago(d time.Duration) metav1.Time { return metav1.NewTime(now.Add(-d)) }

// Containers in the states that a status may show.
var (
	runningReady = corev1.ContainerStatus{Name: "a", Ready: true, State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}}
	creating     = waiting("ContainerCreating")
	crashing     = waiting("CrashLoopBackOff")
	completed    = terminated(corev1.ContainerStateTerminated{Reason: "Completed"})
)

func waiting(reason string) corev1.ContainerStatus {
	return corev1.ContainerStatus{Name: "a", State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason}}}
}

func terminated(t corev1.ContainerStateTerminated) corev1.ContainerStatus {
	return corev1.ContainerStatus{Name: "a", State: corev1.ContainerState{Terminated: &t}}
}

func restarted(c corev1.ContainerStatus, count int32, last time.Duration) corev1.ContainerStatus {
	c.RestartCount = count
	c.LastTerminationState.Terminated = &corev1.ContainerStateTerminated{FinishedAt: ago(last)}
	return c
}

func podWith(phase corev1.PodPhase, statuses ...corev1.ContainerStatus) *corev1.Pod {
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "web", CreationTimestamp: ago(90 * time.Second)},
		Status:     corev1.PodStatus{Phase: phase, ContainerStatuses: statuses},
	}
	p.Spec.Containers = make([]corev1.Container, max(1, len(statuses)))
	return p
}

func podWithInit(statuses ...corev1.ContainerStatus) *corev1.Pod {
	p := podWith(corev1.PodPending, waiting("PodInitializing"))
	p.Spec.InitContainers = make([]corev1.Container, len(statuses))
	p.Status.InitContainerStatuses = statuses
	return p
}

func change(p *corev1.Pod, f func(*corev1.Pod)) *corev1.Pod {
	f(p)
	return p
}

func TestPodStatusIsTheMostPreciseWordForWhatGoesOn(t *testing.T) {
	always := corev1.ContainerRestartPolicyAlways
	yes := true
	for _, row := range []struct {
		name                    string
		pod                     *corev1.Pod
		ready, status, restarts string
	}{
		{"just made", podWith(corev1.PodPending), "0/1", "Pending", "0"},
		{"held by a gate", change(podWith(corev1.PodPending), func(p *corev1.Pod) {
			p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodScheduled, Reason: "SchedulingGated"}}
		}), "0/1", "SchedulingGated", "0"},
		{"container on its way", podWith(corev1.PodPending, creating), "0/1", "ContainerCreating", "0"},
		{"image missing", podWith(corev1.PodPending, waiting("ImagePullBackOff")), "0/1", "ImagePullBackOff", "0"},
		{"running", podWith(corev1.PodRunning, runningReady), "1/1", "Running", "0"},
		{"running, restarted before", podWith(corev1.PodRunning, restarted(runningReady, 3, 5*time.Minute)), "1/1", "Running", "3 (5m ago)"},
		{"crashing", podWith(corev1.PodRunning, restarted(crashing, 1, time.Second)), "0/1", "CrashLoopBackOff", "1 (1s ago)"},
		{"restarted, nobody knows when", podWith(corev1.PodRunning, corev1.ContainerStatus{RestartCount: 2}), "0/1", "Running", "2"},
		{"the first container has the word", podWith(corev1.PodRunning, crashing, waiting("ErrImagePull")), "0/2", "CrashLoopBackOff", "0"},
		{"done", podWith(corev1.PodSucceeded, completed), "0/1", "Completed", "0"},
		{"one done, one ready", change(podWith(corev1.PodRunning, completed, runningReady), func(p *corev1.Pod) {
			p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
		}), "1/2", "Running", "0"},
		{"one done, pod not ready", podWith(corev1.PodRunning, completed, runningReady), "1/2", "NotReady", "0"},
		{"failed", podWith(corev1.PodFailed, terminated(corev1.ContainerStateTerminated{Reason: "Error", ExitCode: 1})), "0/1", "Error", "0"},
		{"failed with a code only", podWith(corev1.PodFailed, terminated(corev1.ContainerStateTerminated{ExitCode: 3})), "0/1", "ExitCode:3", "0"},
		{"killed by a signal", podWith(corev1.PodFailed, terminated(corev1.ContainerStateTerminated{Signal: 9})), "0/1", "Signal:9", "0"},
		{"evicted", change(podWith(corev1.PodFailed), func(p *corev1.Pod) { p.Status.Reason = "Evicted" }), "0/1", "Evicted", "0"},
		{"going", change(podWith(corev1.PodRunning, runningReady), func(p *corev1.Pod) { d := ago(0); p.DeletionTimestamp = &d }), "1/1", "Terminating", "0"},
		{"gone, record kept", change(podWith(corev1.PodSucceeded, completed), func(p *corev1.Pod) { d := ago(0); p.DeletionTimestamp = &d }), "0/1", "Completed", "0"},
		{"on a lost node", change(podWith(corev1.PodRunning, runningReady), func(p *corev1.Pod) {
			d := ago(0)
			p.DeletionTimestamp, p.Status.Reason = &d, "NodeLost"
		}), "1/1", "Unknown", "0"},
		{"first of two init containers", podWithInit(corev1.ContainerStatus{}, corev1.ContainerStatus{}), "0/1", "Init:0/2", "0"},
		{"second of two init containers", podWithInit(completed, waiting("PodInitializing")), "0/1", "Init:1/2", "0"},
		{"init container crashing", podWithInit(restarted(crashing, 2, time.Minute)), "0/1", "Init:CrashLoopBackOff", "2 (60s ago)"},
		{"init container failed", podWithInit(terminated(corev1.ContainerStateTerminated{Reason: "Error", ExitCode: 1})), "0/1", "Init:Error", "0"},
		{"init container failed with a code only", podWithInit(terminated(corev1.ContainerStateTerminated{ExitCode: 1})), "0/1", "Init:ExitCode:1", "0"},
		{"init containers done", podWithInit(completed), "0/1", "PodInitializing", "0"},
		{"with a sidecar", change(podWith(corev1.PodRunning, restarted(runningReady, 1, time.Hour)), func(p *corev1.Pod) {
			p.Spec.InitContainers = []corev1.Container{{Name: "side", RestartPolicy: &always}}
			side := restarted(runningReady, 2, time.Minute)
			side.Name, side.Started = "side", &yes
			p.Status.InitContainerStatuses = []corev1.ContainerStatus{side}
		}), "2/2", "Running", "3 (60s ago)"},
	} {
		t.Run(row.name, func(t *testing.T) {
			c, ok := columns.For(schema.GroupKind{Kind: "Pod"})
			if !ok {
				t.Fatal("pods have no table")
			}
			cells := c.Row(row.pod, now)
			for i, want := range []string{"web", row.ready, row.status, row.restarts, "90s"} {
				if cells[i] != want {
					t.Errorf("%s: got %q, want %q", c.Definitions[i].Name, cells[i], want)
				}
			}
		})
	}
}

func TestWidePodRowsTellWhereThePodIs(t *testing.T) {
	c, _ := columns.For(schema.GroupKind{Kind: "Pod"})
	p := podWith(corev1.PodRunning, runningReady)
	check := func(want ...any) {
		t.Helper()
		for i, cell := range c.Row(p, now)[5:] {
			if cell != want[i] {
				t.Errorf("%s: got %v, want %v", c.Definitions[5+i].Name, cell, want[i])
			}
		}
	}
	check("<none>", "<none>", "<none>", "<none>")
	p.Spec.NodeName, p.Status.NominatedNodeName = "n1", "n2"
	p.Status.PodIPs = []corev1.PodIP{{IP: "10.0.0.1"}, {IP: "fd00::1"}}
	p.Spec.ReadinessGates = []corev1.PodReadinessGate{{ConditionType: "a"}, {ConditionType: "b"}}
	p.Status.Conditions = []corev1.PodCondition{{Type: "b", Status: corev1.ConditionTrue}}
	check("10.0.0.1", "n1", "n2", "1/2")
}
