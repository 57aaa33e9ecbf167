package pods

import (
	"context"
	"fmt"
	"io"
	"net/netip"
	"reflect"
	"sync"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"

	"copepod/node/logs"
	"copepod/node/probe"
	"copepod/node/runtime"
	"copepod/node/status"
)

// worker is the goroutine of one pod. All fields from state on belong to it
// alone once it is launched; everybody else posts.
type worker struct {
	m        *Manager
	uid      string
	name     string
	ns       string
	wake     chan struct{}
	launched bool // guarded by m.mu

	mu      sync.Mutex // guards what follows, up to state
	inbox   []func(*state)
	pod     *v1.Pod      // for readers: as it is known
	told    v1.PodStatus // for readers: as it was last reported
	metered []meterable  // containers that run

	took     time.Time // when this worker took the pod on
	over     bool      // it had ended by then: there is nothing to add to what the API knows
	state    *state
	reported v1.PodStatus
	address  netip.Addr
	shared   shared // from setUp to tearDown
	runs     []run  // by container
	ops      sync.WaitGroup
	opsCtx   context.Context // of setup, pull, create and start
	giveUp   context.CancelFunc
}

// run is what a worker holds of a container's current run.
type run struct {
	c      runtime.Container
	log    *logs.Writer
	pinned io.Closer          // what its mounts need until it has started
	ctx    context.Context    //nolint:containedctx // of its probes and hooks, for as long as it runs
	ask    context.CancelFunc // ends ctx
}

func newWorker(m *Manager, pod *v1.Pod) *worker {
	w := &worker{
		m: m, uid: string(pod.UID), name: pod.Name, ns: pod.Namespace,
		wake: make(chan struct{}, 1), took: time.Now(), state: begin(pod, time.Now()), pod: pod, told: pod.Status, reported: pod.Status,
	}
	w.over = pod.Status.Phase == v1.PodSucceeded || pod.Status.Phase == v1.PodFailed
	w.runs = make([]run, len(w.state.containers))
	return w
}

func (w *worker) logs() logs.Pod { return logs.Pod{Namespace: w.ns, Name: w.name, UID: w.uid} }

// post hands the worker something to change in its state. It never blocks.
func (w *worker) post(change func(*state)) {
	w.mu.Lock()
	w.inbox = append(w.inbox, change)
	w.mu.Unlock()
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// fold applies what was posted.
func (w *worker) fold() {
	w.mu.Lock()
	inbox := w.inbox
	w.inbox = nil
	w.mu.Unlock()
	for _, change := range inbox {
		change(w.state)
	}
}

// snapshot is the pod as it was last reported.
func (w *worker) snapshot() *v1.Pod {
	w.mu.Lock()
	defer w.mu.Unlock()
	pod := *w.pod
	pod.Status = w.told
	return &pod
}

// update takes a newer object of the pod.
func (w *worker) update(pod *v1.Pod) {
	w.mu.Lock()
	w.pod = pod
	w.mu.Unlock()
	w.post(func(s *state) { s.update(pod) })
}

// run lives the pod's life. ctx does not end before the worker does.
func (w *worker) run(ctx context.Context) {
	w.opsCtx, w.giveUp = context.WithCancel(ctx)
	defer w.giveUp()
	defer w.ops.Wait()
	if refs := References(w.state.pod); len(refs) > 0 && !w.state.done() {
		w.m.cfg.Holder.Hold(w.state.pod.UID, refs)
	}
	defer w.m.cfg.Holder.Hold(w.state.pod.UID, nil)
	defer w.giveAddress()
	w.m.cfg.Meter.phase("", w.reported.Phase)
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		w.fold()
		plan := next(w.state, time.Now())
		if plan.ending && w.state.endingAt.IsZero() {
			w.state.endingAt = time.Now()
			w.giveUp()
		}
		for _, a := range plan.actions {
			w.do(ctx, a)
		}
		if w.state.finished && (w.state.gone || w.state.leaving) {
			return
		}
		if len(plan.actions) > 0 {
			continue // an action changes what is next
		}
		w.report()
		w.park(timer, plan.wake)
	}
}

// park waits for a message, the end of a program, or the time to look again.
func (w *worker) park(timer *time.Timer, until time.Time) {
	d := 24 * time.Hour
	if !until.IsZero() {
		d = max(time.Until(until), 0)
	}
	timer.Reset(d)
	cases := []reflect.SelectCase{
		{Dir: reflect.SelectRecv, Chan: reflect.ValueOf(w.wake)},
		{Dir: reflect.SelectRecv, Chan: reflect.ValueOf(timer.C)},
	}
	var who []int
	for i := range w.runs {
		if s := w.state.containers[i].step; (s == running || s == stopping) && w.runs[i].c != nil {
			cases = append(cases, reflect.SelectCase{Dir: reflect.SelectRecv, Chan: reflect.ValueOf(w.runs[i].c.Done())})
			who = append(who, i)
		}
	}
	if chosen, _, _ := reflect.Select(cases); chosen >= 2 {
		w.exited(who[chosen-2])
	}
}

// report tells the API how the pod is, if that has changed.
func (w *worker) report() {
	if w.state.leaving || w.state.gone || (w.over && !w.state.finished) {
		return
	}
	now := w.state.status(&w.reported, w.m.cfg.HostIP, time.Now())
	if !w.state.finished && equality.Semantic.DeepEqual(now, w.reported) {
		return
	}
	before := w.reported
	w.m.cfg.Meter.phase(before.Phase, now.Phase)
	w.reported = now
	w.mu.Lock()
	w.told = now
	w.mu.Unlock()
	w.m.cfg.Meter.ready(&before, &now, w.took)
	w.m.cfg.Reporter.Report(status.Report{Pod: w.state.pod, Status: now, Urgent: urgent(&before, &now), Final: w.state.finished})
}

// op runs a task.
func (w *worker) op(ctx context.Context, t task) {
	w.ops.Go(func() { w.post(t(ctx)) })
}

// do begins an action: it marks the state, so that next does not ask again, and
// hands what takes time to an operation.
func (w *worker) do(ctx context.Context, a action) {
	s, now := w.state, time.Now()
	var c *container
	if a.verb >= pull {
		c = &s.containers[a.container]
	}
	switch a.verb {
	case setUp:
		s.sandbox.step = settingUp
		w.op(w.opsCtx, w.setUp())
	case refill:
		s.sandbox.stale, s.sandbox.refresh, s.sandbox.filling = false, time.Time{}, true
		w.op(w.opsCtx, w.refill())
	case tearDown:
		s.sandbox.step = tearingDown
		w.op(ctx, w.tearDown())
	case finish:
		s.finished = true
		w.report()
	case fail:
		s.verdict = &fault{reasonDeadline, a.why, now}
		w.event(nil, v1.EventTypeNormal, reasonDeadline, a.why)
	case pull:
		c.step = pulling
		w.op(w.opsCtx, w.pull(a.container))
	case create:
		c.step = creating
		w.op(w.opsCtx, w.create(a.container))
	case start:
		c.step = starting
		w.op(w.opsCtx, w.start(a.container))
	case ask:
		c.probing[a.kind] = true
		w.op(w.runs[a.container].ctx, w.ask(a.container, a.kind))
	case stop:
		c.step, c.killBy, c.killed, c.again = stopping, a.by, false, a.again
		w.stop(ctx, a)
	case kill:
		c.killed = true
		w.runs[a.container].c.Kill()
	case discard:
		w.discard(a.container)
	case slowDown:
		w.slowDown(c, now)
	}
}

// discard throws away a container that was created and will not start.
func (w *worker) discard(i int) {
	r := &w.runs[i]
	r.c.Kill()
	_ = r.pinned.Close()
	_ = r.log.Close()
	w.runs[i] = run{}
	w.state.containers[i].rest()
}

// slowDown shows that a container waits for another try.
func (w *worker) slowDown(c *container, now time.Time) {
	if c.fault.reason == reasonErrPull {
		c.fault = fault{reasonPullBackOff, fmt.Sprintf("Back-off pulling image %q: %s: %s", c.spec.Image, reasonErrPull, c.fault.message), now}
		w.event(c, v1.EventTypeNormal, "BackOff", fmt.Sprintf("Back-off pulling image %q", c.spec.Image))
		w.event(c, v1.EventTypeWarning, "Failed", "Error: "+reasonPullBackOff)
		return
	}
	wait := c.retryAt.Sub(c.exit.FinishedAt.Time).Round(time.Second)
	c.fault = fault{reasonCrashLoop, fmt.Sprintf("back-off %s restarting failed container=%s pod=%s_%s(%s)", wait, c.spec.Name, w.name, w.ns, w.uid), now}
	w.event(c, v1.EventTypeWarning, "BackOff", fmt.Sprintf("Back-off restarting failed container %s in pod %s_%s(%s)", c.spec.Name, w.name, w.ns, w.uid))
}

// ref is what an event is about: the pod, or one of its containers.
func (w *worker) ref(c *container) v1.ObjectReference {
	ref := v1.ObjectReference{
		APIVersion: "v1", Kind: "Pod", Namespace: w.ns, Name: w.name,
		UID: w.state.pod.UID, ResourceVersion: w.state.pod.ResourceVersion,
	}
	if c != nil {
		field := "spec.containers{"
		if c.role != mainRole {
			field = "spec.initContainers{"
		}
		ref.FieldPath = field + c.spec.Name + "}"
	}
	return ref
}

// event records an event about the pod, or one of its containers.
func (w *worker) event(c *container, eventType, reason, message string) {
	w.m.event(w.ref(c), eventType, reason, message)
}

// exited takes the end of a program.
func (w *worker) exited(i int) {
	r := &w.runs[i]
	c := &w.state.containers[i]
	exit := r.c.Exit()
	r.ask()
	w.unmeter(c.spec.Name)
	_ = r.log.Close()
	c.exit = terminated(c, exit, time.Now())
	c.exit.Message = w.lastWords(c, exit)
	w.runs[i] = run{}
	c.step, c.fault = exited, fault{}
	c.probes, c.probing = [3]probe.Tracker{}, [3]bool{}
	c.crashes, c.retryAt = c.crashes.crashed(time.Now())
	w.m.cfg.Log.Debug("container ended", "pod", w.ns+"/"+w.name, "container", c.spec.Name, "code", exit.Code, "reason", exit.Reason)
}
