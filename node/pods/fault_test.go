package pods_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/types"

	"copepod/node/runtime"
	"copepod/node/runtime/runtimetest"
)

func TestAnImageIsPulledAsItsPolicySays(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		w.rt.Publish("reg.example/app:v1", runtimetest.Wait)
		for i, row := range []struct {
			image  string
			policy v1.PullPolicy
			want   string
			event  string
		}{
			{"reg.example/app:v1", v1.PullNever, "Pending app=ErrImageNeverPull(0)", `Warning ErrImageNeverPull Container image "reg.example/app:v1" is not present with pull policy of Never`},
			{"reg.example/app:v1", v1.PullIfNotPresent, "Running ready app=running(0)", `Normal Pulled Successfully pulled image "reg.example/app:v1" in`},
			{"reg.example/app:v1", v1.PullAlways, "Running ready app=running(0)", `Normal Pulled Successfully pulled image "reg.example/app:v1" in`},
			{"reg.example/none:v1", v1.PullIfNotPresent, "Pending app=ErrImagePull(0)", `Warning Failed Failed to pull image "reg.example/none:v1": reg.example/none:v1: image not found`},
			{"what is this?", v1.PullIfNotPresent, "Pending app=InvalidImageName(0)", "Warning InspectFailed Failed to apply default image tag"},
		} {
			name := fmt.Sprint("p", i)
			w.told()
			w.m.Set(pod(name, row.image, func(p *v1.Pod) { p.Spec.Containers[0].ImagePullPolicy = row.policy }))
			w.is(name, row.want)
			w.heard(row.event)
		}
		if got := w.rt.Pulls.Load(); got != 3 {
			t.Errorf("got %d pulls, want 3", got)
		}
	})
}

func TestAFailedPullBacksOffWithTheReasonAndRecovers(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		w.m.Set(pod("web", "reg.example/late:v1"))
		w.is("web", "Pending app=ErrImagePull(0)")
		time.Sleep(2 * time.Second)
		w.is("web", "Pending app=ImagePullBackOff(0)")
		message := w.last("web").Status.ContainerStatuses[0].State.Waiting.Message
		if want := `Back-off pulling image "reg.example/late:v1": ErrImagePull: reg.example/late:v1: image not found`; message != want {
			t.Errorf("got message %q, want %q", message, want)
		}
		w.heard(`Normal BackOff Back-off pulling image "reg.example/late:v1"`)
		w.rt.Publish("reg.example/late:v1", runtimetest.Wait)
		time.Sleep(8 * time.Second)
		w.is("web", "Running ready app=running(0)")
	})
}

func TestPodsThatWaitForOneImagePullItOnce(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		w.rt.Publish("reg.example/app:v1", runtimetest.Wait)
		w.rt.PullFunc = func(context.Context, string) error { time.Sleep(5 * time.Second); return nil }
		for i := range 20 {
			w.m.Set(pod(fmt.Sprint("p", i), "reg.example/app:v1"))
		}
		time.Sleep(6 * time.Second)
		for i := range 20 {
			w.is(fmt.Sprint("p", i), "Running ready app=running(0)")
		}
		if got := w.rt.Pulls.Load(); got != 1 {
			t.Errorf("got %d pulls, want 1", got)
		}
	})
}

func TestAPodIsDeletedWhileItsImageIsPulled(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		w.rt.Publish("reg.example/app:v1", runtimetest.Wait)
		w.rt.PullFunc = func(context.Context, string) error { time.Sleep(time.Minute); return nil }
		p := pod("web", "reg.example/app:v1")
		w.m.Set(p)
		time.Sleep(time.Second)
		w.m.Set(remove(p, 30))
		synctest.Wait()
		if !w.last("web").Final {
			t.Error("got a pod that waits for its pull to be deleted, want it gone at once")
		}
		time.Sleep(2 * time.Minute) // for the pull, which goes on for others
	})
}

func TestAMissingConfigMapKeepsAContainerFromBeingCreatedUntilItComes(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		w.m.Set(pod("web", "wait:v1", func(p *v1.Pod) {
			p.Spec.Containers[0].Env = []v1.EnvVar{{Name: "A", ValueFrom: &v1.EnvVarSource{
				ConfigMapKeyRef: &v1.ConfigMapKeySelector{LocalObjectReference: v1.LocalObjectReference{Name: "app"}, Key: "k"},
			}}}
		}))
		w.is("web", "Pending app=CreateContainerConfigError(0)")
		if got, want := w.last("web").Status.ContainerStatuses[0].State.Waiting.Message, `configmap "app" not found`; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
		w.heard(`Warning Failed Error: configmap "app" not found`)
		w.setConfigMap("app", map[string]string{"k": "v"})
		w.m.Changed("uid-web")
		w.is("web", "Running ready app=running(0)")
	})
}

func TestAMissingVolumeKeepsAPodFromStartingUntilItComes(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		w.m.Set(pod("web", "guest:v1", policy(v1.RestartPolicyNever), func(p *v1.Pod) {
			p.Spec.Volumes = []v1.Volume{
				{Name: "cfg", VolumeSource: v1.VolumeSource{ConfigMap: &v1.ConfigMapVolumeSource{LocalObjectReference: v1.LocalObjectReference{Name: "app"}}}},
				{Name: "out", VolumeSource: v1.VolumeSource{EmptyDir: &v1.EmptyDirVolumeSource{}}},
			}
			c := &p.Spec.Containers[0]
			c.VolumeMounts = []v1.VolumeMount{{Name: "cfg", MountPath: "/etc/app"}, {Name: "out", MountPath: "/out"}}
			c.Args = []string{"copy", "/etc/app/k", "/dev/termination-log"}
		}))
		time.Sleep(time.Second)
		w.is("web", "Pending app=ContainerCreating(0)")
		w.heard(`Warning FailedMount MountVolume.SetUp failed for volume "cfg" : configmap "app" not found`)
		w.setConfigMap("app", map[string]string{"k": "last words"})
		w.m.Changed("uid-web")
		w.is("web", "Succeeded app=Completed:0(0)")
		if got := w.last("web").Status.ContainerStatuses[0].State.Terminated.Message; got != "last words" {
			t.Errorf("got termination message %q, want %q", got, "last words")
		}
	})
}

func TestWhatTheRuntimeRefusesIsToldAsItIs(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		var refuse atomic.Bool
		refuse.Store(true)
		w.rt.CreateFunc = func(s runtime.Spec) error {
			if refuse.Load() && s.Pod == "a" {
				return errors.New("imports env.foo, which no host provides")
			}
			return nil
		}
		w.rt.StartFunc = func(s runtime.Spec) error {
			if refuse.Load() && s.Pod == "b" {
				return errors.New("no memory")
			}
			return nil
		}
		w.m.Set(pod("a", "wait:v1"))
		w.is("a", "Pending app=CreateContainerError(0)")
		if got := w.last("a").Status.ContainerStatuses[0].State.Waiting.Message; got != "imports env.foo, which no host provides" {
			t.Errorf("got %q, want the runtime's words", got)
		}
		w.m.Set(pod("b", "wait:v1"))
		w.is("b", "Pending app=RunContainerError(0)")
		refuse.Store(false)
		time.Sleep(10 * time.Second)
		w.is("a", "Running ready app=running(0)")
		w.is("b", "Running ready app=running(0)")
	})
}

func TestAPodPastItsDeadlineFails(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		w.m.Set(pod("job", "wait:v1", func(p *v1.Pod) { d := int64(10); p.Spec.ActiveDeadlineSeconds = &d }))
		time.Sleep(9 * time.Second)
		w.is("job", "Running ready app=running(0)")
		time.Sleep(2 * time.Second)
		w.is("job", "Failed app=Completed:0(0)")
		if got := w.last("job").Status.Reason; got != "DeadlineExceeded" {
			t.Errorf("got reason %q, want DeadlineExceeded", got)
		}
	})
}

func TestAPodThatDoesNotFitIsRejected(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		big := func(p *v1.Pod) {
			p.Spec.Containers[0].Resources.Requests = v1.ResourceList{"cpu": resource.MustParse("3")}
		}
		first := pod("a", "wait:v1", big)
		w.m.Set(first)
		w.m.Set(pod("b", "wait:v1", big))
		w.is("a", "Running ready app=running(0)")
		w.is("b", "Failed app=ContainerCreating(0)")
		if got := w.last("b").Status.Reason; got != "OutOfcpu" {
			t.Errorf("got reason %q, want OutOfcpu", got)
		}
		w.m.Set(remove(first, 0))
		synctest.Wait()
		w.m.Set(pod("c", "wait:v1", big))
		w.is("c", "Running ready app=running(0)")
	})
}

func TestAPodThatAsksForTheImpossibleWaitsWithTheReason(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		other := "runc"
		w.m.Set(pod("a", "wait:v1", func(p *v1.Pod) { p.Spec.HostNetwork = true }))
		w.is("a", "Pending app=ContainerCreating(0)")
		w.heard("Warning FailedCreatePodSandBox Failed to create pod sandbox: hostNetwork is not supported")
		w.m.Set(pod("b", "wait:v1", func(p *v1.Pod) { p.Spec.RuntimeClassName = &other }))
		w.is("b", "Pending app=ContainerCreating(0)")
		w.heard(`Warning FailedCreatePodSandBox Failed to create pod sandbox: RuntimeClass "runc" not found`)
	})
}

func TestANewPodOfTheSameNameWaitsForTheEndOfTheOld(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		old := pod("db-0", "stuck:v1")
		w.m.Set(old)
		synctest.Wait()
		fresh := pod("db-0", "wait:v1", func(p *v1.Pod) { p.UID = types.UID("uid-new") })
		w.m.Set(fresh)
		time.Sleep(500 * time.Millisecond)
		if got := w.rt.Starts.Load(); got != 1 {
			t.Errorf("got %d starts while the old pod runs, want 1", got)
		}
		time.Sleep(time.Second)
		if got := w.last("db-0"); got.Pod.UID != "uid-new" || got.Status.Phase != v1.PodRunning {
			t.Errorf("got pod %s %s, want uid-new Running", got.Pod.UID, got.Status.Phase)
		}
	})
}
