package pods

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"copepod/node/probe"
)

var t0 = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

// words is a plan as a test writes it: "pull app; wake 10s".
func (p plan) words(s *state) string {
	names := map[verb]string{
		setUp: "setUp", refill: "refill", tearDown: "tearDown", finish: "finish", fail: "fail", pull: "pull", create: "create",
		start: "start", ask: "ask", stop: "stop", kill: "kill", discard: "discard", slowDown: "slowDown",
	}
	var out []string
	for _, a := range p.actions {
		word := names[a.verb]
		if a.verb >= pull {
			word += " " + s.containers[a.container].spec.Name
		}
		switch a.verb {
		case ask:
			word += " " + lower(a.kind)
		case stop:
			word += fmt.Sprintf(" %v", a.by.Sub(t0))
		}
		out = append(out, word)
	}
	if !p.wake.IsZero() {
		out = append(out, fmt.Sprintf("wake %v", p.wake.Sub(t0)))
	}
	return strings.Join(out, "; ")
}

// pod makes a pod: "i init*" is an init container, "s" a sidecar, others main.
func podOf(policy v1.RestartPolicy, names ...string) *v1.Pod {
	pod := &v1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "p", UID: "u"}, Spec: v1.PodSpec{RestartPolicy: policy}}
	always := v1.ContainerRestartPolicyAlways
	for _, n := range names {
		c := v1.Container{Name: n, Image: "image"}
		switch n[0] {
		case 'i':
			pod.Spec.InitContainers = append(pod.Spec.InitContainers, c)
		case 's':
			c.RestartPolicy = &always
			pod.Spec.InitContainers = append(pod.Spec.InitContainers, c)
		default:
			pod.Spec.Containers = append(pod.Spec.Containers, c)
		}
	}
	return pod
}

// at puts a container of a set-up pod at a step.
func at(s *state, name string, st step) *container {
	s.sandbox.step = up
	for i := range s.containers {
		c := &s.containers[i]
		if c.spec.Name != name {
			continue
		}
		c.step = st
		if st == running || st == stopping {
			c.startedAt, c.runs = t0, c.spec.Image
			for k := range c.probes {
				c.probes[k] = probe.NewTracker(probe.Kind(k), c.probe(probe.Kind(k)), t0)
			}
			c.mark()
		}
		return c
	}
	panic("no container " + name)
}

func ended(c *container, code int32) {
	c.step, c.beenUp = exited, c.beenUp || c.role == sidecarRole
	c.exit = &v1.ContainerStateTerminated{ExitCode: code, FinishedAt: metav1.NewTime(t0)}
}

func deleted(s *state, grace int64) {
	now := metav1.NewTime(t0)
	s.pod.DeletionTimestamp, s.pod.DeletionGracePeriodSeconds = &now, &grace
	s.endingAt = t0
}

func TestNextStepOfAPod(t *testing.T) {
	const always, never, onFailure = v1.RestartPolicyAlways, v1.RestartPolicyNever, v1.RestartPolicyOnFailure
	for _, row := range []struct {
		name   string
		policy v1.RestartPolicy
		of     string // containers
		given  func(s *state)
		after  time.Duration
		want   string
	}{
		{"a new pod is set up", always, "app", func(*state) {}, 0, "setUp"},
		{"what is set up is waited for", always, "app", func(s *state) { s.sandbox.step = settingUp }, 0, ""},
		{"a failed set-up waits", always, "app", func(s *state) { s.sandbox.retryAt = t0.Add(time.Second) }, 0, "wake 1s"},
		{"then its image is found", always, "app", func(s *state) { at(s, "app", waiting) }, 0, "pull app"},
		{"containers go side by side", always, "app web", func(s *state) { at(s, "app", waiting); at(s, "web", pulled) }, 0, "pull app; create web"},
		{"created starts", always, "app", func(s *state) { at(s, "app", created) }, 0, "start app"},
		{"nothing to do while it runs", always, "app", func(s *state) { at(s, "app", running) }, 0, ""},
		{"init containers go one by one", always, "i1 i2 app", func(s *state) { at(s, "i1", waiting) }, 0, "pull i1"},
		{"the second after the first", always, "i1 i2 app", func(s *state) { ended(at(s, "i1", exited), 0) }, 0, "pull i2"},
		{"the main ones after the last", always, "i1 app", func(s *state) { ended(at(s, "i1", exited), 0) }, 0, "pull app"},
		{"a failed init container is tried again", always, "i1 app", func(s *state) { ended(at(s, "i1", exited), 1) }, 0, "pull i1"},
		{"but not under Never: the pod ends", never, "i1 app", func(s *state) { ended(at(s, "i1", exited), 1) }, 0, "tearDown"},
		{"a sidecar gates what follows until it runs", always, "s1 app", func(s *state) { at(s, "s1", starting) }, 0, ""},
		{"a sidecar that runs gates no longer", always, "s1 app", func(s *state) { at(s, "s1", running) }, 0, "pull app"},
		{"a sidecar that ended comes back and gates no more", always, "s1 app", func(s *state) { ended(at(s, "s1", exited), 1); at(s, "app", created) }, 0, "pull s1; start app"},
		{"Always restarts success", always, "app", func(s *state) { ended(at(s, "app", exited), 0) }, 0, "pull app"},
		{"OnFailure restarts failure", onFailure, "app", func(s *state) { ended(at(s, "app", exited), 1) }, 0, "pull app"},
		{"OnFailure ends with success", onFailure, "app", func(s *state) { ended(at(s, "app", exited), 0) }, 0, "tearDown"},
		{"Never ends with failure", never, "app", func(s *state) { ended(at(s, "app", exited), 1) }, 0, "tearDown"},
		{"one of two ended", never, "app web", func(s *state) { ended(at(s, "app", exited), 1); at(s, "web", running) }, 0, ""},
		{"an ended pod stops its sidecars", never, "s1 app", func(s *state) { at(s, "s1", running); ended(at(s, "app", exited), 0) }, 0, "stop s1 30s"},
		{"a crash waits, shown as it is", always, "app", func(s *state) { c := at(s, "app", exited); ended(c, 1); c.retryAt = t0.Add(10 * time.Second) }, 0, "wake 1s"},
		{"then shown as a back-off", always, "app", func(s *state) { c := at(s, "app", exited); ended(c, 1); c.retryAt = t0.Add(10 * time.Second) }, time.Second, "slowDown app; wake 10s"},
		{"then runs again", always, "app", func(s *state) { c := at(s, "app", exited); ended(c, 1); c.retryAt = t0.Add(10 * time.Second) }, 10 * time.Second, "pull app"},
		{"a failed pull waits, shown as it is", always, "app", func(s *state) {
			c := at(s, "app", waiting)
			c.fault, c.retryAt = fault{reason: reasonErrPull, at: t0}, t0.Add(10*time.Second)
		}, 0, "wake 1s"},
		{"a deleted pod stops", always, "app", func(s *state) { at(s, "app", running); deleted(s, 30) }, 0, "stop app 30s"},
		{"a deleted pod waits for the grace", always, "app", func(s *state) { at(s, "app", stopping).killBy = t0.Add(30 * time.Second); deleted(s, 30) }, 29 * time.Second, "wake 30s"},
		{"then kills", always, "app", func(s *state) { at(s, "app", stopping).killBy = t0.Add(30 * time.Second); deleted(s, 30) }, 30 * time.Second, "kill app"},
		{"once", always, "app", func(s *state) { c := at(s, "app", stopping); c.killed = true; deleted(s, 0) }, time.Minute, ""},
		{"a shortened grace counts", always, "app", func(s *state) { at(s, "app", stopping).killBy = t0.Add(30 * time.Second); deleted(s, 5) }, 5 * time.Second, "kill app"},
		{"sidecars end after the main ones", always, "s1 app", func(s *state) {
			at(s, "s1", running)
			at(s, "app", stopping).killBy = t0.Add(30 * time.Second)
			deleted(s, 30)
		}, 0, "wake 30s"},
		{"the last sidecar first", always, "s1 s2 app", func(s *state) {
			at(s, "s1", running)
			at(s, "s2", running)
			ended(at(s, "app", exited), 0)
			deleted(s, 30)
		}, 0, "stop s2 30s"},
		{"what was created is thrown away", always, "app", func(s *state) { at(s, "app", created); deleted(s, 30) }, 0, "discard app"},
		{"what is under way is waited for", always, "app", func(s *state) { at(s, "app", pulling); deleted(s, 30) }, 0, ""},
		{"a deleted pod gives back what it had", always, "app", func(s *state) { ended(at(s, "app", exited), 0); deleted(s, 30) }, 0, "tearDown"},
		{"and is reported as finished", always, "app", func(s *state) { ended(at(s, "app", exited), 0); deleted(s, 30); s.sandbox.step = removed }, 0, "finish"},
		{"a pod deleted before it began finishes at once", always, "app", func(s *state) { deleted(s, 30) }, 0, "finish"},
		{"a finished pod needs nothing", always, "app", func(s *state) { deleted(s, 30); s.finished = true }, 0, ""},
		{"a pod that was deleted by force has a second", always, "app", func(s *state) { at(s, "app", running); s.gone = true }, 0, "stop app 1s"},
		{"a stopping node has less", always, "app", func(s *state) { at(s, "app", running); s.leaving, s.grace = true, 2*time.Second }, 0, "stop app 2s"},
		{"the pod's deadline is watched", always, "app", func(s *state) { at(s, "app", running); d := int64(60); s.pod.Spec.ActiveDeadlineSeconds = &d }, 0, "wake 1m0s"},
		{"and ends it", always, "app", func(s *state) { at(s, "app", running); d := int64(60); s.pod.Spec.ActiveDeadlineSeconds = &d }, time.Minute, "fail"},
		{"a rejected pod does nothing", always, "app", func(s *state) { s.verdict = &fault{reason: "OutOfcpu"} }, 0, ""},
		{"a dead container is stopped", always, "app", func(s *state) { at(s, "app", running).probes[probe.Liveness].Dead = true }, 0, "stop app 30s"},
		{"a changed image is a restart", always, "app", func(s *state) { at(s, "app", running).runs = "old" }, 0, "stop app 0s"},
		{"stale volumes are filled again", always, "app", func(s *state) { at(s, "app", running); s.sandbox.stale = true }, 0, "refill"},
		{"a token is renewed in time", always, "app", func(s *state) { at(s, "app", running); s.sandbox.refresh = t0.Add(time.Hour) }, 0, "wake 1h0m0s"},
	} {
		t.Run(row.name, func(t *testing.T) {
			s := begin(podOf(row.policy, strings.Fields(row.of)...), t0)
			row.given(s)
			p := next(s, t0.Add(row.after))
			if got := p.words(s); got != row.want {
				t.Errorf("got %q, want %q", got, row.want)
			}
		})
	}
}

func TestProbesGateEachOther(t *testing.T) {
	pod := podOf(v1.RestartPolicyAlways, "app")
	c := &pod.Spec.Containers[0]
	c.StartupProbe = &v1.Probe{PeriodSeconds: 1}
	c.ReadinessProbe = &v1.Probe{PeriodSeconds: 10, InitialDelaySeconds: 5}
	c.LivenessProbe = &v1.Probe{PeriodSeconds: 10}
	s := begin(pod, t0)
	app := at(s, "app", running)
	check := func(when time.Duration, want string) {
		t.Helper()
		if got := next(s, t0.Add(when)).words(s); got != want {
			t.Errorf("after %v: got %q, want %q", when, got, want)
		}
	}
	check(0, "ask app startup")
	app.probing[probe.Startup] = true
	check(0, "")
	app.observe(probe.Startup, probe.Failure, t0)
	check(0, "wake 1s")
	app.observe(probe.Startup, probe.Success, t0.Add(time.Second))
	check(2*time.Second, "ask app liveness; wake 5s")
	app.probing[probe.Liveness] = true
	check(5*time.Second, "ask app readiness")
	if app.ready() {
		t.Error("got ready before the readiness probe succeeded")
	}
	app.observe(probe.Readiness, probe.Success, t0.Add(5*time.Second))
	if !app.ready() {
		t.Error("got unready after all probes succeeded")
	}
}

func TestBackoffDoublesAndForgets(t *testing.T) {
	var b backoff
	var waits []string
	now := t0
	crash := func(ranFor time.Duration) {
		now = now.Add(ranFor)
		var retry time.Time
		b, retry = b.crashed(now)
		waits = append(waits, retry.Sub(now).String())
		now = retry
	}
	for range 8 {
		crash(time.Second)
	}
	crash(11 * time.Minute)
	crash(time.Second)
	want := []string{"0s", "10s", "20s", "40s", "1m20s", "2m40s", "5m0s", "5m0s", "0s", "10s"}
	if !slices.Equal(waits, want) {
		t.Errorf("got waits %v, want %v", waits, want)
	}
	var f backoff
	var tries []string
	now = t0
	for range 7 {
		var retry time.Time
		f, retry = f.failed(now)
		tries = append(tries, retry.Sub(now).String())
		now = retry
	}
	if want := []string{"10s", "20s", "40s", "1m20s", "2m40s", "5m0s", "5m0s"}; !slices.Equal(tries, want) {
		t.Errorf("got tries after %v, want %v", tries, want)
	}
}

func TestAPodOfAKilledNodeProcessRunsAgain(t *testing.T) {
	was := func(policy v1.RestartPolicy) *v1.Pod {
		pod := podOf(policy, "init", "app")
		pod.Status = v1.PodStatus{
			Phase: v1.PodRunning, PodIP: "10.42.0.9", StartTime: &metav1.Time{Time: t0.Add(-time.Hour)},
			InitContainerStatuses: []v1.ContainerStatus{{Name: "init", State: v1.ContainerState{Terminated: &v1.ContainerStateTerminated{}}}},
			ContainerStatuses: []v1.ContainerStatus{{
				Name: "app", RestartCount: 4, ContainerID: "wasm://x",
				State: v1.ContainerState{Running: &v1.ContainerStateRunning{StartedAt: metav1.NewTime(t0.Add(-time.Hour))}},
			}},
		}
		return pod
	}
	s := begin(was(v1.RestartPolicyAlways), t0)
	if got, want := next(s, t0).words(s), "setUp"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	s.sandbox.step = up
	if got, want := next(s, t0).words(s), "pull init"; got != want {
		t.Errorf("got %q, want %q: init containers run again", got, want)
	}
	app := s.containers[1]
	if app.restarts != 4 || app.exit == nil || app.exit.ExitCode != 137 || app.exit.Reason != reasonStatusUnknown {
		t.Errorf("got %d restarts and exit %+v, want 4 and 137 ContainerStatusUnknown", app.restarts, app.exit)
	}
	if got := s.sandbox.ip.String(); got != "10.42.0.9" {
		t.Errorf("got address %s wanted back, want 10.42.0.9", got)
	}
	s = begin(was(v1.RestartPolicyNever), t0)
	if got := next(s, t0).words(s); got != "" || s.phase() != v1.PodFailed {
		t.Errorf("got %q, phase %s under Never, want nothing to do, Failed", got, s.phase())
	}
}
