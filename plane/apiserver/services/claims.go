package services

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/uuid"
	genericapirequest "k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/registry/generic"
	"k8s.io/apiserver/pkg/storage"
)

// owner is the service that holds a claim.
type owner struct {
	types.NamespacedName
	UID types.UID
}

// claims are one range of things of which each belongs to one service: a stored
// record each, made only if it is absent, so that any number of servers agree.
// The record is a core/v1 Binding of the address to its Service.
type claims struct {
	storage storage.Interface
	prefix  string
}

// newClaims keeps claims under a resource of its own, which no API shows.
func newClaims(getter generic.RESTOptionsGetter, resource string) (*claims, error) {
	opts, err := getter.GetRESTOptions(schema.GroupResource{Resource: resource}, &corev1.Binding{})
	if err != nil {
		return nil, fmt.Errorf("services: storage of %s: %w", resource, err)
	}
	prefix := "/" + opts.ResourcePrefix
	if opts.ResourcePrefix[0] == '/' {
		prefix = opts.ResourcePrefix
	}
	s, _, err := opts.Decorator(opts.StorageConfig, prefix,
		func(obj runtime.Object) (string, error) { return prefix + "/" + obj.(*corev1.Binding).Name, nil },
		func() runtime.Object { return &corev1.Binding{} },
		func() runtime.Object { return &recordList{} },
		storage.DefaultClusterScopedAttr, nil, nil)
	if err != nil {
		return nil, fmt.Errorf("services: storage of %s: %w", resource, err)
	}
	return &claims{storage: s, prefix: prefix}, nil
}

// holder gives the service that holds a claim; ok is false for a free one.
func (c *claims) holder(ctx context.Context, name string) (o owner, ok bool, err error) {
	record := &corev1.Binding{}
	err = c.storage.Get(ctx, c.key(name), storage.GetOptions{}, record)
	if storage.IsNotFound(err) {
		return owner{}, false, nil
	}
	return ownerOf(record), err == nil, err
}

// claim makes name the owner's. It is true too when it was already: a retried
// request finds what its first attempt took.
func (c *claims) claim(ctx context.Context, name string, o owner, dryRun bool) (bool, error) {
	holder, taken, err := c.holder(ctx, name)
	if err != nil {
		return false, err
	}
	if taken {
		return holder.NamespacedName == o.NamespacedName, nil
	}
	if dryRun {
		return true, nil
	}
	record := &corev1.Binding{
		ObjectMeta: metav1.ObjectMeta{Name: name, UID: uuid.NewUUID(), CreationTimestamp: metav1.Now()},
		Target:     corev1.ObjectReference{Kind: "Service", Namespace: o.Namespace, Name: o.Name, UID: o.UID},
	}
	err = c.storage.Create(system(ctx), c.key(name), record, nil, 0)
	if storage.IsExist(err) { // lost the race
		holder, taken, err = c.holder(ctx, name)
		return taken && holder.NamespacedName == o.NamespacedName, err
	}
	return err == nil, err
}

var errNotOurs = errors.New("the claim belongs to another service")

// release gives name back, if it is the owner's.
func (c *claims) release(ctx context.Context, name string, o owner) error {
	err := c.storage.Delete(system(ctx), c.key(name), &corev1.Binding{}, nil,
		func(_ context.Context, obj runtime.Object) error {
			if ownerOf(obj.(*corev1.Binding)).NamespacedName != o.NamespacedName {
				return errNotOurs
			}
			return nil
		}, nil, storage.DeleteOptions{})
	if storage.IsNotFound(err) || errors.Is(err, errNotOurs) {
		return nil
	}
	return err
}

// sweep releases claims that were made before a time and that keep does not want.
func (c *claims) sweep(ctx context.Context, before time.Time, keep func(name string, o owner) bool) error {
	list := &recordList{}
	err := c.storage.GetList(ctx, c.prefix+"/", storage.ListOptions{Recursive: true, Predicate: storage.Everything}, list)
	if err != nil {
		return err
	}
	for i := range list.Items {
		record := &list.Items[i]
		if record.CreationTimestamp.After(before) || keep(record.Name, ownerOf(record)) {
			continue
		}
		if err := c.release(ctx, record.Name, ownerOf(record)); err != nil {
			return err
		}
	}
	return nil
}

// recordList is what storage lists records into; it is never sent anywhere.
type recordList struct {
	metav1.TypeMeta
	metav1.ListMeta
	Items []corev1.Binding
}

func (l *recordList) DeepCopyObject() runtime.Object {
	out := &recordList{TypeMeta: l.TypeMeta, ListMeta: *l.ListMeta.DeepCopy(), Items: make([]corev1.Binding, len(l.Items))}
	for i := range l.Items {
		l.Items[i].DeepCopyInto(&out.Items[i])
	}
	return out
}

func (c *claims) key(name string) string { return c.prefix + "/" + name }

func ownerOf(record *corev1.Binding) owner {
	t := record.Target
	return owner{types.NamespacedName{Namespace: t.Namespace, Name: t.Name}, t.UID}
}

// system drops the namespace of the request, which claims do not have.
func system(ctx context.Context) context.Context {
	return genericapirequest.WithNamespace(ctx, metav1.NamespaceNone)
}
