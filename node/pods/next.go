package pods

import (
	"time"

	v1 "k8s.io/api/core/v1"

	"copepod/node/probe"
)

// verb is something to do for a pod.
type verb uint8

// The verbs: what a pod needs as a whole, then what one container needs.
const (
	setUp    verb = iota // make the volumes, take an address
	refill               // fill the volumes again
	tearDown             // give back what setUp took
	finish               // report that nothing is left
	fail                 // the pod's deadline has passed

	pull     // find the image, or fetch it
	create   //
	start    //
	ask      // a probe
	stop     // politely, then by force at action.by
	kill     //
	discard  // a container that was created and will not start
	slowDown // show that it waits for another try
)

// action is one thing to do.
type action struct {
	verb      verb
	container int        // index, for verbs about a container
	kind      probe.Kind // for ask
	by        time.Time  // for stop: when politeness ends
	why       string     // for stop and fail: in the words of an event
	again     bool       // for stop: it is to run again whatever its restart policy says
}

// plan is what to do now, and when to look again if nothing happens before.
type plan struct {
	actions []action
	wake    time.Time // zero: never
	ending  bool      // operations under way are to be given up
}

func (p *plan) do(a action) { p.actions = append(p.actions, a) }

func (p *plan) at(t time.Time) {
	if !t.IsZero() && (p.wake.IsZero() || t.Before(p.wake)) {
		p.wake = t
	}
}

// settle is how long a failure is shown as such before it is shown as waiting.
const settle = time.Second

// next decides what a pod needs, from what is wanted and what was observed. It
// is the whole life of a pod: image, create, start, ready, running, terminated.
func next(s *state, now time.Time) plan {
	var p plan
	if s.finished {
		return p
	}
	if deadline, ok := s.deadline(); ok && !s.done() {
		if now.Before(deadline) {
			p.at(deadline)
		} else {
			p.do(action{verb: fail, why: "Pod was active on the node longer than the specified deadline"})
			return p
		}
	}
	if grace, ending := s.ending(); ending {
		s.windDown(&p, grace, now)
		return p
	}
	if !s.prepare(&p, now) {
		return p
	}
	for i := range s.containers {
		c := &s.containers[i]
		if c.role == initRole && c.step == exited && !s.restarts(c) {
			continue // done, and done() says whether well
		}
		s.advance(&p, i, now)
		if (c.role == initRole || c.role == sidecarRole) && !c.beenUp {
			return p // those after it wait
		}
	}
	return p
}

// deadline is when the pod must have ended, if it says so.
func (s *state) deadline() (time.Time, bool) {
	if d := s.pod.Spec.ActiveDeadlineSeconds; d != nil {
		return s.since.Add(time.Duration(*d) * time.Second), true
	}
	return time.Time{}, false
}

// ending says whether the pod is to end, and how patiently.
func (s *state) ending() (time.Duration, bool) {
	grace := 30 * time.Second
	if g := s.pod.Spec.TerminationGracePeriodSeconds; g != nil {
		grace = time.Duration(*g) * time.Second
	}
	switch {
	case s.leaving:
		return min(grace, s.grace), true
	case s.gone:
		return min(grace, time.Second), true // deleted by force: nobody waits for it
	case s.pod.DeletionTimestamp != nil:
		if g := s.pod.DeletionGracePeriodSeconds; g != nil {
			grace = time.Duration(*g) * time.Second
		}
		return grace, true
	}
	return grace, s.done()
}

// prepare sees to the volumes and the address; true when they are there.
func (s *state) prepare(p *plan, now time.Time) bool {
	b := &s.sandbox
	switch b.step {
	case absent:
		if now.Before(b.retryAt) {
			p.at(b.retryAt)
		} else {
			p.do(action{verb: setUp})
		}
		return false
	case up:
		if b.filling {
			return true
		}
		if b.stale || (!b.refresh.IsZero() && !now.Before(b.refresh)) {
			p.do(action{verb: refill})
		}
		p.at(b.refresh)
		return true
	}
	return false
}

// advance takes one container one step on its way.
func (s *state) advance(p *plan, i int, now time.Time) {
	c := &s.containers[i]
	switch c.step {
	case waiting, exited:
		if c.step == exited && !s.restarts(c) {
			return
		}
		if !now.Before(c.retryAt) {
			p.do(action{verb: pull, container: i})
			return
		}
		p.at(c.retryAt)
		if settled := c.settledAt(); !settled.IsZero() {
			if now.Before(settled) {
				p.at(settled)
			} else {
				p.do(action{verb: slowDown, container: i})
			}
		}
	case pulled:
		p.do(action{verb: create, container: i})
	case created:
		p.do(action{verb: start, container: i})
	case running:
		s.watch(p, i, now)
	case stopping:
		c.force(p, i, c.killBy, now)
	}
}

// settledAt is when a failure is to be shown as a back-off; zero: never.
func (c *container) settledAt() time.Time {
	switch {
	case c.fault.reason == reasonErrPull:
		return c.fault.at.Add(settle)
	case c.fault.reason == "" && c.exit != nil:
		return c.exit.FinishedAt.Add(settle)
	}
	return time.Time{}
}

// watch looks after a container that runs.
func (s *state) watch(p *plan, i int, now time.Time) {
	c := &s.containers[i]
	for _, k := range []probe.Kind{probe.Startup, probe.Liveness} {
		if c.probes[k].Dead {
			p.do(action{
				verb: stop, container: i, by: now.Add(s.probeGrace(c, k)),
				why: "Container " + c.spec.Name + " failed " + lower(k) + " probe, will be restarted",
			})
			return
		}
	}
	if c.runs != c.spec.Image {
		grace := time.Duration(0)
		if g := s.pod.Spec.TerminationGracePeriodSeconds; g != nil {
			grace = time.Duration(*g) * time.Second
		}
		p.do(action{
			verb: stop, container: i, by: now.Add(grace), again: true,
			why: "Container " + c.spec.Name + " definition changed, will be restarted",
		})
		return
	}
	for k := range c.probes {
		kind := probe.Kind(k)
		if kind != probe.Startup && !c.probes[probe.Startup].OK {
			continue // not asked before it has started
		}
		due := c.probes[k].Due
		switch {
		case due.IsZero() || c.probing[k]:
		case now.Before(due):
			p.at(due)
		default:
			p.do(action{verb: ask, container: i, kind: kind})
		}
	}
}

func lower(k probe.Kind) string {
	return [...]string{probe.Startup: "startup", probe.Readiness: "readiness", probe.Liveness: "liveness"}[k]
}

// spec is the container's probe of a kind, or nil.
func (c *container) probe(k probe.Kind) *v1.Probe {
	switch k {
	case probe.Startup:
		return c.spec.StartupProbe
	case probe.Readiness:
		return c.spec.ReadinessProbe
	}
	return c.spec.LivenessProbe
}

// probeGrace is how long a container may take to end that a probe found dead.
func (s *state) probeGrace(c *container, k probe.Kind) time.Duration {
	if spec := c.probe(k); spec != nil && spec.TerminationGracePeriodSeconds != nil {
		return time.Duration(*spec.TerminationGracePeriodSeconds) * time.Second
	}
	if g := s.pod.Spec.TerminationGracePeriodSeconds; g != nil {
		return time.Duration(*g) * time.Second
	}
	return 30 * time.Second
}

// force kills a container whose time to end is over.
func (c *container) force(p *plan, i int, by, now time.Time) {
	switch {
	case c.killed:
	case now.Before(by):
		p.at(by)
	default:
		p.do(action{verb: kill, container: i})
	}
}

// windDown ends a pod: its containers, then its sidecars from the last to the
// first, then what they shared.
func (s *state) windDown(p *plan, grace time.Duration, now time.Time) {
	p.ending = true
	since := s.endingAt
	if since.IsZero() {
		since = now
	}
	by := since.Add(grace)
	busy := false
	for i := range s.containers {
		if c := &s.containers[i]; c.role != sidecarRole {
			busy = c.endStep(p, i, by, now) || busy
		}
	}
	for i := len(s.containers) - 1; i >= 0 && !busy; i-- {
		if c := &s.containers[i]; c.role == sidecarRole {
			busy = c.endStep(p, i, by, now)
		}
	}
	if busy {
		return
	}
	switch s.sandbox.step {
	case up:
		if !s.sandbox.filling {
			p.do(action{verb: tearDown})
		}
	case absent, removed:
		if s.gone || s.leaving || s.pod.DeletionTimestamp != nil {
			p.do(action{verb: finish})
		}
	}
}

// endStep takes one container one step to its end; true while it has one to go.
func (c *container) endStep(p *plan, i int, by, now time.Time) bool {
	switch c.step {
	case running:
		p.do(action{verb: stop, container: i, by: by, why: "Stopping container " + c.spec.Name})
	case stopping:
		if c.killBy.Before(by) {
			by = c.killBy
		}
		c.force(p, i, by, now)
	case created:
		p.do(action{verb: discard, container: i})
	default:
		return c.step.inFlight()
	}
	return true
}
