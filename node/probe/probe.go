// Package probe asks a container whether it has started, is ready, is alive. It
// has two halves: a Tracker, a value that turns outcomes into a verdict by the
// thresholds of the Kubernetes API, and a Prober, which asks once over the pod
// network. It knows probes and outcomes; it keeps no timer and starts no
// goroutine: its caller asks a Tracker when the next probe is due.
//
//	t := probe.NewTracker(probe.Readiness, spec, started)
//	if !now.Before(t.Due) {
//		outcome, message := prober.Run(ctx, probe.Target{IP: ip, Container: c}, spec)
//		t = t.Observe(outcome, now)
//	}
package probe

import (
	"time"

	v1 "k8s.io/api/core/v1"
)

// Kind is which question a probe answers.
type Kind int

// The kinds, in the order in which they gate each other.
const (
	Startup Kind = iota
	Readiness
	Liveness
)

// String is the word that events use.
func (k Kind) String() string { return [...]string{"Startup", "Readiness", "Liveness"}[k] }

// Outcome is what one probe found.
type Outcome int

// Outcomes. Unknown means that the question could not be asked; it changes nothing.
const (
	Unknown Outcome = iota
	Success
	Failure
)

// String is the label that metrics use.
func (o Outcome) String() string { return [...]string{"unknown", "successful", "failed"}[o] }

// Tracker is the state of one probe of one run of a container. It is a value:
// Observe returns the next one. The zero Tracker has no probe: it is never due,
// and OK for every kind.
type Tracker struct {
	Due  time.Time // of the next probe; zero: never
	OK   bool      // the verdict: started, ready or alive
	Dead bool      // startup or liveness failed for good: the container must be restarted

	kind   Kind
	spec   *v1.Probe
	last   Outcome
	streak int32 // outcomes equal to last, in a row
}

// NewTracker starts tracking a container that started at the given time. spec
// nil means that the container has no such probe.
func NewTracker(kind Kind, spec *v1.Probe, started time.Time) Tracker {
	if spec == nil {
		return Tracker{OK: true, kind: kind}
	}
	return Tracker{
		OK:   kind == Liveness, // alive until proven dead, unready until proven ready
		Due:  started.Add(seconds(spec.InitialDelaySeconds)),
		kind: kind, spec: spec,
	}
}

// Observe counts an outcome, and plans the next probe a period later.
func (t Tracker) Observe(o Outcome, now time.Time) Tracker {
	if t.spec == nil || t.Dead {
		return t
	}
	t.Due = now.Add(Period(t.spec))
	if o == Unknown {
		return t
	}
	if o == t.last {
		t.streak++
	} else {
		t.last, t.streak = o, 1
	}
	switch {
	case o == Success && t.streak >= max(t.spec.SuccessThreshold, 1):
		t.OK = true
		if t.kind == Startup {
			t.Due = time.Time{} // it has started: asked and answered
		}
	case o == Failure && t.streak >= threshold(t.spec):
		t.OK = false
		if t.kind != Readiness {
			t.Dead, t.Due = true, time.Time{}
		}
	}
	return t
}

func threshold(p *v1.Probe) int32 {
	if p.FailureThreshold > 0 {
		return p.FailureThreshold
	}
	return 3 // the API's default
}

// Period is the time between two probes; 10 s unless the probe says otherwise.
func Period(p *v1.Probe) time.Duration {
	if p.PeriodSeconds > 0 {
		return seconds(p.PeriodSeconds)
	}
	return 10 * time.Second
}

// Timeout is how long one probe may take; 1 s unless the probe says otherwise.
func Timeout(p *v1.Probe) time.Duration {
	if p.TimeoutSeconds > 0 {
		return seconds(p.TimeoutSeconds)
	}
	return time.Second
}

func seconds(n int32) time.Duration { return time.Duration(max(n, 0)) * time.Second }
