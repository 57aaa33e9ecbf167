package pods_test

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"copepod/node/runtime/runtimetest"
)

// in runs a test in a bubble with a node.
func in(t *testing.T, f func(t *testing.T, w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { f(t, ready(t)) })
}

func TestAPodBecomesReadyAndTellsHow(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		w.m.Set(pod("web", "server:v1"))
		w.is("web", "Running ready app=running(0)")
		got := w.told()
		want := []string{
			`Normal Pulled Container image "server:v1" already present on machine and can be accessed by the pod`,
			"Normal Created Container created",
			"Normal Started Container started",
		}
		if strings.Join(got, "\n") != strings.Join(want, "\n") {
			t.Errorf("got events %q, want %q", got, want)
		}
		st := w.last("web").Status
		if st.PodIP != "10.42.0.2" || st.HostIP != "192.0.2.1" || st.StartTime == nil || st.QOSClass != v1.PodQOSBestEffort {
			t.Errorf("got %+v, want pod IP 10.42.0.2, host IP 192.0.2.1, a start time, BestEffort", st)
		}
		cs := st.ContainerStatuses[0]
		if cs.ContainerID != "fake://1" || !strings.HasPrefix(cs.ImageID, "server:v1@sha256:") || !*cs.Started {
			t.Errorf("got %+v, want an ID, an image ID and started", cs)
		}
		urgent := 0
		for _, r := range w.reports["web"] {
			if r.Urgent {
				urgent++
			}
		}
		if urgent != 1 {
			t.Errorf("got %d urgent reports for one start, want 1", urgent)
		}
	})
}

func TestAContainerPortIsOpenBeforeTheProgramAsksForIt(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		w.m.Set(pod("web", "server:v1", func(p *v1.Pod) {
			p.Spec.Containers[0].Ports = []v1.ContainerPort{{Name: "http", ContainerPort: 8080}, {ContainerPort: 53, Protocol: v1.ProtocolUDP}}
			p.Spec.Containers[0].ReadinessProbe = &v1.Probe{ProbeHandler: v1.ProbeHandler{HTTPGet: &v1.HTTPGetAction{Path: "/", Port: intstr.FromString("http")}}}
		}))
		w.is("web", "Running ready app=running(0)")
		conn, err := w.net.Dial(t.Context(), netip.MustParseAddrPort("10.42.0.2:8080"))
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.Close()
	})
}

func TestACrashBacksOffAndIsForgotten(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		w.m.Set(pod("web", "fail:v1"))
		time.Sleep(500 * time.Millisecond) // the first restart is immediate
		w.is("web", "Running app=Error:1(1)")
		time.Sleep(time.Second)
		w.is("web", "Running app=CrashLoopBackOff(1)")
		w.heard("Warning BackOff Back-off restarting failed container app in pod web_default(uid-web)")
		waiting := w.last("web").Status.ContainerStatuses[0].State.Waiting
		if want := "back-off 10s restarting failed container=app pod=web_default(uid-web)"; waiting.Message != want {
			t.Errorf("got message %q, want %q", waiting.Message, want)
		}
		time.Sleep(9 * time.Second)
		w.is("web", "Running app=Error:1(2)")
		time.Sleep(20 * time.Second)
		w.is("web", "Running app=Error:1(3)")
		time.Sleep(40 * time.Second)
		w.is("web", "Running app=Error:1(4)")
		if got := w.rt.Starts.Load(); got != 5 {
			t.Errorf("got %d starts, want 5", got)
		}
	})
}

func TestRestartPolicyDecidesHowAPodEnds(t *testing.T) {
	for _, row := range []struct {
		policy      v1.RestartPolicy
		image, want string
	}{
		{v1.RestartPolicyNever, "done:v1", "Succeeded app=Completed:0(0)"},
		{v1.RestartPolicyNever, "fail:v1", "Failed app=Error:1(0)"},
		{v1.RestartPolicyOnFailure, "done:v1", "Succeeded app=Completed:0(0)"},
		{v1.RestartPolicyOnFailure, "fail:v1", "Running app=Error:1(1)"},
	} {
		in(t, func(t *testing.T, w *world) {
			w.m.Set(pod("job", row.image, policy(row.policy)))
			w.is("job", row.want)
		})
	}
}

func TestADeletedPodEndsPolitelyAndIsReportedOnce(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		p := pod("web", "wait:v1")
		w.m.Set(p)
		w.is("web", "Running ready app=running(0)")
		w.m.Set(remove(p, 30))
		w.is("web", "Succeeded app=Completed:0(0)")
		w.heard("Normal Killing Stopping container app")
		if !w.last("web").Final {
			t.Error("got no final report, want one")
		}
		before := len(w.reports["web"])
		w.m.Gone(p)
		synctest.Wait()
		if got := len(w.m.Pods()); got != 0 || len(w.reports["web"]) != before {
			t.Errorf("got %d pods and %d more reports, want none", got, len(w.reports["web"])-before)
		}
	})
}

func TestAPodThatDoesNotListenIsKilledAfterItsGrace(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		p := pod("web", "stuck:v1")
		w.m.Set(p)
		synctest.Wait()
		begin := time.Now()
		w.m.Set(remove(p, 7))
		time.Sleep(6 * time.Second)
		w.is("web", "Running app=running(0)")
		for !w.last("web").Final {
			time.Sleep(100 * time.Millisecond)
			synctest.Wait()
		}
		if took := time.Since(begin); took < 7*time.Second || took > 7500*time.Millisecond {
			t.Errorf("got killed after %v, want 7s", took)
		}
		w.is("web", "Failed app=Error:137(0)")
	})
}

func TestInitContainersRunInOrderAndSidecarsAlongside(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		always := v1.ContainerRestartPolicyAlways
		w.m.Set(pod("job", "done:v1", policy(v1.RestartPolicyNever), func(p *v1.Pod) {
			p.Spec.InitContainers = []v1.Container{
				{Name: "first", Image: "done:v1"}, {Name: "side", Image: "wait:v1", RestartPolicy: &always}, {Name: "second", Image: "done:v1"},
			}
		}))
		w.is("job", "Succeeded first=Completed:0(0) side=Completed:0(0) second=Completed:0(0) app=Completed:0(0)")
	})
}

func TestProbesRestartWhatIsDeadAndHoldBackWhatIsNotReady(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		get := func(path string) *v1.Probe {
			return &v1.Probe{PeriodSeconds: 5, FailureThreshold: 2, ProbeHandler: v1.ProbeHandler{HTTPGet: &v1.HTTPGetAction{Path: path, Port: intstr.FromInt32(80)}}}
		}
		ports := []v1.ContainerPort{{ContainerPort: 80}}
		w.m.Set(pod("unready", "server:v1", func(p *v1.Pod) {
			p.Spec.Containers[0].Ports, p.Spec.Containers[0].ReadinessProbe = ports, get("/broken")
		}))
		w.m.Set(pod("dead", "server:v1", func(p *v1.Pod) {
			p.Spec.Containers[0].Ports, p.Spec.Containers[0].LivenessProbe = ports, get("/broken")
		}))
		w.m.Set(pod("slow", "server:v1", func(p *v1.Pod) {
			p.Spec.Containers[0].Ports, p.Spec.Containers[0].StartupProbe = ports, get("/broken")
			p.Spec.Containers[0].StartupProbe.FailureThreshold = 100
		}))
		time.Sleep(4 * time.Second)
		w.is("unready", "Running app=running(0)")
		w.is("dead", "Running ready app=running(0)")
		w.is("slow", "Running app=running(0)")
		w.heard("Warning Unhealthy Readiness probe failed: HTTP probe failed with statuscode: 500")
		time.Sleep(2 * time.Second)
		w.is("dead", "Running ready app=running(1)")
		w.heard("Normal Killing Container app failed liveness probe, will be restarted")
	})
}

func TestExecProbesNeedARuntimeThatCan(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		w.m.Set(pod("web", "wait:v1", func(p *v1.Pod) {
			p.Spec.Containers[0].ReadinessProbe = &v1.Probe{ProbeHandler: v1.ProbeHandler{Exec: &v1.ExecAction{Command: []string{"true"}}}}
		}))
		w.is("web", "Running ready app=running(0)")
	})
}

func TestLogsOfThisRunAndTheOneBefore(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		w.m.Set(pod("web", "guest:v1", policy(v1.RestartPolicyAlways), func(p *v1.Pod) {
			p.Spec.Containers[0].Args = []string{"print", "$(POD)", "x"}
			p.Spec.Containers[0].Env = []v1.EnvVar{
				{Name: "GREETING", Value: "hello"}, {Name: "POD", ValueFrom: &v1.EnvVarSource{FieldRef: &v1.ObjectFieldSelector{FieldPath: "metadata.name"}}},
			}
		}))
		time.Sleep(500 * time.Millisecond)
		w.is("web", "Running app=Completed:0(1)")
		for _, previous := range []bool{false, true} {
			if got, want := w.log("web", "app", previous), "hello web,x\ndone\n"; got != want {
				t.Errorf("previous %v: got %q, want %q", previous, got, want)
			}
		}
		if got, want := w.log("web", "nobody", false), "container nobody is not valid for pod web"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
		w.m.Set(pod("new", "reg.example/none:v1"))
		synctest.Wait()
		if got, want := w.log("new", "app", false), `container "app" in pod "new" is waiting to start: ErrImagePull`; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
		if got, want := w.log("new", "app", true), `previous terminated container "app" in pod "new" not found`; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}

func TestTheEndOfTheLogsIsTheMessageWhenAskedFor(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		w.rt.Publish("reg.example/talk:v1", func(_ context.Context, p runtimetest.Process) int {
			_, _ = fmt.Fprint(p.Stderr, strings.Repeat("y", 3000), "\ngoodbye\n")
			return 1
		})
		w.m.Set(pod("web", "reg.example/talk:v1", policy(v1.RestartPolicyNever), func(p *v1.Pod) {
			p.Spec.Containers[0].TerminationMessagePolicy = v1.TerminationMessageFallbackToLogsOnError
		}))
		synctest.Wait()
		got := w.last("web").Status.ContainerStatuses[0].State.Terminated.Message
		if !strings.HasSuffix(got, "y\ngoodbye\n") || len(got) != 2048 {
			t.Errorf("got a message of %d bytes, %q…, want the last 2048", len(got), got[:min(len(got), 20)])
		}
	})
}

func TestHooksRunAtTheStartAndBeforeTheEnd(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		p := pod("web", "wait:v1", func(p *v1.Pod) {
			p.Spec.Containers[0].Lifecycle = &v1.Lifecycle{
				PostStart: &v1.LifecycleHandler{Sleep: &v1.SleepAction{Seconds: 3}},
				PreStop:   &v1.LifecycleHandler{Sleep: &v1.SleepAction{Seconds: 5}},
			}
		})
		w.m.Set(p)
		time.Sleep(2 * time.Second)
		w.is("web", "Pending app=ContainerCreating(0)")
		time.Sleep(2 * time.Second)
		w.is("web", "Running ready app=running(0)")
		w.m.Set(remove(p, 30))
		time.Sleep(4 * time.Second)
		w.is("web", "Running app=running(0)")
		time.Sleep(2 * time.Second)
		w.is("web", "Succeeded app=Completed:0(0)")
	})
}

func TestAChangedImageRestartsTheContainer(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		p := pod("web", "wait:v1")
		w.m.Set(p)
		synctest.Wait()
		p = p.DeepCopy()
		p.Spec.Containers[0].Image = "server:v1"
		w.m.Set(p)
		w.is("web", "Running ready app=running(1)")
		w.heard("Normal Killing Container app definition changed, will be restarted")
	})
}

func TestAStoppedNodeSaysNothingAndTheNextOneRunsItsPodsAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		w := newWorld(t, dir, nil)
		w.m.Synced()
		p := pod("web", "server:v1", func(p *v1.Pod) {
			p.Spec.Volumes = []v1.Volume{{Name: "v", VolumeSource: v1.VolumeSource{EmptyDir: &v1.EmptyDirVolumeSource{}}}}
			p.Spec.Containers[0].VolumeMounts = []v1.VolumeMount{{Name: "v", MountPath: "/v"}}
		})
		w.m.Set(p)
		w.is("web", "Running ready app=running(0)")
		kept := filepath.Join(dir, "pods", "uid-web", "v", "kept")
		if err := os.WriteFile(kept, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		reports := len(w.reports["web"])
		w.stop()
		if got := len(w.reports["web"]); got != reports {
			t.Errorf("got %d reports while the node stopped, want none", got-reports)
		}
		known := p.DeepCopy()
		known.Status = w.last("web").Status
		next := newWorld(t, dir, nil)
		next.m.Set(pod("other", "wait:v1"))
		next.m.Set(known)
		next.m.Synced()
		next.is("web", "Running ready app=running(1)")
		st := next.last("web").Status
		if st.PodIP != "10.42.0.2" {
			t.Errorf("got address %s, want the same again, 10.42.0.2", st.PodIP)
		}
		if last := st.ContainerStatuses[0].LastTerminationState.Terminated; last == nil || last.ExitCode != 137 {
			t.Errorf("got last state %+v, want 137", last)
		}
		if _, err := os.Stat(kept); err != nil {
			t.Errorf("the emptyDir lost a file through a restart of the node: %v", err)
		}
	})
}

func TestAnEndedPodIsLeftAloneByTheNextNode(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		p := pod("job", "done:v1", policy(v1.RestartPolicyNever))
		p.Status = v1.PodStatus{Phase: v1.PodSucceeded, ContainerStatuses: []v1.ContainerStatus{{
			Name: "app", State: v1.ContainerState{Terminated: &v1.ContainerStateTerminated{Reason: "Completed", FinishedAt: metav1.Now()}},
		}}}
		w.m.Set(p)
		synctest.Wait()
		if got := w.rt.Starts.Load(); got != 0 || len(w.reports["job"]) != 0 {
			t.Errorf("got %d starts and %d reports, want none", got, len(w.reports["job"]))
		}
		w.m.Set(remove(p, 0))
		synctest.Wait()
		if !w.last("job").Final {
			t.Error("got no final report when it was deleted, want one")
		}
	})
}

func TestAPodThatIsGoneLeavesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		w := newWorld(t, dir, nil)
		w.m.Synced()
		p := pod("web", "guest:v1", func(p *v1.Pod) { p.Spec.Containers[0].Args = []string{"print"} })
		w.m.Set(p)
		synctest.Wait()
		w.m.Gone(p)
		time.Sleep(5 * time.Second)
		for _, sub := range []string{"logs", "pods"} {
			if entries, err := os.ReadDir(filepath.Join(dir, sub)); err != nil || len(entries) != 0 {
				t.Errorf("got %v (%v) in %s, want nothing", entries, err, sub)
			}
		}
		if _, err := w.net.Dial(t.Context(), netip.MustParseAddrPort("10.42.0.2:80")); err == nil {
			t.Error("its address still answers")
		}
	})
}
