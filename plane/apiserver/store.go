package apiserver

import (
	"context"
	"iter"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/registry/generic"

	"copepod/plane/apiserver/local"
	"copepod/plane/apiserver/scheme"
	"copepod/plane/kubestore"
)

// restOptions keeps every resource as protobuf of its v1 form.
func restOptions(k *kubestore.K, s *scheme.Scheme) generic.RESTOptionsGetter {
	return k.RESTOptions(func(gr schema.GroupResource) (runtime.Codec, runtime.GroupVersioner) {
		gv := schema.GroupVersion{Group: gr.Group, Version: "v1"}
		return s.StorageCodec(gv), gv
	})
}

// objects is a kubestore in the terms of the in-process client: every object
// that is stored has metadata.
type objects struct{ k *kubestore.K }

func (o objects) View() local.View { return view{o.k.View()} }

func (o objects) Write(ctx context.Context, changes []local.Change) []local.Outcome {
	writes := make([]kubestore.Write, len(changes))
	for i, c := range changes {
		writes[i] = kubestore.Write{Resource: c.Resource, Object: c.New, TTL: time.Duration(c.TTL) * time.Second}
		if c.Old != nil {
			writes[i].Old = c.Old
		}
	}
	out := make([]local.Outcome, len(changes))
	for i, w := range o.k.Write(ctx, writes) {
		out[i].Err = w.Err
		if w.Err == nil {
			out[i].Object = w.Object.(local.Object)
		}
	}
	return out
}

func (o objects) Watch(ctx context.Context, gr schema.GroupResource, from uint64) (<-chan []local.Event, error) {
	in, err := o.k.Watch(ctx, gr, from)
	if err != nil {
		return nil, err
	}
	out := make(chan []local.Event)
	go func() { // ends with in, which ends with ctx
		defer close(out)
		for batch := range in {
			events := make([]local.Event, len(batch))
			for i, e := range batch {
				events[i] = local.Event{Type: e.Type, Object: e.Object.(local.Object), Rev: e.Rev}
				if e.Old != nil {
					events[i].Old = e.Old.(local.Object)
				}
			}
			select {
			case out <- events:
			case <-ctx.Done():
			}
		}
	}()
	return out, nil
}

type view struct{ kubestore.View }

func (v view) Get(gr schema.GroupResource, namespace, name string) (local.Object, bool) {
	obj, ok := v.View.Get(gr, namespace, name)
	if !ok {
		return nil, false
	}
	return obj.(local.Object), true
}

func (v view) List(gr schema.GroupResource, namespace string) iter.Seq[local.Object] {
	return func(yield func(local.Object) bool) {
		for obj := range v.View.List(gr, namespace) {
			if !yield(obj.(local.Object)) {
				return
			}
		}
	}
}
