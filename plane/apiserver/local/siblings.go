package local

import (
	"context"
	"reflect"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/registry/rest"
)

// families are the new objects of one call by what they look like without their
// names: the pods of a replica set, say. Of each family one is prepared, and the
// others share all of it that does not tell them apart, in memory too.
type families map[family]*write

type family struct {
	resource  *resource
	namespace string
	shape     shape
}

// prepareSibling is prepareCreate, cut short for an object whose like was
// prepared before in the same call.
func (c *Client) prepareSibling(ctx context.Context, obj Object, auth *permits, known families) (*write, error) {
	r, err := c.resourceOf(obj)
	if err != nil {
		return nil, err
	}
	if r.Name == nil || r.Store.BeginCreate != nil {
		return c.prepareCreate(ctx, r, obj, auth)
	}
	looks, ok := shapeOf(obj, c.manager)
	if !ok {
		return c.prepareCreate(ctx, r, obj, auth)
	}
	f := family{r, obj.GetNamespace(), looks}
	if first, ok := known[f]; ok {
		if w, ok := first.sibling(r, obj); ok {
			return w, nil
		}
	}
	w, err := c.prepareCreate(ctx, r, obj, auth)
	if err == nil {
		known[f] = w
	}
	return w, err
}

// sibling gives the write of an object like that of w under its own name; ok is
// false for a name that only full validation can refuse in the right words.
func (w *write) sibling(r *resource, obj Object) (_ *write, ok bool) {
	name := obj.GetName()
	if generated(obj) {
		name = r.Store.CreateStrategy.GenerateName(obj.GetGenerateName())
	}
	if name == "" || len(r.Name(name, false)) > 0 {
		return nil, false
	}
	twin := shallow(w.change.New)
	twin.SetName(name)
	twin.SetUID("")
	twin.SetCreationTimestamp(metav1.Time{})
	rest.FillObjectMetaSystemFields(twin)
	return &write{change: Change{Resource: w.change.Resource, New: twin, TTL: w.change.TTL}}, true
}

// shallow copies an object and shares what it points to. Neither may be changed
// in depth afterwards.
func shallow(obj Object) Object {
	out := reflect.New(reflect.TypeOf(obj).Elem())
	out.Elem().Set(reflect.ValueOf(obj).Elem())
	return out.Interface().(Object)
}
