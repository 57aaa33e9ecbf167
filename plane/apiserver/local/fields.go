package local

import (
	"crypto/sha256"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/cache"
	"k8s.io/apimachinery/pkg/util/managedfields"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"

	"copepod/plane/apiserver/scheme"
)

// fieldManager writes metadata.managedFields as the HTTP handlers do.
type fieldManager struct {
	*managedfields.FieldManager
	resource *resource
	// known remembers the field sets of new objects. Which fields an object has
	// does not depend on its name, so the pods of one template share one set: it
	// is computed once, and stored in memory once.
	known *cache.LRUExpireCache
}

const (
	knownFields   = 512 // templates in use at the same time
	knownFieldTTL = time.Hour
)

func newFieldManager(r *resource, s *scheme.Scheme, converter managedfields.TypeConverter, subresource string,
	reset map[fieldpath.APIVersion]*fieldpath.Set) (*fieldManager, error) {
	hub := schema.GroupVersion{Group: r.gvk.Group, Version: runtime.APIVersionInternal}
	m, err := managedfields.NewDefaultFieldManager(converter, runtime.UnsafeObjectConvertor(s.Scheme), s.Scheme, s.Scheme,
		r.gvk, hub, subresource, fieldpath.NewExcludeFilterSetMap(reset))
	if err != nil {
		return nil, err
	}
	return &fieldManager{FieldManager: m, resource: r, known: cache.NewLRUExpireCache(knownFields)}, nil
}

// shape identifies a set of fields: everything of the object but what only tells
// it apart from its siblings, and who wrote it.
type shape struct {
	manager string
	content [sha256.Size]byte
}

type marshaler interface{ Marshal() ([]byte, error) }

// created notes that the manager set every field of a new object.
func (f *fieldManager) created(obj Object, manager string) Object {
	key, ok := shapeOf(obj, manager)
	if ok {
		if fields, known := f.known.Get(key); known {
			now := metav1.NewTime(time.Now().UTC().Truncate(time.Second))
			obj.SetManagedFields([]metav1.ManagedFieldsEntry{{
				Manager: manager, Operation: metav1.ManagedFieldsOperationUpdate, APIVersion: f.resource.gvk.GroupVersion().String(),
				Time: &now, FieldsType: "FieldsV1", FieldsV1: fields.(*metav1.FieldsV1),
			}})
			return obj
		}
	}
	out := f.UpdateNoErrors(f.resource.Store.New(), obj, manager).(Object)
	if entries := out.GetManagedFields(); ok && len(entries) == 1 {
		f.known.Add(key, entries[0].FieldsV1, knownFieldTTL)
	}
	return out
}

func shapeOf(obj Object, manager string) (shape, bool) {
	m, ok := obj.(marshaler)
	if !ok || obj.GetManagedFields() != nil {
		return shape{}, false
	}
	name := obj.GetName()
	obj.SetName("")
	content, err := m.Marshal()
	obj.SetName(name)
	if err != nil {
		return shape{}, false
	}
	return shape{manager, sha256.Sum256(content)}, true
}

// updated notes which fields the manager changed between old and obj.
func (f *fieldManager) updated(obj, old Object, manager string) Object {
	live := old.DeepCopyObject() // its TypeMeta is written to
	return f.UpdateNoErrors(live, obj, manager).(Object)
}
