package kinds

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/registry/generic"
	"k8s.io/apiserver/pkg/registry/generic/registry"
	"k8s.io/apiserver/pkg/registry/rest"
	"k8s.io/apiserver/pkg/storage"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"

	"copepod/plane/apiserver/scheme"
)

// Config is what the storages stand on.
type Config struct {
	Scheme  *scheme.Scheme
	Storage generic.RESTOptionsGetter
	// Services gives and takes addresses and ports.
	Services Allocator
	// Nodes carries requests to the servers of nodes.
	Nodes NodeTransport
	// Tokens signs service account tokens; nil serves no token subresource.
	Tokens TokenIssuer
}

// Storage is what the API installer takes.
type Storage = rest.Storage

// Resource is a kind with its stores.
type Resource struct {
	*Kind
	Store *registry.Store
	// Parts are the subresources that write parts of the object itself, status
	// and finalize, by name.
	Parts map[string]*registry.Store
	// Deleter deletes objects of a kind that ends in a way of its own; nil: Store.
	Deleter rest.GracefulDeleter
}

// Set is every resource that is served.
type Set struct {
	resources map[schema.GroupResource]*Resource
	storage   map[schema.GroupVersion]map[string]rest.Storage
}

// Build makes the storages of the whole table.
func Build(cfg Config) (*Set, error) {
	set := &Set{
		resources: map[schema.GroupResource]*Resource{},
		storage:   map[schema.GroupVersion]map[string]rest.Storage{},
	}
	for _, k := range table() {
		r, err := build(k, cfg)
		if err != nil {
			return nil, fmt.Errorf("kind %s: %w", k.GroupKind(), err)
		}
		set.add(r, cfg)
	}
	set.addEventsAgain(cfg.Scheme)
	pods := set.resources[corev1.Resource("pods")]
	set.Add(corev1.SchemeGroupVersion, "bindings", &bindingsStorage{&bindingStorage{pods.Store}})
	return set, nil
}

// Storage gives the storages of a group version by path.
func (s *Set) Storage(gv schema.GroupVersion) map[string]rest.Storage { return s.storage[gv] }

// Add puts a further storage, without a row of its own, under a path.
func (s *Set) Add(gv schema.GroupVersion, path string, storage rest.Storage) {
	if s.storage[gv] == nil {
		s.storage[gv] = map[string]rest.Storage{}
	}
	s.storage[gv][path] = storage
}

// Resource finds one resource.
func (s *Set) Resource(gr schema.GroupResource) (*Resource, bool) {
	r, ok := s.resources[gr]
	return r, ok
}

// Resources gives every resource.
func (s *Set) Resources() map[schema.GroupResource]*Resource { return s.resources }

func (s *Set) add(r *Resource, cfg Config) {
	s.resources[r.GroupResource()] = r
	if r.Kind.Also != nil {
		for sub, storage := range r.Kind.Also(r, cfg) {
			s.Add(r.Version, join(r.Plural, sub), storage)
			if deleter, ok := storage.(rest.GracefulDeleter); ok && sub == "" {
				r.Deleter = deleter
			}
		}
	}
	if _, replaced := s.storage[r.Version][r.Plural]; !replaced {
		s.Add(r.Version, r.Plural, &collection{r.Store, r.Kind})
	}
	if status := r.Parts["status"]; status != nil {
		s.Add(r.Version, r.Plural+"/status", &statusStorage{status})
	}
}

func join(plural, sub string) string {
	if sub == "" {
		return plural
	}
	return plural + "/" + sub
}

func build(k *Kind, cfg Config) (*Resource, error) {
	st := newStrategy(cfg.Scheme, k)
	gr := k.GroupResource()
	store := &registry.Store{
		NewFunc:                   k.newObject,
		NewListFunc:               k.newList,
		DefaultQualifiedResource:  gr,
		SingularQualifiedResource: schema.GroupResource{Group: gr.Group, Resource: k.Singular},
		CreateStrategy:            st,
		UpdateStrategy:            st,
		DeleteStrategy:            st,
		ResetFieldsStrategy:       st,
		ReturnDeletedObject:       k.ReturnDeleted,
		TableConvertor:            newTable(k),
	}
	if k.Grace != nil {
		store.DeleteStrategy = gracefulStrategy{st}
	}
	if k.TTL > 0 {
		store.TTLFunc = func(runtime.Object, uint64, bool) (uint64, error) { return k.TTL, nil }
	}
	attrs := k.attributes()
	store.PredicateFunc = func(label labels.Selector, field fields.Selector) storage.SelectionPredicate {
		return storage.SelectionPredicate{Label: label, Field: field, GetAttrs: attrs}
	}
	options := &generic.StoreOptions{RESTOptions: withCollector{cfg.Storage}, AttrFunc: attrs, TriggerFunc: k.Index}
	if err := store.CompleteWithOptions(options); err != nil {
		return nil, err
	}
	if k.Complete != nil {
		k.Complete(store, cfg)
	}
	r := &Resource{Kind: k, Store: store, Parts: map[string]*registry.Store{}}
	if k.Status {
		status := *store
		status.UpdateStrategy = statusStrategy{st}
		status.ResetFieldsStrategy = statusStrategy{st}
		status.BeginUpdate = nil
		r.Parts["status"] = &status
	}
	return r, nil
}

// attributes gives what label and field selectors look at.
func (k *Kind) attributes() storage.AttrFunc {
	attrs := storage.AttrFunc(storage.DefaultNamespaceScopedAttr)
	if k.Cluster {
		attrs = storage.DefaultClusterScopedAttr
	}
	if k.Fields == nil {
		return attrs
	}
	return attrs.WithFieldMutation(func(obj runtime.Object, set fields.Set) error {
		k.Fields(obj, set)
		return nil
	})
}

// withCollector turns on the finalizers that the garbage collector answers.
type withCollector struct{ generic.RESTOptionsGetter }

func (w withCollector) GetRESTOptions(gr schema.GroupResource, example runtime.Object) (generic.RESTOptions, error) {
	opts, err := w.RESTOptionsGetter.GetRESTOptions(gr, example)
	opts.EnableGarbageCollection = true
	if opts.DeleteCollectionWorkers == 0 {
		opts.DeleteCollectionWorkers = 16 // concurrent deletes share a commit
	}
	return opts, err
}

// collection is the storage of the main resource.
type collection struct {
	*registry.Store
	kind *Kind
}

func (c *collection) ShortNames() []string { return c.kind.Short }
func (c *collection) Categories() []string { return c.kind.Categories }

// statusStorage serves …/status: it reads the object and writes its status.
type statusStorage struct{ store *registry.Store }

func (s *statusStorage) New() runtime.Object { return s.store.New() }
func (s *statusStorage) Destroy()            {}

func (s *statusStorage) Get(ctx context.Context, name string, opts *metav1.GetOptions) (runtime.Object, error) {
	return s.store.Get(ctx, name, opts)
}

func (s *statusStorage) Update(ctx context.Context, name string, info rest.UpdatedObjectInfo, create rest.ValidateObjectFunc,
	update rest.ValidateObjectUpdateFunc, _ bool, opts *metav1.UpdateOptions) (runtime.Object, bool, error) {
	return s.store.Update(ctx, name, info, create, update, false, opts)
}

func (s *statusStorage) GetResetFields() map[fieldpath.APIVersion]*fieldpath.Set {
	return s.store.GetResetFields()
}

func (s *statusStorage) ConvertToTable(ctx context.Context, obj, opts runtime.Object) (*metav1.Table, error) {
	return s.store.ConvertToTable(ctx, obj, opts)
}
