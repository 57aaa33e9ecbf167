package scheduler

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"copepod/plane/controllers/api"
	"copepod/plane/controllers/record"
)

// refusals tells pods that they fit nowhere: a condition and an event, each time
// the reason is a new one. It works beside the loop, which never waits for it; of
// several reasons in short order the last is told.
type refusals struct {
	client Client
	log    *slog.Logger
	events *record.Recorder
	wake   chan struct{}

	mu      sync.Mutex // guards pending
	pending map[types.NamespacedName]refusal
}

type refusal struct {
	uid     types.UID
	message string
}

func newRefusals(cfg Config, events *record.Recorder) *refusals {
	return &refusals{
		client: cfg.Client, log: cfg.Log, events: events, wake: make(chan struct{}, 1),
		pending: map[types.NamespacedName]refusal{},
	}
}

func (r *refusals) add(list []*pod, message string) {
	r.mu.Lock()
	for _, p := range list {
		r.pending[p.key] = refusal{p.uid, message}
	}
	r.mu.Unlock()
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// refusalBatch bounds one request.
const refusalBatch = 500

func (r *refusals) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.wake:
		}
		for r.write(ctx) {
			// A pod that someone else writes to at the same moment is told in the
			// next round.
			select {
			case <-ctx.Done():
				return
			case <-time.After(10 * time.Millisecond):
			}
		}
	}
}

// write tells one batch; true when there is more to do.
func (r *refusals) write(ctx context.Context) bool {
	view := r.client.View()
	told := map[types.NamespacedName]refusal{}
	var list []api.Object
	r.mu.Lock()
	for key, why := range r.pending {
		if len(list) == refusalBatch {
			break
		}
		delete(r.pending, key)
		if pod := refuse(view, key, why); pod != nil {
			told[key] = why
			list = append(list, pod)
		}
	}
	more := len(r.pending) > 0
	r.mu.Unlock()
	if len(list) == 0 {
		return more
	}
	_, errs := r.client.UpdateStatusAll(ctx, list)
	for i, err := range errs {
		key := api.Key(list[i])
		switch {
		case err == nil:
			on := record.Reference(list[i], corev1.SchemeGroupVersion.WithKind("Pod"))
			r.events.Event(on, corev1.EventTypeWarning, "FailedScheduling", "%s", told[key].message)
		case apierrors.IsConflict(err):
			more = r.putBack(key, told[key]) || more
		case !apierrors.IsNotFound(err):
			r.log.Debug("pod not told that it fits nowhere", "pod", key.String(), "err", err)
		}
	}
	return more
}

// putBack keeps a refusal for the next round, unless a newer one waits.
func (r *refusals) putBack(key types.NamespacedName, why refusal) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, ok := r.pending[key]; !ok {
		r.pending[key] = why
	}
	return true
}

// refuse is the pod with the condition, nil when it needs none: it is gone, has a
// node, or has been told.
func refuse(view api.View, key types.NamespacedName, why refusal) *corev1.Pod {
	o, ok := view.Get(api.Pods, key.Namespace, key.Name)
	if !ok || o.GetUID() != why.uid {
		return nil
	}
	old := o.(*corev1.Pod)
	if old.Spec.NodeName != "" || old.DeletionTimestamp != nil {
		return nil
	}
	next := corev1.PodCondition{
		Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: corev1.PodReasonUnschedulable, Message: why.message,
		LastTransitionTime: metav1.Now(),
	}
	pod := *old // shares what does not change
	pod.Status.Conditions = slices.Clone(old.Status.Conditions)
	at := slices.IndexFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool { return c.Type == next.Type })
	if at < 0 {
		pod.Status.Conditions = append(pod.Status.Conditions, next)
		return &pod
	}
	was := &pod.Status.Conditions[at]
	if was.Status == next.Status && was.Reason == next.Reason && was.Message == next.Message {
		return nil
	}
	if was.Status == next.Status {
		next.LastTransitionTime = was.LastTransitionTime
	}
	*was = next
	return &pod
}
