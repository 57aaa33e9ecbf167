// Package rootca publishes the cluster's CA certificate as the ConfigMap
// kube-root-ca.crt in every namespace that is not being deleted, so that pods can
// check the API server. It knows the bytes it was given and nothing of
// certificates.
//
//	c := rootca.New(rootca.Config{Client: client, Namespaces: nss, ConfigMaps: maps, PEM: pem})
//	err := c.Run(ctx)
package rootca

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

const (
	// Name is the ConfigMap that every namespace has, Key its one key.
	Name = "kube-root-ca.crt"
	Key  = "ca.crt"

	description = "kubernetes.io/description"
	explanation = "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as the internal service IP or kubernetes.default.svc. No other usage is guaranteed across distributions of Kubernetes clusters."
)

// Client is what the controller asks of the cluster.
type Client interface {
	Create(ctx context.Context, o api.Object) (api.Object, error)
	Update(ctx context.Context, o api.Object) (api.Object, error)
}

// Config is what a controller works with; every field but Loop is needed.
type Config struct {
	Client     Client
	Namespaces *cache.Cache[*corev1.Namespace]
	// ConfigMaps need keep no others than those of this name.
	ConfigMaps *cache.Cache[*corev1.ConfigMap]
	// PEM is the certificate bundle.
	PEM  []byte
	Loop loop.Config
}

// Project leaves out ConfigMaps of other names.
func Project(o api.Object) (*corev1.ConfigMap, bool) {
	m, ok := o.(*corev1.ConfigMap)
	return m, ok && m.Name == Name
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
	cfg.ConfigMaps.OnChange(func(ch cache.Change[*corev1.ConfigMap]) { c.Add(ch.Key.Namespace) })
	return c
}

func (c *Controller) reconcile(ctx context.Context, namespace string) (loop.Result, error) {
	ns, ok := c.Namespaces.Get(types.NamespacedName{Name: namespace})
	if !ok || ns.DeletionTimestamp != nil {
		return loop.Result{}, nil
	}
	have, ok := c.ConfigMaps.Get(types.NamespacedName{Namespace: namespace, Name: Name})
	if ok && len(have.Data) == 1 && have.Data[Key] == string(c.PEM) && len(have.BinaryData) == 0 {
		return loop.Result{}, nil
	}
	o, err := c.publish(ctx, namespace, have)
	switch {
	case apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause):
		return loop.Result{}, nil
	case err != nil:
		return loop.Result{}, fmt.Errorf("configmap %s/%s: %w", namespace, Name, err)
	}
	c.ConfigMaps.Put(o)
	return loop.Result{}, nil
}

func (c *Controller) publish(ctx context.Context, namespace string, have *corev1.ConfigMap) (api.Object, error) {
	data := map[string]string{Key: string(c.PEM)}
	if have == nil {
		return c.Client.Create(ctx, &corev1.ConfigMap{
			ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: Name, Annotations: map[string]string{description: explanation}},
			Data:       data,
		})
	}
	next := have.DeepCopy()
	next.Data, next.BinaryData = data, nil
	return c.Client.Update(ctx, next)
}
