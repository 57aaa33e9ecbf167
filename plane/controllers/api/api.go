// Package api names what controllers and the scheduler ask of the cluster: the
// shapes of objects, snapshots and watch events, and the verbs of an in-process
// client. It knows nothing of who answers (the API server's in-process client in
// production, looptest in tests) and holds no state.
//
// A controller never asks for the whole Client: it declares the few verbs that
// it uses. Client is what the wiring hands out.
package api

import (
	"context"
	"iter"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
)

// Object is any API object in its v1 form. An Object that was read is shared by
// every reader: DeepCopy it before changing anything.
type Object interface {
	metav1.Object
	runtime.Object
}

// Event is one change of one object. Old is nil when the object was added,
// Object is the last state when it was deleted. Rev is the cluster's revision at
// which it happened.
type Event struct {
	Type        watch.EventType
	Object, Old Object
	Rev         uint64
}

// View is an immutable snapshot of the cluster at one revision.
type View interface {
	Get(gr schema.GroupResource, namespace, name string) (Object, bool)
	// List yields the objects of a namespace, or of all of them when it is "".
	List(gr schema.GroupResource, namespace string) iter.Seq[Object]
	Revision() uint64
}

// Source gives snapshots and the changes that follow them.
type Source interface {
	View() View
	// Watch delivers every change after revision from, in order. The channel
	// closes when ctx ends or when the watcher fell behind the kept history:
	// then take a new View.
	Watch(ctx context.Context, gr schema.GroupResource, from uint64) (<-chan []Event, error)
}

// Client is the whole in-process API as one identity. Writes pass the same
// admission, defaulting and validation as a request over HTTPS, and errors are
// those of k8s.io/apimachinery/pkg/api/errors. The …All verbs answer each object
// on its own and are one entry in the log where they fit. Objects that go in stay
// the caller's and are not changed, so they may share parts with others.
type Client interface {
	Source

	Create(ctx context.Context, obj Object) (Object, error)
	CreateAll(ctx context.Context, objs []Object) ([]Object, []error)
	Update(ctx context.Context, obj Object) (Object, error)
	UpdateStatus(ctx context.Context, obj Object) (Object, error)
	UpdateStatusAll(ctx context.Context, objs []Object) ([]Object, []error)
	// Modify reads, changes a private copy, and writes, again on conflict.
	// subresource is "" for the object itself.
	Modify(ctx context.Context, gr schema.GroupResource, namespace, name, subresource string, change func(Object) error) (Object, error)
	Delete(ctx context.Context, gr schema.GroupResource, namespace, name string, opts metav1.DeleteOptions) error
	DeleteAll(ctx context.Context, gr schema.GroupResource, names []types.NamespacedName, opts metav1.DeleteOptions) []error
	BindAll(ctx context.Context, bindings []*corev1.Binding) []error
}

// Key is the namespace and name of an object.
func Key(o metav1.Object) types.NamespacedName {
	return types.NamespacedName{Namespace: o.GetNamespace(), Name: o.GetName()}
}

// Revision is the revision at which the object was written, 0 when it was not.
func Revision(o metav1.Object) uint64 {
	rev, err := strconv.ParseUint(o.GetResourceVersion(), 10, 64)
	if err != nil {
		return 0
	}
	return rev
}
