package pods

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"copepod/node/logs"
	"copepod/node/mesh/vnet"
	"copepod/node/probe"
	"copepod/node/runtime"
	"copepod/wasmrt"
)

// create makes a container ready to start.
func (w *worker) create(i int) task {
	c, with, pod := w.state.containers[i], w.shared, w.state.pod
	attempt := c.restarts
	if c.exit != nil {
		attempt++
	}
	ref := w.ref(&c)
	return func(ctx context.Context) func(*state) {
		made, log, pinned, f := w.makeContainer(ctx, with, pod, &c, attempt)
		return func(s *state) {
			c := &s.containers[i]
			if f != nil {
				if ctx.Err() == nil {
					w.fault(c, *f)
				}
				c.rest()
				return
			}
			w.m.event(ref, v1.EventTypeNormal, "Created", "Container created")
			w.runs[i] = run{c: made, log: log, pinned: pinned}
			c.step, c.runs, c.again = created, c.spec.Image, false
		}
	}
}

// makeContainer builds all that a container needs. On a fault nothing stays open.
func (w *worker) makeContainer(ctx context.Context, with shared, pod *v1.Pod, c *container, attempt int32) (made runtime.Container, log *logs.Writer, pinned io.Closer, f *fault) {
	var open []io.Closer
	defer func() {
		for i := 0; f != nil && i < len(open); i++ {
			_ = open[i].Close()
		}
	}()
	src := w.source(pod, with.stack.Addr().String())
	env, err := buildEnvironment(ctx, src, w.m.cfg.Objects, c.spec, w.m.cfg.Services())
	if err != nil {
		return nil, nil, nil, &fault{reason: reasonConfig, message: err.Error()}
	}
	w.complain(pod, c, env.skipped)
	mounts, pinned, err := with.mounted.Mounts(c.spec, env.subPath)
	if err != nil {
		return nil, nil, nil, &fault{reason: reasonConfig, message: err.Error()}
	}
	open = append(open, pinned)
	words, err := w.terminationLog(c.spec)
	if err != nil {
		return nil, nil, nil, &fault{reason: reasonCreate, message: err.Error()}
	}
	log, err = w.m.cfg.Logs.Writer(w.logs(), c.spec.Name, attempt)
	if err != nil {
		return nil, nil, nil, &fault{reason: reasonCreate, message: err.Error()}
	}
	open = append(open, log)
	listeners, err := listen(ctx, with.stack, c.spec)
	for _, l := range listeners {
		open = append(open, l)
	}
	if err != nil {
		return nil, nil, nil, &fault{reason: reasonCreate, message: err.Error()}
	}
	made, err = with.rt.Create(ctx, runtime.Spec{
		Namespace: w.ns, Pod: w.name, UID: w.uid, Container: c.spec.Name, Attempt: attempt,
		Image: c.image, Command: env.expandAll(c.spec.Command), Args: env.expandAll(c.spec.Args),
		Env: env.list(), WorkingDir: c.spec.WorkingDir, Mounts: append(mounts, words),
		Stdout: log.Stdout(), Stderr: log.Stderr(),
		Listeners: listeners, Network: with.stack,
		MemoryLimit: c.spec.Resources.Limits.Memory().Value(),
		CPUMilli:    c.spec.Resources.Limits.Cpu().MilliValue(),
		CPUWeight:   c.spec.Resources.Requests.Cpu().MilliValue(),
	})
	if err != nil {
		return nil, nil, nil, &fault{reason: reasonCreate, message: err.Error()}
	}
	_ = w.m.cfg.Logs.Trim(w.logs(), c.spec.Name, attempt-1) // an old log that stays harms nobody
	return made, log, pinned, nil
}

// complain tells of names in ConfigMaps that cannot be variables.
func (w *worker) complain(pod *v1.Pod, c *container, names []string) {
	if len(names) == 0 {
		return
	}
	ref := v1.ObjectReference{APIVersion: "v1", Kind: "Pod", Namespace: w.ns, Name: w.name, UID: pod.UID}
	w.m.event(ref, v1.EventTypeWarning, "InvalidEnvironmentVariableNames",
		fmt.Sprintf("Keys [%s] of container %s were skipped since they are considered invalid environment variable names.", strings.Join(names, ", "), c.spec.Name))
}

// listen opens the container's TCP ports, so that a program finds them open and
// nobody is refused while it starts.
func listen(ctx context.Context, stack *vnet.Stack, c *v1.Container) ([]runtime.Listener, error) {
	var open []runtime.Listener
	for i := range c.Ports {
		p := &c.Ports[i]
		if p.Protocol != "" && p.Protocol != v1.ProtocolTCP {
			continue
		}
		port := strconv.Itoa(int(p.ContainerPort))
		l, err := stack.Listen(ctx, "tcp", net.JoinHostPort("", port))
		if err != nil {
			return open, err
		}
		name := p.Name
		if name == "" {
			name = port
		}
		open = append(open, runtime.Listener{Name: name, Listener: l})
	}
	return open, nil
}

// start runs a container that was created.
func (w *worker) start(i int) task {
	c, with, r := w.state.containers[i], w.shared, w.runs[i]
	began := w.state.pod.CreationTimestamp.Time
	ref := w.ref(&c)
	return func(ctx context.Context) func(*state) {
		err := w.m.starts.Acquire(ctx, 1)
		if err == nil {
			if err = r.c.Start(ctx); err == nil {
				w.ops.Go(func() { w.m.settle(r.c) })
			} else {
				w.m.starts.Release(1)
			}
		}
		at := time.Now()
		_ = r.pinned.Close()
		if err != nil {
			return w.notStarted(ctx, i, fault{reason: reasonRun, message: err.Error()})
		}
		w.m.cfg.Meter.started(began, at)
		w.m.event(ref, v1.EventTypeNormal, "Started", "Container started")
		if err := w.postStart(ctx, with, c.spec, r.c); err != nil {
			w.m.event(ref, v1.EventTypeWarning, "FailedPostStartHook", err.Error())
			r.c.Kill()
		}
		return func(s *state) {
			c := &s.containers[i]
			if c.exit != nil {
				c.restarts++
				w.m.cfg.Meter.restarts.Inc()
			}
			c.last, c.exit = c.exit, nil
			c.id, c.startedAt, c.step = r.c.ID(), at, running
			c.fault, c.faults = fault{}, backoff{}
			for k := range c.probes {
				kind := probe.Kind(k)
				c.probes[k] = probe.NewTracker(kind, c.probe(kind), at)
			}
			c.mark()
			w.meter(c.spec.Name, at, r.c)
			w.runs[i].ctx, w.runs[i].ask = context.WithCancel(context.WithoutCancel(ctx))
		}
	}
}

// How a program is seen to have settled.
const (
	settleLook = time.Millisecond
	settleMost = 250 * time.Millisecond
)

// settle holds the place of a program that has started until it waits for
// something: a thousand programs that begin at once would leave no processor for
// those who report that they have. It goes by the processor time that the
// program uses, and gives up on one that goes on using it.
func (m *Manager) settle(c runtime.Container) {
	defer m.starts.Release(1)
	s, ok := c.(runtime.Statser)
	if !ok {
		return
	}
	last := s.Stats().CPU
	for end := time.Now().Add(settleMost); time.Now().Before(end); {
		select {
		case <-c.Done():
			return
		case <-time.After(settleLook):
		}
		now := s.Stats().CPU
		if now == last && now > 0 {
			return
		}
		last = now
	}
}

// notStarted takes that a container was created and would not start.
func (w *worker) notStarted(ctx context.Context, i int, f fault) func(*state) {
	return func(s *state) {
		w.discard(i)
		if ctx.Err() == nil {
			w.fault(&s.containers[i], f)
		}
	}
}

// target is a container as a probe or a hook sees it.
func target(stack *vnet.Stack, spec *v1.Container, c runtime.Container) probe.Target {
	t := probe.Target{IP: stack.Addr(), Container: spec}
	if x, ok := c.(runtime.Execer); ok {
		t.Exec = x
	}
	return t
}

// ask asks one probe.
func (w *worker) ask(i int, kind probe.Kind) task {
	c, r := w.state.containers[i], w.runs[i]
	spec, t, ref := c.probe(kind), target(w.shared.stack, c.spec, r.c), w.ref(&c)
	return func(ctx context.Context) func(*state) {
		if err := w.m.probes.Acquire(ctx, 1); err != nil {
			return func(*state) {}
		}
		outcome, message := w.m.cfg.Prober.Run(ctx, t, spec)
		w.m.probes.Release(1)
		if ctx.Err() != nil {
			return func(*state) {} // the run that was asked has ended
		}
		w.m.cfg.Meter.probe(kind, outcome)
		switch outcome {
		case probe.Failure:
			w.m.event(ref, v1.EventTypeWarning, "Unhealthy", fmt.Sprintf("%s probe failed: %s", kind, message))
		case probe.Unknown:
			w.m.event(ref, v1.EventTypeWarning, "Unhealthy", fmt.Sprintf("%s probe errored and resulted in unknown state: %s", kind, message))
		}
		return func(s *state) {
			if w.runs[i].c == r.c {
				s.containers[i].observe(kind, outcome, time.Now())
			}
		}
	}
}

// terminationLog is where a container may leave its last words: a file of its
// own for each run.
func (w *worker) terminationLog(c *v1.Container) (runtime.Mount, error) {
	host := w.wordsPath(c)
	if err := os.WriteFile(host, nil, 0o600); err != nil {
		return runtime.Mount{}, err
	}
	guest := c.TerminationMessagePath
	if guest == "" {
		guest = v1.TerminationMessagePathDefault
	}
	quota, err := wasmrt.NewQuota(host, wasmrt.Usage{Bytes: maxWordsKept})
	return runtime.Mount{Guest: guest, Host: host, Quota: quota}, err
}

func (w *worker) wordsPath(c *v1.Container) string {
	return filepath.Join(w.m.cfg.Volumes.PodDir(types.UID(w.uid)), "..termination-log."+c.Name)
}
