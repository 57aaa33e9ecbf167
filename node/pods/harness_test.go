package pods_test

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"copepod/node/logs"
	"copepod/node/mesh/vnet"
	"copepod/node/objects"
	"copepod/node/pods"
	"copepod/node/probe"
	"copepod/node/runtime"
	"copepod/node/runtime/runtimetest"
	"copepod/node/status"
	"copepod/node/volume"
)

// world is a node without an API server: it remembers what pods report.
type world struct {
	t    *testing.T
	m    *pods.Manager
	rt   *runtimetest.Fake
	net  *vnet.Net
	logs *logs.Store
	stop func()

	mu         sync.Mutex // guards what follows
	configMaps map[string]*v1.ConfigMap
	reports    map[string][]status.Report // by pod name
	events     []string
}

// newWorld makes a node in a bubble; change may adapt its configuration. dir is
// kept by those who start it twice.
func newWorld(t *testing.T, dir string, change func(*pods.Config)) *world {
	t.Helper()
	w := &world{
		t: t, rt: runtimetest.NewFake(runtimetest.Programs()), net: vnet.New(vnet.Config{}),
		configMaps: map[string]*v1.ConfigMap{}, reports: map[string][]status.Report{},
	}
	var err error
	if w.logs, err = logs.New(logs.Config{Dir: dir + "/logs"}); err != nil {
		t.Fatal(err)
	}
	volumes, err := volume.New(volume.Config{Dir: dir + "/pods", Objects: w, Tokens: w})
	if err != nil {
		t.Fatal(err)
	}
	cfg := pods.Config{
		Runtime: func(_ context.Context, class string) (runtime.Runtime, error) {
			if class != "" && class != "wasm" {
				return nil, fmt.Errorf("RuntimeClass %q not found", class)
			}
			return w.rt, nil
		},
		Network: w.net, CIDR: netip.MustParsePrefix("10.42.0.0/16"),
		Objects: w, Holder: w, Volumes: volumes, Prober: probe.New(w.net), Logs: w.logs, Reporter: w, Recorder: w,
		HostIP: "192.0.2.1", Allocatable: v1.ResourceList{"cpu": resource.MustParse("4"), "pods": resource.MustParse("100")},
	}
	if change != nil {
		change(&cfg)
	}
	if w.m, err = pods.New(cfg); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); _ = w.m.Run(ctx) }()
	w.stop = sync.OnceFunc(func() { cancel(); <-done })
	t.Cleanup(w.stop)
	synctest.Wait()
	return w
}

// ready makes a node that knows all its pods.
func ready(t *testing.T) *world {
	w := newWorld(t, t.TempDir(), nil)
	w.m.Synced()
	return w
}

func (w *world) ConfigMap(_ context.Context, _, name string) (*v1.ConfigMap, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if cm := w.configMaps[name]; cm != nil {
		return cm, nil
	}
	return nil, &missing{fmt.Sprintf("configmap %q not found", name), apierrors.NewNotFound(v1.Resource("configmaps"), name)}
}

type missing struct {
	text string
	err  error
}

func (m *missing) Error() string { return m.text }
func (m *missing) Unwrap() error { return m.err }

func (w *world) Secret(_ context.Context, _, name string) (*v1.Secret, error) {
	return nil, apierrors.NewNotFound(v1.Resource("secrets"), name)
}

func (w *world) Token(_ context.Context, _ *v1.Pod, _ string, lifetime time.Duration) (string, time.Time, error) {
	return "token", time.Now().Add(lifetime), nil
}

func (w *world) Hold(types.UID, []objects.Ref) {}

func (w *world) setConfigMap(name string, data map[string]string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.configMaps[name] = &v1.ConfigMap{Data: data}
}

func (w *world) Report(r status.Report) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.reports[r.Pod.Name] = append(w.reports[r.Pod.Name], r)
}

func (w *world) Forget(types.UID) {}

func (w *world) Event(about v1.ObjectReference, eventType, reason, message string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.events = append(w.events, strings.Join([]string{eventType, reason, message}, " "))
}

// last is what a pod reported last.
func (w *world) last(name string) status.Report {
	w.t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	all := w.reports[name]
	if len(all) == 0 {
		return status.Report{}
	}
	return all[len(all)-1]
}

// told is the events since it was asked last.
func (w *world) told() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := w.events
	w.events = nil
	return out
}

// heard checks that an event was told; it does not use it up.
func (w *world) heard(want string) {
	w.t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	if !slices.ContainsFunc(w.events, func(e string) bool { return strings.HasPrefix(e, want) }) {
		w.t.Errorf("got events\n\t%s\nwant one that begins with %q", strings.Join(w.events, "\n\t"), want)
	}
}

// state is a pod in one line: "Running ready app=running(0)".
func (w *world) state(name string) string {
	w.t.Helper()
	st := w.last(name).Status
	out := []string{string(st.Phase)}
	for _, c := range st.Conditions {
		if c.Type == v1.PodReady && c.Status == v1.ConditionTrue {
			out = append(out, "ready")
		}
	}
	for _, c := range append(slices.Clone(st.InitContainerStatuses), st.ContainerStatuses...) {
		is := ""
		switch {
		case c.State.Running != nil:
			is = "running"
		case c.State.Terminated != nil:
			is = fmt.Sprintf("%s:%d", c.State.Terminated.Reason, c.State.Terminated.ExitCode)
		case c.State.Waiting != nil:
			is = c.State.Waiting.Reason
		}
		out = append(out, fmt.Sprintf("%s=%s(%d)", c.Name, is, c.RestartCount))
	}
	return strings.Join(out, " ")
}

func (w *world) is(name, want string) {
	w.t.Helper()
	synctest.Wait()
	if got := w.state(name); got != want {
		w.t.Errorf("got pod %s %q, want %q", name, got, want)
	}
}

func (w *world) log(name, container string, previous bool) string {
	w.t.Helper()
	var out bytes.Buffer
	if err := w.m.ReadLogs(w.t.Context(), &out, "default", name, container, previous, logs.Options{}); err != nil {
		return err.Error()
	}
	return out.String()
}

// pod makes a pod of one container, app.
func pod(name, image string, change ...func(*v1.Pod)) *v1.Pod {
	p := &v1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, UID: types.UID("uid-" + name), ResourceVersion: "1", CreationTimestamp: metav1.Now()},
		Spec: v1.PodSpec{
			RestartPolicy: v1.RestartPolicyAlways, NodeName: "n1",
			Containers: []v1.Container{{Name: "app", Image: image, ImagePullPolicy: v1.PullIfNotPresent}},
		},
		Status: v1.PodStatus{Phase: v1.PodPending},
	}
	for _, c := range change {
		c(p)
	}
	return p
}

func policy(r v1.RestartPolicy) func(*v1.Pod) { return func(p *v1.Pod) { p.Spec.RestartPolicy = r } }

func remove(p *v1.Pod, grace int64) *v1.Pod {
	p = p.DeepCopy()
	now := metav1.Now()
	p.DeletionTimestamp, p.DeletionGracePeriodSeconds = &now, &grace
	return p
}
