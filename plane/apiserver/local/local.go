// Package local is the API without HTTP: writes from the same process go through
// the same authorisation, defaulting, admission, validation and field management
// as a request, and many of them share one commit; reads see an immutable
// snapshot of shared objects, without a lock or a copy. It knows the table of
// kinds and a small store; it never learns who calls it, or how commits are made
// durable.
//
//	client := server.Local().As("system:serviceaccount:kube-system:deployment-controller")
//	created, errs := client.CreateAll(ctx, pods)
//	for obj := range client.View().List(corev1.Resource("pods"), "default") { … }
//
// Objects that come out are shared by everybody who reads: DeepCopy before
// changing one. Objects that go in stay the caller's and are not changed.
package local

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/managedfields"
	"k8s.io/apiserver/pkg/admission"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/apiserver/pkg/registry/generic/registry"
	"k8s.io/kube-openapi/pkg/validation/spec"

	"copepod/plane/apiserver/kinds"
	"copepod/plane/apiserver/scheme"
	"copepod/plane/controllers/api"
)

// The shapes that this API shares with those who use it.
type (
	Object = api.Object
	Event  = api.Event
	View   = api.View
)

// Store is what lies below: shared objects out, changes in.
type Store interface {
	View() View
	// Watch delivers every change after a revision, in order. The channel closes
	// when ctx ends or when the reader falls behind what is kept: then take a new
	// View.
	Watch(ctx context.Context, gr schema.GroupResource, from uint64) (<-chan []Event, error)
	// Write makes changes that do not depend on one another, in as few commits as
	// they fit in, and answers each.
	Write(ctx context.Context, changes []Change) []Outcome
}

// Change replaces Old, as it was read, by New. Nil Old: New must not exist yet.
type Change struct {
	Resource schema.GroupResource
	Old, New Object // New becomes the store's: nobody changes it afterwards
	TTL      uint64 // seconds that New lives; 0 = for ever
}

// Outcome of a Change: the object as it is stored now, or an error of
// k8s.io/apiserver/pkg/storage: key exists, not found, or conflict.
type Outcome struct {
	Object Object
	Err    error
}

// Schemas are the OpenAPI models that field management reads.
type Schemas = map[string]*spec.Schema

// Config of a Client. All fields but Registerer are required.
type Config struct {
	Scheme     *scheme.Scheme
	Kinds      *kinds.Set
	Store      Store
	Admission  admission.Interface
	Authorizer authorizer.Authorizer
	Schemas    []Schemas
	Registerer prometheus.Registerer // receives copepod_api_inprocess_*
}

// Client is the API as one identity. It is safe for use from many goroutines.
type Client struct {
	*parts
	user    user.Info
	manager string // the name in managedFields
}

var _ api.Client = (*Client)(nil)

// parts are what clients of all identities share.
type parts struct {
	store      Store
	scheme     *scheme.Scheme
	mutate     admission.MutationInterface
	validate   admission.ValidationInterface
	authorizer authorizer.Authorizer
	resources  map[schema.GroupResource]*resource
	types      map[reflect.Type]*resource
	metrics    *metrics
}

// resource is a kind with what HTTP keeps in a request scope.
type resource struct {
	*kinds.Resource
	gvk     schema.GroupVersionKind
	gvr     schema.GroupVersionResource
	objects admission.ObjectInterfaces
	parts   map[string]part // by subresource, the object itself under ""
}

// part is what of an object one path writes.
type part struct {
	store  *registry.Store
	fields *fieldManager
}

// New builds the client of the API server itself.
func New(cfg Config) (*Client, error) {
	mutate, ok := cfg.Admission.(admission.MutationInterface)
	if !ok {
		return nil, errors.New("local: config: Admission does not mutate")
	}
	validate, ok := cfg.Admission.(admission.ValidationInterface)
	if !ok {
		return nil, errors.New("local: config: Admission does not validate")
	}
	models := Schemas{}
	for _, s := range cfg.Schemas {
		maps.Copy(models, s)
	}
	converter, err := managedfields.NewTypeConverter(models, false)
	if err != nil {
		return nil, fmt.Errorf("local: schemas: %w", err)
	}
	p := &parts{
		store: cfg.Store, scheme: cfg.Scheme, mutate: mutate, validate: validate, authorizer: cfg.Authorizer,
		resources: map[schema.GroupResource]*resource{},
		types:     map[reflect.Type]*resource{},
	}
	for gr, k := range cfg.Kinds.Resources() {
		r, err := newResource(k, cfg.Scheme, converter)
		if err != nil {
			return nil, fmt.Errorf("local: %s: %w", gr, err)
		}
		p.resources[gr] = r
		p.types[reflect.TypeOf(k.Object)] = r
	}
	if p.metrics, err = newMetrics(cfg.Registerer); err != nil {
		return nil, fmt.Errorf("local: metrics: %w", err)
	}
	c := &Client{parts: p}
	return c.As(user.APIServerUser, user.SystemPrivilegedGroup), nil
}

func newResource(k *kinds.Resource, s *scheme.Scheme, converter managedfields.TypeConverter) (*resource, error) {
	r := &resource{
		Resource: k,
		gvk:      k.Version.WithKind(k.Kind.Kind),
		gvr:      k.Version.WithResource(k.Plural),
		objects:  admission.NewObjectInterfacesFromScheme(s.Scheme),
		parts:    map[string]part{},
	}
	for subresource, store := range k.Parts {
		r.parts[subresource] = part{store: store}
	}
	r.parts[""] = part{store: k.Store}
	for subresource, p := range r.parts {
		var err error
		if p.fields, err = newFieldManager(r, s, converter, subresource, p.store.GetResetFields()); err != nil {
			return nil, err
		}
		r.parts[subresource] = p
	}
	return r, nil
}

// As gives the same API under another identity, judged by the same authorizer as
// over HTTP. Its writes carry the last part of the user's name as field manager.
func (c *Client) As(name string, groups ...string) *Client {
	groups = append(append([]string(nil), groups...), user.AllAuthenticated)
	if rest, ok := strings.CutPrefix(name, "system:serviceaccount:"); ok {
		namespace, _, _ := strings.Cut(rest, ":")
		groups = append(groups, "system:serviceaccounts", "system:serviceaccounts:"+namespace)
	}
	return &Client{
		parts:   c.parts,
		user:    &user.DefaultInfo{Name: name, Groups: groups},
		manager: name[strings.LastIndexByte(name, ':')+1:],
	}
}

// View is a snapshot of everything, at one revision. It costs nothing to take.
func (c *Client) View() View { return c.store.View() }

// Watch delivers every change of a resource after a revision, in order, as
// batches. The channel closes when ctx ends, or when the reader falls behind
// what history is kept: then take a new View and watch from there.
func (c *Client) Watch(ctx context.Context, gr schema.GroupResource, from uint64) (<-chan []Event, error) {
	if _, err := c.resource(gr); err != nil {
		return nil, err
	}
	return c.store.Watch(ctx, gr, from)
}

func (c *Client) resource(gr schema.GroupResource) (*resource, error) {
	if r, ok := c.resources[gr]; ok {
		return r, nil
	}
	return nil, fmt.Errorf("local: resource %s is not served", gr)
}

func (c *Client) resourceOf(obj runtime.Object) (*resource, error) {
	if r, ok := c.types[reflect.TypeOf(obj)]; ok {
		return r, nil
	}
	return nil, fmt.Errorf("local: type %T is not served", obj)
}
