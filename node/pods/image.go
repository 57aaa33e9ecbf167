package pods

import (
	"context"
	"errors"
	"fmt"
	"time"

	v1 "k8s.io/api/core/v1"

	"copepod/node/runtime"
)

// pullTimeout bounds one pull, however many pods wait for it.
const pullTimeout = 15 * time.Minute

// pull finds the image of a container, or fetches it, as its pull policy says.
func (w *worker) pull(i int) task {
	c := w.state.containers[i]
	rt, pod := w.shared.rt, w.state.pod
	ref := w.ref(&c)
	tell := func(eventType, reason, message string) { w.m.event(ref, eventType, reason, message) }
	return func(ctx context.Context) func(*state) {
		image, f := w.image(ctx, rt, pod, c.spec, tell)
		return func(s *state) {
			c := &s.containers[i]
			if f != nil {
				if ctx.Err() == nil {
					w.fault(c, *f)
				}
				c.rest()
				return
			}
			c.image, c.step, c.pulls = image, pulled, backoff{}
		}
	}
}

// rest takes a container back to where it waits.
func (c *container) rest() {
	c.step = waiting
	if c.exit != nil {
		c.step = exited
	}
}

// fault takes what kept a container from running, and plans another try.
func (w *worker) fault(c *container, f fault) {
	f.at = time.Now()
	switch {
	case f.reason == reasonErrPull:
		w.event(c, v1.EventTypeWarning, "Failed", fmt.Sprintf("Failed to pull image %q: %s", c.spec.Image, f.message))
		w.event(c, v1.EventTypeWarning, "Failed", "Error: "+f.reason)
	case f.reason == reasonNeverPull:
		w.event(c, v1.EventTypeWarning, f.reason, f.message)
		w.event(c, v1.EventTypeWarning, "Failed", "Error: "+f.reason)
	case f.reason == reasonImageName:
		w.event(c, v1.EventTypeWarning, "InspectFailed", f.message)
		w.event(c, v1.EventTypeWarning, "Failed", "Error: "+f.reason)
	default:
		w.event(c, v1.EventTypeWarning, "Failed", "Error: "+f.message)
	}
	c.fault = f
	if f.reason == reasonErrPull {
		c.pulls, c.retryAt = c.pulls.failed(f.at)
	} else {
		c.faults, c.retryAt = c.faults.failed(f.at)
	}
}

// image is the container's image, or why it cannot be had.
func (w *worker) image(ctx context.Context, rt runtime.Runtime, pod *v1.Pod, c *v1.Container, event func(eventType, reason, message string)) (runtime.Image, *fault) {
	image, err := rt.Image(ctx, c.Image)
	switch {
	case errors.Is(err, runtime.ErrImageName):
		return image, &fault{reason: reasonImageName, message: fmt.Sprintf("Failed to apply default image tag %q: %v", c.Image, err)}
	case err != nil && !errors.Is(err, runtime.ErrNoImage):
		return image, &fault{reason: reasonErrPull, message: err.Error()}
	case err == nil && (image.Local || c.ImagePullPolicy != v1.PullAlways):
		event(v1.EventTypeNormal, "Pulled", fmt.Sprintf("Container image %q already present on machine and can be accessed by the pod", c.Image))
		return image, nil
	case err != nil && c.ImagePullPolicy == v1.PullNever:
		return image, &fault{reason: reasonNeverPull, message: fmt.Sprintf("Container image %q is not present with pull policy of Never", c.Image)}
	}
	event(v1.EventTypeNormal, "Pulling", fmt.Sprintf("Pulling image %q", c.Image))
	began := time.Now()
	image, waited, err := w.m.pull(ctx, rt, c.Image, w.m.login(ctx, pod, c.Image))
	if err != nil {
		w.m.cfg.Meter.pulls.WithLabelValues("failed").Inc()
		return image, &fault{reason: reasonErrPull, message: err.Error()}
	}
	w.m.cfg.Meter.pulls.WithLabelValues("successful").Inc()
	took := time.Since(began)
	event(v1.EventTypeNormal, "Pulled", fmt.Sprintf("Successfully pulled image %q in %s (%s including waiting). Image size: %d bytes.",
		c.Image, (took-waited).Round(time.Millisecond), took.Round(time.Millisecond), image.Size))
	return image, nil
}

// login finds the credentials for an image among the pod's pull secrets.
func (m *Manager) login(ctx context.Context, pod *v1.Pod, image string) runtime.Credentials {
	for _, ref := range pod.Spec.ImagePullSecrets {
		secret, err := m.cfg.Objects.Secret(ctx, pod.Namespace, ref.Name)
		if err != nil {
			continue // the pull tells whether it was needed
		}
		if auth, ok := credentials(secret, image); ok {
			return auth
		}
	}
	return runtime.Credentials{}
}

// pull fetches an image once for all who ask at the same time with the same
// credentials. It goes on when one of them leaves.
func (m *Manager) pull(ctx context.Context, rt runtime.Runtime, name string, auth runtime.Credentials) (runtime.Image, time.Duration, error) {
	type answer struct {
		image  runtime.Image
		waited time.Duration
	}
	key := name + "\x00" + auth.Username + "\x00" + auth.Password
	result := m.flights.DoChan(key, func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), pullTimeout)
		defer cancel()
		began := time.Now()
		if err := m.pulls.Acquire(ctx, 1); err != nil {
			return answer{}, err
		}
		defer m.pulls.Release(1)
		waited := time.Since(began)
		image, err := rt.Pull(ctx, name, auth)
		return answer{image, waited}, err
	})
	select {
	case <-ctx.Done():
		return runtime.Image{}, 0, ctx.Err()
	case r := <-result:
		a, _ := r.Val.(answer)
		return a.image, a.waited, r.Err
	}
}
