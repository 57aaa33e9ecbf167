package local

import (
	"context"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apiserver/pkg/admission"
	"k8s.io/apiserver/pkg/registry/rest"
)

// deleters is how many deletions of one DeleteAll are under way at once. They
// wait for the same commits, so more would not be faster.
const deleters = 64

var mustSpecifyVersion = field.ErrorList{
	field.Invalid(field.NewPath("metadata").Child("resourceVersion"), 0, "must be specified for an update"),
}

// Delete removes an object, or starts its graceful end, as its kind has it.
func (c *Client) Delete(ctx context.Context, gr schema.GroupResource, namespace, name string, opts metav1.DeleteOptions) error {
	return c.DeleteAll(ctx, gr, []types.NamespacedName{{Namespace: namespace, Name: name}}, opts)[0]
}

// DeleteAll deletes many objects of one resource, each on its own.
func (c *Client) DeleteAll(ctx context.Context, gr schema.GroupResource, names []types.NamespacedName, opts metav1.DeleteOptions) []error {
	errs := make([]error, len(names))
	defer c.metrics.observe("delete", time.Now(), errs)
	r, err := c.resource(gr)
	if err != nil {
		for i := range errs {
			errs[i] = err
		}
		return errs
	}
	auth := c.newPermits()
	next := make(chan int)
	var workers sync.WaitGroup
	for range min(deleters, len(names)) {
		workers.Go(func() {
			for i := range next {
				errs[i] = c.delete(ctx, r, names[i], *opts.DeepCopy())
			}
		})
	}
	for i, n := range names {
		if errs[i] = auth.check(ctx, r, "delete", "", n.Namespace, n.Name); errs[i] == nil {
			next <- i
		}
	}
	close(next)
	workers.Wait()
	return errs
}

func (c *Client) delete(ctx context.Context, r *resource, n types.NamespacedName, opts metav1.DeleteOptions) error {
	ctx = c.request(ctx, n.Namespace)
	stub := r.Store.New().(Object)
	stub.SetNamespace(n.Namespace)
	stub.SetName(n.Name)
	attrs := c.attributes(r, "", admission.Delete, nil, stub, &opts)
	if err := c.mutate.Admit(ctx, attrs, r.objects); err != nil {
		return err
	}
	_, _, err := r.deleter().Delete(ctx, n.Name, func(ctx context.Context, obj runtime.Object) error {
		return c.validate.Validate(ctx, attrs, r.objects)
	}, &opts)
	return err
}

// deleter is the storage itself, or the kind's own way.
func (r *resource) deleter() rest.GracefulDeleter {
	if r.Deleter != nil {
		return r.Deleter
	}
	return r.Store
}
