package scheduler

import (
	"context"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// outcome is how a batch of bindings went.
type outcome struct {
	pods []*pod
	errs []error
}

// bind binds batches until ctx ends. It reads only what does not change of a pod
// that is on its way.
func (t *term) bind(ctx context.Context) {
	for {
		var list []*pod
		select {
		case <-ctx.Done():
			return
		case list = <-t.binds:
		}
		bindings := make([]*corev1.Binding, len(list))
		for i, p := range list {
			bindings[i] = &corev1.Binding{
				ObjectMeta: metav1.ObjectMeta{Namespace: p.key.Namespace, Name: p.key.Name, UID: p.uid},
				Target:     corev1.ObjectReference{Kind: "Node", Name: p.node},
			}
		}
		start := time.Now()
		errs := t.cfg.Client.BindAll(ctx, bindings)
		t.metrics.bind.Observe(time.Since(start).Seconds())
		for i, p := range list {
			if errs[i] == nil {
				t.events.Event(podReference(p), corev1.EventTypeNormal, "Scheduled", "Successfully assigned %s/%s to %s", p.key.Namespace, p.key.Name, bindings[i].Target.Name)
			}
		}
		t.results <- outcome{list, errs} // has room: bindings is bounded
	}
}

func podReference(p *pod) corev1.ObjectReference {
	return corev1.ObjectReference{Kind: "Pod", APIVersion: "v1", Namespace: p.key.Namespace, Name: p.key.Name, UID: p.uid}
}

// settle takes the answer of a batch. Pods that could not be bound come off their
// nodes; those that may be bound yet are tried again a little later.
func (t *term) settle(done outcome) {
	t.bindings--
	ok, failures := 0, 0
	for i, p := range done.pods {
		err := done.errs[i]
		if err == nil {
			ok++
			continue
		}
		if p.state != bound || t.pods[p.key] != p {
			continue // it went meanwhile
		}
		t.cfg.Log.Debug("pod not bound", "pod", p.key.String(), "node", p.node, "err", err)
		failures++
		if apierrors.IsNotFound(err) {
			t.forget(p)
			continue
		}
		t.release(p)
		p.state, p.node = failed, ""
		t.retry = append(t.retry, p)
	}
	t.metrics.placed.WithLabelValues("scheduled").Add(float64(ok))
	t.metrics.placed.WithLabelValues("error").Add(float64(failures))
	if ok > 0 {
		t.backoff = 0
	}
	if len(t.retry) > 0 {
		t.backoff = min(max(2*t.backoff, 100*time.Millisecond), 10*time.Second)
		t.timer.Reset(t.backoff)
	}
}

func (t *term) tryAgain() {
	for _, p := range t.retry {
		if p.state == failed {
			t.queue.push(p)
		}
	}
	t.retry = nil
}
