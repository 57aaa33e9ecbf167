package kubestore

import (
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/registry/generic"
	"k8s.io/apiserver/pkg/storage"
	"k8s.io/apiserver/pkg/storage/storagebackend"
	"k8s.io/apiserver/pkg/storage/storagebackend/factory"
	"k8s.io/client-go/tools/cache"
)

// Codecs chooses how the objects of a resource are stored: the codec and the
// version that it encodes.
type Codecs func(schema.GroupResource) (runtime.Codec, runtime.GroupVersioner)

// RESTOptions has generic registries keep their objects here, encoded as
// codecs says. A caller may replace the codec in the StorageConfig that it
// gets, as the server of custom resources does.
func (k *K) RESTOptions(codecs Codecs) generic.RESTOptionsGetter {
	return &restOptions{k: k, codecs: codecs}
}

type restOptions struct {
	k      *K
	codecs Codecs
}

// GetRESTOptions implements generic.RESTOptionsGetter.
func (o *restOptions) GetRESTOptions(group schema.GroupResource, _ runtime.Object) (generic.RESTOptions, error) {
	codec, encodes := o.codecs(group)
	cfg := storagebackend.Config{Prefix: o.k.cfg.Prefix, Codec: codec, EncodeVersioner: encodes}
	if o.k.cfg.Transformer != nil {
		cfg.Transformer = o.k.cfg.Transformer(group)
	}
	options := generic.RESTOptions{
		StorageConfig:           cfg.ForResource(group),
		Decorator:               o.k.decorate,
		EnableGarbageCollection: true,
		DeleteCollectionWorkers: 1,
		ResourcePrefix:          rootOf(group),
	}
	if o.k.cfg.Counts != nil {
		options.StorageObjectCountTracker = o.k.cfg.Counts
		options.CountMetricPollPeriod = o.k.cfg.CountInterval
	}
	return options, nil
}

// decorate is a generic.StorageDecorator: it makes the storage of a resource.
// Of a trigger it makes an index, by which watches and lists with a field
// selector are served.
func (k *K) decorate(
	cfg *storagebackend.ConfigForResource,
	prefix string,
	_ func(runtime.Object) (string, error),
	newFunc, _ func() runtime.Object,
	_ storage.AttrFunc,
	triggers storage.IndexerFuncs,
	_ *cache.Indexers,
) (storage.Interface, factory.DestroyFunc, error) {
	rc := resourceConfig{
		group:       cfg.GroupResource,
		root:        prefix,
		codec:       cfg.Codec,
		transformer: cfg.Transformer,
		newFunc:     newFunc,
		triggers:    triggers,
	}
	unsafe := unsafeDeletion()
	if unsafe {
		rc.codec = corruptCodec{rc.codec}
		if rc.transformer != nil {
			rc.transformer = corruptTransformer{rc.transformer}
		}
	}
	r, err := k.add(rc)
	if err != nil {
		return nil, nil, err
	}
	if unsafe {
		return corruptDeleter{Interface: r, group: r.group}, r.destroy, nil
	}
	return r, r.destroy, nil
}
