// Package kinds is the table of what the API serves: one row a kind, with the
// little that sets it apart, and one strategy and one storage for all of them.
// It knows Kubernetes' rules for create, update, status, scale, binding and
// deletion; it never learns how objects are kept, who is asking, or how
// requests arrive. To serve another kind, add a row and its defaults,
// validation and columns.
//
//	set, err := kinds.Build(kinds.Config{Scheme: s, Storage: getter})
//	storage := set.Storage(corev1.SchemeGroupVersion) // path → rest.Storage
package kinds

import (
	"context"
	"reflect"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/registry/generic/registry"
	"k8s.io/apiserver/pkg/storage"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"
)

// Kind is a row of the table. Zero values mean the common case.
type Kind struct {
	Version          schema.GroupVersion
	Plural, Singular string
	Kind             string         // as in YAML
	Object, List     runtime.Object // empty examples of the Go types
	Cluster          bool           // has no namespace
	Short            []string
	Categories       []string

	// Status marks a kind whose .status only its status subresource writes.
	Status bool
	// StatusOnCreate keeps the status that a new object brings.
	StatusOnCreate bool
	// Generation tells whether an update raises metadata.generation. Nil: the
	// kind has none.
	Generation func(obj, old runtime.Object) bool
	// Create completes a new object, after the status was cleared.
	Create func(obj runtime.Object)
	// Update restores what an update may not change, after the status was.
	Update func(obj, old runtime.Object)
	// UpdateStatus restores what a status update may not change, after the spec was.
	UpdateStatus func(obj, old runtime.Object)
	// Fields adds the kind's field selectors to those of metadata.
	Fields func(obj runtime.Object, set fields.Set)
	// Index computes one field selector, by which watches and lists are served
	// without looking at every object.
	Index storage.IndexerFuncs
	// ResetStatus are the fields that a status update ignores, besides spec.
	ResetStatus []fieldpath.Path

	CreateOnUpdate bool   // PUT of an unknown name creates
	Versioned      bool   // PUT must carry a resourceVersion
	ReturnDeleted  bool   // DELETE answers with the object, not with a Status
	NoDependents   bool   // garbage collection does not apply
	TTL            uint64 // seconds that an object lives, 0 = for ever
	// Name judges a name alone. With it, of many new objects that differ in nothing
	// else one stands for all in admission and validation: set it where neither
	// looks at names or counts objects.
	Name func(name string, prefix bool) []string
	// Grace decides a graceful deletion, as rest.RESTGracefulDeleteStrategy says.
	Grace func(obj runtime.Object, opts *metav1.DeleteOptions)
	// Complete sets hooks on the finished store.
	Complete func(s *registry.Store, cfg Config)
	// Also gives further storages: subresource (or "") → storage.
	Also func(r *Resource, cfg Config) map[string]Storage
}

// GroupResource names the collection.
func (k *Kind) GroupResource() schema.GroupResource {
	return k.Version.WithResource(k.Plural).GroupResource()
}

// GroupKind names the kind.
func (k *Kind) GroupKind() schema.GroupKind { return k.Version.WithKind(k.Kind).GroupKind() }

func (k *Kind) newObject() runtime.Object {
	return reflect.New(reflect.TypeOf(k.Object).Elem()).Interface().(runtime.Object)
}

func (k *Kind) newList() runtime.Object {
	return reflect.New(reflect.TypeOf(k.List).Elem()).Interface().(runtime.Object)
}

// part gives a settable field of an object: Spec or Status.
func part(obj runtime.Object, name string) reflect.Value {
	return reflect.ValueOf(obj).Elem().FieldByName(name)
}

// on and change make a hook on one Go type usable for a row.
func on[T runtime.Object](f func(T)) func(runtime.Object) {
	return func(obj runtime.Object) { f(obj.(T)) }
}

func change[T runtime.Object](f func(obj, old T)) func(obj, old runtime.Object) {
	return func(obj, old runtime.Object) { f(obj.(T), old.(T)) }
}

func changed[T runtime.Object](f func(obj, old T) bool) func(obj, old runtime.Object) bool {
	return func(obj, old runtime.Object) bool { return f(obj.(T), old.(T)) }
}

func selectors[T runtime.Object](f func(T, fields.Set)) func(runtime.Object, fields.Set) {
	return func(obj runtime.Object, set fields.Set) { f(obj.(T), set) }
}

// validateAll is the validation of a write that no admission needs to see.
func validateAll(context.Context, runtime.Object) error { return nil }
