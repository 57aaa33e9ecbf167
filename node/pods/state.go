package pods

import (
	"net/netip"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"copepod/node/probe"
	"copepod/node/runtime"
)

// state is everything that is known of a pod: what is wanted of it and what was
// observed. next and status are functions of it; only its worker changes it.
type state struct {
	pod        *v1.Pod
	since      time.Time // when this node took it on
	sandbox    sandbox
	containers []container // init containers first, each kind in its order

	verdict  *fault // the pod has failed as a whole: rejected, or past its deadline
	gone     bool   // the object no longer exists
	leaving  bool   // the node stops
	grace    time.Duration
	endingAt time.Time // when it began to end; zero: it has not
	finished bool      // nothing is left, and that was reported
}

// sandbox is what the containers of a pod share: its volumes and its address.
type sandbox struct {
	step    sandboxStep
	ip      netip.Addr
	retryAt time.Time
	backoff backoff
	stale   bool      // volumes must be filled again
	refresh time.Time // when they go stale by themselves; zero: never
	filling bool      // they are being filled again
}

type sandboxStep uint8

const (
	absent sandboxStep = iota
	settingUp
	up
	tearingDown
	removed
)

// step is where a container is on its way.
type step uint8

// The steps of one run. A container that has ended goes from exited to pulling
// again if it is to be restarted.
const (
	waiting step = iota // never ran
	pulling
	pulled
	creating
	created
	starting
	running
	stopping
	exited
)

// inFlight says that an operation is under way whose result will come.
func (s step) inFlight() bool { return s == pulling || s == creating || s == starting }

type role uint8

const (
	initRole    role = iota // runs to its end before the next
	sidecarRole             // an init container that keeps running
	mainRole
)

// container is one container of a pod.
type container struct {
	spec *v1.Container
	role role
	step step

	image     runtime.Image
	runs      string // the image name that it was created with
	id        string
	restarts  int32
	startedAt time.Time
	beenUp    bool // it has started once, as far as those after it care

	exit *v1.ContainerStateTerminated // of the run that ended last; nil while there was none
	last *v1.ContainerStateTerminated // of the run before the current one

	fault   fault // what keeps it from running, if anything
	retryAt time.Time
	pulls   backoff // of its image
	faults  backoff // of being created and started
	crashes backoff

	probes  [3]probe.Tracker // by probe.Kind
	probing [3]bool

	killBy time.Time // while stopping
	killed bool
	again  bool // it was stopped to be run again
}

// fault is a reason in the words of the API, and when it came up.
type fault struct {
	reason, message string
	at              time.Time
}

// The reasons for which a container waits.
const (
	reasonCreating      = "ContainerCreating"
	reasonInitializing  = "PodInitializing"
	reasonErrPull       = "ErrImagePull"
	reasonPullBackOff   = "ImagePullBackOff"
	reasonNeverPull     = "ErrImageNeverPull"
	reasonImageName     = "InvalidImageName"
	reasonConfig        = "CreateContainerConfigError"
	reasonCreate        = "CreateContainerError"
	reasonRun           = "RunContainerError"
	reasonCrashLoop     = "CrashLoopBackOff"
	reasonPostStart     = "PostStartHookError"
	reasonStatusUnknown = "ContainerStatusUnknown"
	reasonDeadline      = "DeadlineExceeded"
)

// started says that those who wait for this container need not any longer.
func (c *container) started() bool { return c.step == running && c.probes[probe.Startup].OK }

// mark remembers that it has started.
func (c *container) mark() { c.beenUp = c.beenUp || c.started() }

// ready says that it can serve.
func (c *container) ready() bool { return c.started() && c.probes[probe.Readiness].OK }

// begin is the state of a pod that this node takes on: a new one, or one that a
// node process before this one ran. What ran then was killed with the process.
func begin(pod *v1.Pod, now time.Time) *state {
	s := &state{pod: pod, since: now}
	if t := pod.Status.StartTime; t != nil {
		s.since = t.Time
	}
	if ip, err := netip.ParseAddr(pod.Status.PodIP); err == nil {
		s.sandbox.ip = ip
	}
	over := pod.Status.Phase == v1.PodSucceeded || pod.Status.Phase == v1.PodFailed
	if pod.Status.Phase == v1.PodFailed && pod.Status.Reason != "" {
		s.verdict = &fault{reason: pod.Status.Reason, message: pod.Status.Message}
	}
	add := func(spec *v1.Container, role role, there []v1.ContainerStatus) {
		c := container{spec: spec, role: role}
		for i := range there {
			if there[i].Name == spec.Name {
				c.restore(&there[i], over || role == mainRole, now)
			}
		}
		s.containers = append(s.containers, c)
	}
	for i := range pod.Spec.InitContainers {
		spec := &pod.Spec.InitContainers[i]
		r := initRole
		if spec.RestartPolicy != nil && *spec.RestartPolicy == v1.ContainerRestartPolicyAlways {
			r = sidecarRole
		}
		add(spec, r, pod.Status.InitContainerStatuses)
	}
	for i := range pod.Spec.Containers {
		add(&pod.Spec.Containers[i], mainRole, pod.Status.ContainerStatuses)
	}
	return s
}

// restore takes over what the API says of a container. keep is false for init
// containers: they run again when their pod is made anew, and so have not ended.
func (c *container) restore(there *v1.ContainerStatus, keep bool, now time.Time) {
	c.restarts = there.RestartCount
	c.last = there.LastTerminationState.Terminated
	switch {
	case there.State.Terminated != nil:
		c.exit = there.State.Terminated
	case there.State.Running != nil:
		c.exit = &v1.ContainerStateTerminated{
			ExitCode: 137, Reason: reasonStatusUnknown,
			Message:     "The container could not be located when the pod was terminated",
			StartedAt:   there.State.Running.StartedAt,
			FinishedAt:  metav1.NewTime(now).Rfc3339Copy(),
			ContainerID: there.ContainerID,
		}
	case there.LastTerminationState.Terminated != nil: // it waited to be restarted
		c.exit, c.last = there.LastTerminationState.Terminated, nil
	}
	if c.exit == nil {
		return
	}
	c.id = there.ContainerID
	c.image.Name, c.image.ID = there.Image, there.ImageID
	if keep {
		c.step = exited
	}
}

// update takes a newer object of the same pod.
func (s *state) update(pod *v1.Pod) {
	s.sandbox.stale = s.sandbox.stale || s.sandbox.step == up && !sameMeta(s.pod, pod)
	s.pod = pod
	specs := make(map[string]*v1.Container, len(s.containers))
	for i := range pod.Spec.InitContainers {
		specs[pod.Spec.InitContainers[i].Name] = &pod.Spec.InitContainers[i]
	}
	for i := range pod.Spec.Containers {
		specs[pod.Spec.Containers[i].Name] = &pod.Spec.Containers[i]
	}
	for i := range s.containers {
		if spec := specs[s.containers[i].spec.Name]; spec != nil {
			s.containers[i].spec = spec
		}
	}
}

// sameMeta says that the downward API has nothing new to show.
func sameMeta(a, b *v1.Pod) bool {
	same := func(x, y map[string]string) bool {
		if len(x) != len(y) {
			return false
		}
		for k, v := range x {
			if w, ok := y[k]; !ok || v != w {
				return false
			}
		}
		return true
	}
	return same(a.Labels, b.Labels) && same(a.Annotations, b.Annotations)
}

// objectsChanged is told when a ConfigMap or Secret of the pod changed: what
// failed for the want of it is tried again at once.
func (s *state) objectsChanged() {
	if s.sandbox.step == up {
		s.sandbox.stale = true
	}
	s.sandbox.retryAt = time.Time{}
	for i := range s.containers {
		if c := &s.containers[i]; c.fault.reason == reasonConfig {
			c.retryAt = time.Time{}
		}
	}
}

// restarts says whether a container that ended is to run again.
func (s *state) restarts(c *container) bool {
	if c.exit == nil {
		return true
	}
	if c.role == sidecarRole || c.again {
		return true
	}
	switch s.policy(c) {
	case v1.RestartPolicyNever:
		return false
	case v1.RestartPolicyOnFailure:
		return c.exit.ExitCode != 0
	}
	return c.role == mainRole || c.exit.ExitCode != 0
}

// policy is the restart policy of a container: its own, or its pod's.
func (s *state) policy(c *container) v1.RestartPolicy {
	if c.role != sidecarRole && c.spec.RestartPolicy != nil {
		return v1.RestartPolicy(*c.spec.RestartPolicy)
	}
	return s.pod.Spec.RestartPolicy
}

// done says that every container that the pod is about has ended for good.
func (s *state) done() bool {
	if s.verdict != nil {
		return true
	}
	for i := range s.containers {
		c := &s.containers[i]
		ended := c.step == exited && !s.restarts(c)
		switch {
		case c.role == initRole && ended && c.exit.ExitCode != 0:
			return true // nothing after it will ever run
		case c.role == mainRole && !ended:
			return false
		}
	}
	return true
}
