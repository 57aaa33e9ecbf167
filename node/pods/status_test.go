package pods

import (
	"strings"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func condition(st v1.PodStatus, kind v1.PodConditionType) v1.PodCondition {
	for _, c := range st.Conditions {
		if c.Type == kind {
			return c
		}
	}
	return v1.PodCondition{}
}

func TestPhaseAndReadinessOfAPod(t *testing.T) {
	const always, never, onFailure = v1.RestartPolicyAlways, v1.RestartPolicyNever, v1.RestartPolicyOnFailure
	for _, row := range []struct {
		name   string
		policy v1.RestartPolicy
		of     string
		given  func(s *state)
		phase  v1.PodPhase
		ready  string // status reason message
		waits  string // reason of the last container
	}{
		{"new", always, "app", func(*state) {}, v1.PodPending, "False ContainersNotReady containers with unready status: [app]", "ContainerCreating"},
		{"initializing", always, "i1 app", func(s *state) { at(s, "i1", running) }, v1.PodPending, "False ContainersNotReady containers with unready status: [app]", "PodInitializing"},
		{"running", always, "app", func(s *state) { at(s, "app", running) }, v1.PodRunning, "True  ", ""},
		{"one of two runs", always, "app web", func(s *state) { at(s, "app", running) }, v1.PodPending, "False ContainersNotReady containers with unready status: [web]", "ContainerCreating"},
		{"not ready yet", always, "app", func(s *state) {
			s.pod.Spec.Containers[0].ReadinessProbe = &v1.Probe{}
			at(s, "app", running)
		}, v1.PodRunning, "False ContainersNotReady containers with unready status: [app]", ""},
		{"crashed", always, "app", func(s *state) { ended(at(s, "app", exited), 1) }, v1.PodRunning, "False ContainersNotReady containers with unready status: [app]", ""},
		{"backing off", always, "app", func(s *state) {
			c := at(s, "app", exited)
			ended(c, 1)
			c.fault.reason = reasonCrashLoop
		}, v1.PodRunning, "False ContainersNotReady containers with unready status: [app]", "CrashLoopBackOff"},
		{"no image", always, "app", func(s *state) { at(s, "app", waiting).fault.reason = reasonErrPull }, v1.PodPending, "False ContainersNotReady containers with unready status: [app]", "ErrImagePull"},
		{"succeeded", onFailure, "app", func(s *state) { ended(at(s, "app", exited), 0) }, v1.PodSucceeded, "False PodCompleted ", ""},
		{"failed", never, "app", func(s *state) { ended(at(s, "app", exited), 1) }, v1.PodFailed, "False PodFailed ", ""},
		{"init failed", never, "i1 app", func(s *state) { ended(at(s, "i1", exited), 1) }, v1.PodFailed, "False PodFailed ", "PodInitializing"},
		{"past its deadline, still stopping", always, "app", func(s *state) {
			at(s, "app", stopping)
			s.verdict = &fault{reason: reasonDeadline}
		}, v1.PodRunning, "False ContainersNotReady containers with unready status: [app]", ""},
		{"past its deadline", always, "app", func(s *state) {
			ended(at(s, "app", exited), 137)
			s.verdict = &fault{reason: reasonDeadline}
		}, v1.PodFailed, "False PodFailed ", ""},
		{"deleted and stopped well", always, "app", func(s *state) { ended(at(s, "app", exited), 0); deleted(s, 0) }, v1.PodSucceeded, "False PodCompleted ", ""},
		{"deleted and killed", always, "app", func(s *state) { ended(at(s, "app", exited), 137); deleted(s, 0) }, v1.PodFailed, "False PodFailed ", ""},
		{"a gate that nobody opened", always, "app", func(s *state) {
			at(s, "app", running)
			s.pod.Spec.ReadinessGates = []v1.PodReadinessGate{{ConditionType: "x.io/up"}}
		}, v1.PodRunning, `False ReadinessGatesNotReady corresponding condition of pod readiness gate "x.io/up" does not exist.`, ""},
		{"a gate that is closed", always, "app", func(s *state) {
			at(s, "app", running)
			s.pod.Spec.ReadinessGates = []v1.PodReadinessGate{{ConditionType: "x.io/up"}}
			s.pod.Status.Conditions = []v1.PodCondition{{Type: "x.io/up", Status: v1.ConditionFalse}}
		}, v1.PodRunning, `False ReadinessGatesNotReady the status of pod readiness gate "x.io/up" is not "True", but False`, ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			s := begin(podOf(row.policy, strings.Fields(row.of)...), t0)
			row.given(s)
			st := s.status(&v1.PodStatus{}, "192.0.2.1", t0)
			ready := condition(st, v1.PodReady)
			if got := string(ready.Status) + " " + ready.Reason + " " + ready.Message; st.Phase != row.phase || got != row.ready {
				t.Errorf("got %s, %q, want %s, %q", st.Phase, got, row.phase, row.ready)
			}
			got := ""
			if w := st.ContainerStatuses[len(st.ContainerStatuses)-1].State.Waiting; w != nil {
				got = w.Reason
			}
			if got != row.waits {
				t.Errorf("got last container waiting for %q, want %q", got, row.waits)
			}
		})
	}
}

func TestConditionsKeepTheTimeAtWhichTheyChanged(t *testing.T) {
	s := begin(podOf(v1.RestartPolicyAlways, "app"), t0)
	first := s.status(&v1.PodStatus{}, "h", t0)
	at(s, "app", running)
	second := s.status(&first, "h", t0.Add(time.Minute))
	third := s.status(&second, "h", t0.Add(time.Hour))
	if got, want := condition(third, v1.PodReady).LastTransitionTime, metav1.NewTime(t0.Add(time.Minute)); !got.Equal(&want) {
		t.Errorf("got Ready since %v, want %v", got, want)
	}
	if got, want := condition(third, v1.PodScheduled).LastTransitionTime, metav1.NewTime(t0); !got.Equal(&want) {
		t.Errorf("got PodScheduled since %v, want %v", got, want)
	}
}

func TestOnlyWhatOthersActOnIsUrgent(t *testing.T) {
	s := begin(podOf(v1.RestartPolicyAlways, "app"), t0)
	asked := v1.PodStatus{Phase: v1.PodPending}
	creating := s.status(&asked, "h", t0)
	if urgent(&asked, &creating) {
		t.Error("ContainerCreating is urgent, want it to linger")
	}
	at(s, "app", waiting).fault.reason = reasonErrPull
	failing := s.status(&creating, "h", t0)
	if !urgent(&creating, &failing) {
		t.Error("ErrImagePull lingers, want it urgent")
	}
	at(s, "app", running).fault = fault{}
	up := s.status(&failing, "h", t0)
	if !urgent(&failing, &up) {
		t.Error("Running lingers, want it urgent")
	}
}

func TestQualityOfService(t *testing.T) {
	list := func(cpu, memory string) v1.ResourceList {
		out := v1.ResourceList{}
		if cpu != "" {
			out["cpu"] = resource.MustParse(cpu)
		}
		if memory != "" {
			out["memory"] = resource.MustParse(memory)
		}
		return out
	}
	for _, row := range []struct {
		name             string
		requests, limits v1.ResourceList
		want             v1.PodQOSClass
	}{
		{"nothing", nil, nil, v1.PodQOSBestEffort},
		{"all limited", nil, list("1", "1Gi"), v1.PodQOSGuaranteed},
		{"requests equal limits", list("1000m", "1Gi"), list("1", "1Gi"), v1.PodQOSGuaranteed},
		{"requests below limits", list("500m", "1Gi"), list("1", "1Gi"), v1.PodQOSBurstable},
		{"one limited", nil, list("1", ""), v1.PodQOSBurstable},
	} {
		pod := podOf(v1.RestartPolicyAlways, "app")
		pod.Spec.Containers[0].Resources = v1.ResourceRequirements{Requests: row.requests, Limits: row.limits}
		if got := qosClass(pod); got != row.want {
			t.Errorf("%s: got %s, want %s", row.name, got, row.want)
		}
	}
}
