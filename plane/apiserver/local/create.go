package local

import (
	"context"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/admission"
	"k8s.io/apiserver/pkg/registry/rest"
	"k8s.io/apiserver/pkg/storage"
	storageerr "k8s.io/apiserver/pkg/storage/errors"
)

// nameTries is how often a taken generated name is drawn again, as over HTTP.
const nameTries = 8

// Create stores a new object and gives it as stored.
func (c *Client) Create(ctx context.Context, obj Object) (Object, error) {
	out, errs := c.CreateAll(ctx, []Object{obj})
	return out[0], errs[0]
}

// CreateAll stores new objects of any kinds, each on its own: one refusal does
// not stop the others. Both results have one entry for each object.
func (c *Client) CreateAll(ctx context.Context, objs []Object) ([]Object, []error) {
	out, errs := make([]Object, len(objs)), make([]error, len(objs))
	defer c.metrics.observe("create", time.Now(), errs)
	pending := make([]int, len(objs))
	for i := range objs {
		pending[i] = i
	}
	auth, known := c.newPermits(), families{}
	for try := 1; len(pending) > 0; try++ {
		var writes writes
		for _, i := range pending {
			w, err := c.prepareSibling(ctx, objs[i], auth, known)
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
			out[i], errs[i] = w.outcome.Object, w.createError(try)
			if errs[i] == nil || try == nameTries || !apierrors.IsAlreadyExists(errs[i]) || !generated(objs[i]) {
				continue
			}
			pending = append(pending, i)
		}
	}
	return out, errs
}

// generated tells whether the server chooses the name.
func generated(obj metav1.Object) bool { return obj.GetName() == "" && obj.GetGenerateName() != "" }

// prepareCreate takes an object through everything that comes before storage, in
// the order of the HTTP handler.
func (c *Client) prepareCreate(ctx context.Context, r *resource, obj Object, auth *permits) (*write, error) {
	namespace := obj.GetNamespace()
	if err := auth.check(ctx, r, "create", "", namespace, ""); err != nil {
		return nil, err
	}
	if obj.GetResourceVersion() != "" {
		return nil, storage.ErrResourceVersionSetOnCreate
	}
	obj = obj.DeepCopyObject().(Object)
	c.scheme.Default(obj)
	rest.WipeObjectMetaSystemFields(obj)
	ctx = c.request(ctx, namespace)
	obj = r.parts[""].fields.created(obj, c.manager)
	attrs := c.attributes(r, "", admission.Create, obj, nil, &metav1.CreateOptions{})
	if err := c.mutate.Admit(ctx, attrs, r.objects); err != nil {
		return nil, err
	}
	rest.FillObjectMetaSystemFields(obj)
	strategy := r.Store.CreateStrategy
	if generated(obj) {
		obj.SetName(strategy.GenerateName(obj.GetGenerateName()))
	}
	w := &write{change: Change{Resource: r.GroupResource(), New: obj, TTL: r.TTL}}
	if begin := r.Store.BeginCreate; begin != nil {
		finish, err := begin(ctx, obj, &metav1.CreateOptions{})
		if err != nil {
			return nil, err
		}
		w.finish = finish
	}
	if err := rest.BeforeCreate(strategy, ctx, obj); err != nil {
		w.done(ctx, false)
		return nil, err
	}
	if err := c.validate.Validate(ctx, attrs, r.objects); err != nil {
		w.done(ctx, false)
		return nil, err
	}
	obj.GetObjectKind().SetGroupVersionKind(schema.GroupVersionKind{})
	return w, nil
}

// createError words the outcome of a create as the HTTP handler would.
func (w *write) createError(try int) error {
	if w.outcome.Err == nil {
		return nil
	}
	gr, name := w.change.Resource, w.change.New.GetName()
	err := storageerr.InterpretCreateError(w.outcome.Err, gr, name)
	if apierrors.IsAlreadyExists(err) && w.change.New.GetGenerateName() != "" && try == nameTries {
		return apierrors.NewGenerateNameConflict(gr, name, 1)
	}
	return err
}
