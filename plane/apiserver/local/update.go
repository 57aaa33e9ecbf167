package local

import (
	"context"
	"errors"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/admission"
	"k8s.io/apiserver/pkg/endpoints/handlers/fieldmanager"
	"k8s.io/apiserver/pkg/registry/generic/registry"
	"k8s.io/apiserver/pkg/registry/rest"
	"k8s.io/apiserver/pkg/storage"
	storageerr "k8s.io/apiserver/pkg/storage/errors"

	"copepod/plane/apiserver/kinds"
)

// writeTries bounds how often a write without a resourceVersion, or a Modify,
// starts over because somebody else was faster.
const writeTries = 20

var errStale = errors.New(registry.OptimisticLockErrorMsg)

// Update replaces an object, its status aside. With a resourceVersion it fails
// with a conflict when the object was changed since.
func (c *Client) Update(ctx context.Context, obj Object) (Object, error) {
	out, errs := c.updateAll(ctx, []Object{obj}, "")
	return out[0], errs[0]
}

// UpdateStatus replaces the status of an object.
func (c *Client) UpdateStatus(ctx context.Context, obj Object) (Object, error) {
	out, errs := c.updateAll(ctx, []Object{obj}, "status")
	return out[0], errs[0]
}

// UpdateStatusAll replaces the status of many objects, each on its own.
func (c *Client) UpdateStatusAll(ctx context.Context, objs []Object) ([]Object, []error) {
	return c.updateAll(ctx, objs, "status")
}

// Modify reads an object, lets change work on a private copy, and writes it; it
// starts over when somebody else was faster. subresource is "",
// "status" or "finalize". An
// error of change is returned as it is.
func (c *Client) Modify(ctx context.Context, gr schema.GroupResource, namespace, name, subresource string,
	change func(Object) error) (Object, error) {
	for try := 1; ; try++ {
		obj, ok := c.View().Get(gr, namespace, name)
		if !ok {
			return nil, apierrors.NewNotFound(gr, name)
		}
		obj = obj.DeepCopyObject().(Object)
		if err := change(obj); err != nil {
			return nil, err
		}
		out, errs := c.updateAll(ctx, []Object{obj}, subresource)
		if try == writeTries || !apierrors.IsConflict(errs[0]) || ctx.Err() != nil {
			return out[0], errs[0]
		}
	}
}

func (c *Client) updateAll(ctx context.Context, objs []Object, subresource string) ([]Object, []error) {
	out, errs := make([]Object, len(objs)), make([]error, len(objs))
	defer c.metrics.observe("update", time.Now(), errs)
	pending := make([]int, len(objs))
	for i := range objs {
		pending[i] = i
	}
	auth := c.newPermits()
	for try := 1; len(pending) > 0; try++ {
		view := c.View()
		var writes writes
		for _, i := range pending {
			w, err := c.prepareUpdate(ctx, view, objs[i], subresource, auth)
			switch {
			case errors.Is(err, errUnfinalized):
				out[i], errs[i] = c.removeFinalized(ctx, w)
			case err != nil:
				errs[i] = err
			default:
				w.index = i
				writes = append(writes, w)
			}
		}
		pending = pending[:0]
		for _, w := range writes.run(ctx, c.store) {
			i := w.index
			out[i], errs[i] = w.outcome.Object, w.updateError()
			// Who names no version does not care that it moved.
			if apierrors.IsConflict(errs[i]) && objs[i].GetResourceVersion() == "" && try < writeTries {
				pending = append(pending, i)
			}
		}
	}
	return out, errs
}

// errUnfinalized says that an update took the last finalizer of an object that
// is to be deleted: what follows is its deletion.
var errUnfinalized = errors.New("last finalizer removed")

// prepareUpdate takes a change through everything that comes before storage, in
// the order of the HTTP handler and the generic registry.
func (c *Client) prepareUpdate(ctx context.Context, view View, obj Object, subresource string, auth *permits) (*write, error) {
	r, err := c.resourceOf(obj)
	if err != nil {
		return nil, err
	}
	part, ok := r.parts[subresource]
	if !ok {
		return nil, fmt.Errorf("local: resource %s has no subresource %q to update", r.GroupResource(), subresource)
	}
	store := part.store
	gr, namespace, name := r.GroupResource(), obj.GetNamespace(), obj.GetName()
	if err := auth.check(ctx, r, "update", subresource, namespace, name); err != nil {
		return nil, err
	}
	old, ok := view.Get(gr, namespace, name)
	if !ok {
		return nil, apierrors.NewNotFound(gr, name)
	}
	if uid := obj.GetUID(); uid != "" && uid != old.GetUID() {
		return nil, apierrors.NewConflict(gr, name, kinds.PreconditionFailed("UID", uid, old.GetUID()))
	}
	if err := r.checkVersion(obj, old); err != nil {
		return nil, err
	}
	ctx = c.request(ctx, namespace)
	obj = obj.DeepCopyObject().(Object)
	c.scheme.Default(obj)
	obj = part.fields.updated(obj, old, c.manager)
	attrs := c.attributes(r, subresource, admission.Update, obj, old, &metav1.UpdateOptions{})
	if err := c.mutate.Admit(ctx, attrs, r.objects); err != nil {
		return nil, err
	}
	obj.SetResourceVersion(old.GetResourceVersion())
	w := &write{change: Change{Resource: gr, Old: old, TTL: r.TTL}}
	if begin := store.BeginUpdate; begin != nil {
		if w.finish, err = begin(ctx, obj, old, &metav1.UpdateOptions{}); err != nil {
			return nil, err
		}
	}
	if err := rest.BeforeUpdate(store.UpdateStrategy, ctx, obj, old); err != nil {
		w.done(ctx, false)
		return nil, err
	}
	settled, err := fieldmanager.IgnoreManagedFieldsTimestampsTransformer(ctx, obj, old)
	if err == nil {
		err = c.validate.Validate(ctx, attrs, r.objects)
	}
	if err != nil {
		w.done(ctx, false)
		return nil, err
	}
	w.change.New = settled.(Object)
	w.change.New.GetObjectKind().SetGroupVersionKind(schema.GroupVersionKind{})
	if registry.ShouldDeleteDuringUpdate(ctx, "", w.change.New, old) &&
		(store.ShouldDeleteDuringUpdate == nil || store.ShouldDeleteDuringUpdate(ctx, "", w.change.New, old)) {
		w.done(ctx, false)
		return w, errUnfinalized
	}
	return w, nil
}

// checkVersion compares the version that a change was made on with the stored one.
func (r *resource) checkVersion(obj, old Object) error {
	switch version := obj.GetResourceVersion(); {
	case version == old.GetResourceVersion():
		return nil
	case version == "" && !r.Versioned:
		return nil
	case version == "":
		return apierrors.NewInvalid(r.gvk.GroupKind(), obj.GetName(), mustSpecifyVersion)
	default:
		return apierrors.NewConflict(r.GroupResource(), obj.GetName(), errStale)
	}
}

// removeFinalized deletes what nobody holds any more.
func (c *Client) removeFinalized(ctx context.Context, w *write) (Object, error) {
	old := w.change.Old
	uid := old.GetUID()
	zero := int64(0)
	r, err := c.resource(w.change.Resource)
	if err != nil {
		return nil, err
	}
	key, err := r.Store.KeyFunc(c.request(ctx, old.GetNamespace()), old.GetName())
	if err != nil {
		return nil, err
	}
	version := old.GetResourceVersion()
	err = r.Store.Storage.Delete(ctx, key, r.Store.New(), &storage.Preconditions{UID: &uid, ResourceVersion: &version},
		rest.ValidateAllObjectFunc, false, nil, storage.DeleteOptions{})
	if err != nil && !storage.IsNotFound(err) {
		return nil, storageerr.InterpretDeleteError(err, w.change.Resource, old.GetName())
	}
	if r.Store.AfterDelete != nil {
		r.Store.AfterDelete(old.DeepCopyObject(), &metav1.DeleteOptions{GracePeriodSeconds: &zero})
	}
	return w.change.New, nil
}

// updateError words the outcome of an update as the HTTP handler would.
func (w *write) updateError() error {
	err := w.outcome.Err
	if err == nil {
		return nil
	}
	name := w.change.New.GetName()
	if storage.IsConflict(err) {
		return apierrors.NewConflict(w.change.Resource, name, errStale)
	}
	return storageerr.InterpretUpdateError(err, w.change.Resource, name)
}
