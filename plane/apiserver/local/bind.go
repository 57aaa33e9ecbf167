package local

import (
	"context"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/storage"

	"copepod/plane/apiserver/kinds"
)

var podResource = schema.GroupResource{Resource: "pods"}

// BindAll gives pods their nodes, each on its own, as pods/binding does.
func (c *Client) BindAll(ctx context.Context, bindings []*corev1.Binding) []error {
	errs := make([]error, len(bindings))
	defer c.metrics.observe("bind", time.Now(), errs)
	pending := make([]int, len(bindings))
	for i := range bindings {
		pending[i] = i
	}
	r, err := c.resource(podResource)
	if err != nil {
		panic(err) // the table always has pods
	}
	auth := c.newPermits()
	for try := 1; len(pending) > 0; try++ {
		view := c.View()
		var writes writes
		for _, i := range pending {
			w, err := c.prepareBind(ctx, view, r, bindings[i], auth)
			if err != nil {
				errs[i] = err
				continue
			}
			w.index = i
			writes = append(writes, w)
		}
		pending = pending[:0]
		for _, w := range writes.run(ctx, c.store) {
			i := w.index
			if storage.IsConflict(w.outcome.Err) && try < writeTries {
				pending = append(pending, i)
				continue
			}
			errs[i] = nil
			if w.outcome.Err != nil {
				errs[i] = kinds.BindingError(w.outcome.Err, bindings[i].Name)
			}
		}
	}
	return errs
}

func (c *Client) prepareBind(ctx context.Context, view View, r *resource, binding *corev1.Binding, auth *permits) (*write, error) {
	if err := auth.check(ctx, r, "create", "binding", binding.Namespace, ""); err != nil {
		return nil, err
	}
	if err := kinds.CheckBinding(binding); err != nil {
		return nil, err
	}
	obj, ok := view.Get(podResource, binding.Namespace, binding.Name)
	if !ok {
		return nil, apierrors.NewNotFound(podResource, binding.Name)
	}
	old := obj.(*corev1.Pod)
	pod := *old // shares with old what Bind does not touch
	pod.Status.Conditions = slices.Clone(old.Status.Conditions)
	if err := kinds.Bind(&pod, binding); err != nil {
		return nil, kinds.BindingError(err, binding.Name)
	}
	return &write{change: Change{Resource: podResource, Old: old, New: &pod}}, nil
}
