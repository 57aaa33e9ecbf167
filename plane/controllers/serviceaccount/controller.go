// Package serviceaccount keeps a ServiceAccount called default in every
// namespace that is not being deleted. It knows names only; tokens are the API
// server's.
//
//	c := serviceaccount.New(serviceaccount.Config{Client: client, Namespaces: nss, Accounts: accounts})
//	err := c.Run(ctx)
package serviceaccount

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"copepod/plane/controllers/api"
	"copepod/plane/controllers/cache"
	"copepod/plane/controllers/loop"
)

// Name is the ServiceAccount that every namespace has.
const Name = "default"

// Client is what the controller asks of the cluster.
type Client interface {
	Create(ctx context.Context, o api.Object) (api.Object, error)
}

// Config is what a controller works with; every field but Loop is needed.
type Config struct {
	Client     Client
	Namespaces *cache.Cache[*corev1.Namespace]
	// Accounts need keep no other ServiceAccount than those called default.
	Accounts *cache.Cache[*corev1.ServiceAccount]
	Loop     loop.Config
}

// Project leaves out ServiceAccounts of other names.
func Project(o api.Object) (*corev1.ServiceAccount, bool) {
	sa, ok := o.(*corev1.ServiceAccount)
	return sa, ok && sa.Name == Name
}

// Controller reconciles namespaces, keyed by their name.
type Controller struct {
	Config
	*loop.Loop[string]
}

// New subscribes to the caches, which must not run yet.
func New(cfg Config) *Controller {
	c := &Controller{Config: cfg}
	c.Loop = loop.New(cfg.Loop, c.reconcile)
	cfg.Namespaces.OnChange(func(ch cache.Change[*corev1.Namespace]) { c.Add(ch.Key.Name) })
	cfg.Accounts.OnChange(func(ch cache.Change[*corev1.ServiceAccount]) {
		if !ch.HasNew {
			c.Add(ch.Key.Namespace)
		}
	})
	return c
}

func (c *Controller) reconcile(ctx context.Context, namespace string) (loop.Result, error) {
	ns, ok := c.Namespaces.Get(types.NamespacedName{Name: namespace})
	if !ok || ns.DeletionTimestamp != nil {
		return loop.Result{}, nil
	}
	if _, ok := c.Accounts.Get(types.NamespacedName{Namespace: namespace, Name: Name}); ok {
		return loop.Result{}, nil
	}
	o, err := c.Client.Create(ctx, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: Name}})
	switch {
	case apierrors.IsAlreadyExists(err), apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause):
		return loop.Result{}, nil
	case err != nil:
		return loop.Result{}, fmt.Errorf("serviceaccount %s/%s: %w", namespace, Name, err)
	}
	c.Accounts.Put(o)
	return loop.Result{}, nil
}
