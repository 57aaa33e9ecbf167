// Package admission holds the rules that need a second object: is the namespace
// there and alive, does the runtime class exist, does a grant exceed its giver. Each rule is a plugin of k8s.io/apiserver, so
// HTTP and the in-process client go through the same chain. It knows the kinds
// and a small reader of stored objects; it never learns how requests arrive.
//
//	chain := admission.New(admission.Config{Objects: reader})
//	config.AdmissionControl = chain
package admission

import (
	"context"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/admission"
	"k8s.io/apiserver/pkg/authentication/user"
)

// Object is a stored object. It is shared: nobody changes it.
type Object interface {
	metav1.Object
	runtime.Object
}

// Objects reads what is stored.
type Objects interface {
	// Object gives an object as it is now. A missing one is an error for which
	// apierrors.IsNotFound holds.
	Object(ctx context.Context, resource schema.GroupResource, namespace, name string) (Object, error)
	// Each calls fn for every object of a resource in a namespace ("" = all),
	// until it returns false.
	Each(ctx context.Context, resource schema.GroupResource, namespace string, fn func(Object) bool) error
}

// Guard keeps people from handing out rights that they do not hold.
type Guard interface {
	// Check judges a role or binding that u writes. old is nil on create.
	Check(ctx context.Context, u user.Info, obj, old runtime.Object) error
}

// Config of the chain.
type Config struct {
	Objects Objects
	// Guard judges roles and bindings; nil judges none.
	Guard Guard
	// UnreachableSeconds is how long a pod without wishes of its own stays on a
	// node that is not ready or not reachable. Zero: 2 seconds; Kubernetes has 300.
	UnreachableSeconds int64
}

// New gives the chain in the order of kube-apiserver: mutating rules first.
func New(cfg Config) admission.Interface {
	if cfg.UnreachableSeconds == 0 {
		cfg.UnreachableSeconds = 2
	}
	return chain{
		lifecycle{cfg.Objects},
		serviceAccount{cfg.Objects},
		tolerationSeconds{cfg.UnreachableSeconds},
		runtimeClass{cfg.Objects},
		priority{cfg.Objects},
		grants{cfg.Guard},
	}
}

// rule is one plugin: Admit may change the object, Validate may not.
type rule interface {
	admit(ctx context.Context, a admission.Attributes) error
	validate(ctx context.Context, a admission.Attributes) error
}

// chain asks every rule in turn. It is admission.Interface with both powers.
type chain []rule

var (
	_ admission.MutationInterface   = chain{}
	_ admission.ValidationInterface = chain{}
)

func (c chain) Handles(op admission.Operation) bool { return op != admission.Connect }

func (c chain) Admit(ctx context.Context, a admission.Attributes, _ admission.ObjectInterfaces) error {
	for _, r := range c {
		if err := r.admit(ctx, a); err != nil {
			return err
		}
	}
	return nil
}

func (c chain) Validate(ctx context.Context, a admission.Attributes, _ admission.ObjectInterfaces) error {
	for _, r := range c {
		if err := r.validate(ctx, a); err != nil {
			return err
		}
	}
	return nil
}

// is tells whether a request is about a resource itself and not a subresource.
func is(a admission.Attributes, resource schema.GroupResource) bool {
	return a.GetSubresource() == "" && a.GetResource().GroupResource() == resource
}
