package kubestore

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"

	"copepod/plane/store"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/conversion"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/storage"
	"k8s.io/apiserver/pkg/storage/value"
)

// resource is the storage.Interface of one resource, in one version of it.
type resource struct {
	k       *K
	group   schema.GroupResource
	root    string // of the keys that callers use, "/core/pods"
	prefix  string // of the keys in the store, "/registry/core/pods/"
	newFunc func() runtime.Object
	index   string // the field that form.trigger computes, empty: none
	form    atomic.Pointer[form]

	values   index         // used if index is not empty
	audience audience      // guarded by the hub
	done     chan struct{} // closed when the resource is no longer served
	doneOnce sync.Once
	sizes    atomic.Bool // Stats estimates sizes
}

var _ storage.Interface = (*resource)(nil)

// resourceConfig describes a resource that is to be stored.
type resourceConfig struct {
	group       schema.GroupResource
	root        string
	codec       runtime.Codec
	transformer value.Transformer
	newFunc     func() runtime.Object
	triggers    storage.IndexerFuncs
}

// add makes the storage of a resource and has the hub deliver to it.
func (k *K) add(cfg resourceConfig) (*resource, error) {
	if !strings.HasPrefix(cfg.root, "/") || cfg.root == "/" {
		return nil, fmt.Errorf("kubestore: resource %s: prefix %q must begin with / and name the resource", cfg.group, cfg.root)
	}
	if cfg.codec == nil || cfg.newFunc == nil {
		return nil, fmt.Errorf("kubestore: resource %s: it needs a codec and a function that makes objects", cfg.group)
	}
	if len(cfg.triggers) > 1 {
		return nil, fmt.Errorf("kubestore: resource %s: %d triggers: at most one is supported", cfg.group, len(cfg.triggers))
	}
	r := &resource{
		k:       k,
		group:   cfg.group,
		root:    cfg.root,
		prefix:  k.cfg.Prefix + strings.Trim(cfg.root, "/") + "/",
		newFunc: cfg.newFunc,
		done:    make(chan struct{}),
	}
	f := &form{codec: cfg.codec, transformer: cfg.transformer, newFunc: cfg.newFunc}
	for field, trigger := range cfg.triggers {
		r.index, f.trigger = field, trigger
	}
	r.form.Store(f)
	k.hub.add(r)
	return r, nil
}

// destroy ends the watches of the resource and forgets it.
func (r *resource) destroy() {
	r.doneOnce.Do(func() {
		close(r.done)
		r.k.hub.remove(r)
	})
}

// key is the key in the store of what a caller names.
func (r *resource) key(name string, recursive bool) (string, error) {
	key, err := storage.PrepareKey(r.root, name, recursive)
	if err != nil {
		return "", err
	}
	return r.k.cfg.Prefix + strings.TrimPrefix(key, "/"), nil
}

// Versioner implements storage.Interface.
func (r *resource) Versioner() storage.Versioner { return versioner }

// ReadinessCheck implements storage.Interface: a store that cannot
// acknowledge writes is not ready.
func (r *resource) ReadinessCheck() error {
	if err := r.k.backend.Health(); err != nil {
		return fmt.Errorf("%w: %w", storage.ErrStorageNotReady, err)
	}
	return nil
}

// RequestWatchProgress implements storage.Interface: watches that were opened
// with ProgressNotify say where they are.
func (r *resource) RequestWatchProgress(context.Context) error {
	r.k.hub.progress(r)
	return nil
}

// GetCurrentResourceVersion implements storage.Interface.
func (r *resource) GetCurrentResourceVersion(ctx context.Context) (uint64, error) {
	if err := r.barrier(ctx, r.prefix); err != nil {
		return 0, err
	}
	return version(r.k.backend.Snapshot().Revision()), nil
}

// CompactRevision implements storage.Interface.
func (r *resource) CompactRevision() int64 {
	if rev := r.k.backend.Snapshot().Compacted(); rev > 0 {
		return int64(version(rev))
	}
	return 0
}

// EnableResourceSizeEstimation implements storage.Interface. The keys are
// those of the store, whatever the function says.
func (r *resource) EnableResourceSizeEstimation(keys storage.KeysFunc) error {
	if keys == nil {
		return errors.New("KeysFunc cannot be nil")
	}
	if r.sizes.Swap(true) {
		return errors.New("resource size estimation is already enabled")
	}
	return nil
}

// sample is how many objects Stats weighs.
const sample = 4096

// Stats implements storage.Interface. The average size is that of the first
// objects.
func (r *resource) Stats(context.Context) (storage.Stats, error) {
	snap := r.k.backend.Snapshot()
	stats := storage.Stats{ObjectCount: int64(snap.Count(r.prefix))}
	if !r.sizes.Load() {
		return stats, nil
	}
	var size, n int64
	for kv := range snap.Range(r.prefix, "") {
		if n == sample {
			break
		}
		size += int64(len(kv.Value))
		n++
	}
	if n > 0 {
		stats.EstimatedAverageObjectSizeBytes = size / n
	}
	return stats, nil
}

// copyInto gives a caller its own copy of a shared object. If out is of
// another type it is decoded for it.
func (r *resource) copyInto(ctx context.Context, out runtime.Object, d *decoded, kv *store.KV) error {
	ok, err := moveInto(out, d.obj.DeepCopyObject())
	if ok || err != nil {
		return err
	}
	f := r.form.Load()
	data, _, err := f.plain(ctx, kv.Key, kv.Value)
	if err != nil {
		return err
	}
	_, err = f.decode(data, out, version(kv.Rev))
	return err
}

// moveInto lets out take over what obj points to; ok is false if they are of
// different types.
func moveInto(out, obj runtime.Object) (ok bool, err error) {
	if u, isUnstructured := out.(*unstructured.Unstructured); isUnstructured {
		if from, same := obj.(*unstructured.Unstructured); same {
			u.Object = from.Object
			return true, nil
		}
	}
	to, err := conversion.EnforcePtr(out)
	if err != nil {
		return false, fmt.Errorf("unable to convert output object to pointer: %w", err)
	}
	from := reflect.ValueOf(obj)
	if from.Kind() != reflect.Pointer || from.Type().Elem() != to.Type() {
		return false, nil
	}
	to.Set(from.Elem())
	return true, nil
}

// shallow is a copy of a shared object with another resource version. All
// else it shares.
func shallow(obj runtime.Object, version uint64) runtime.Object {
	from := reflect.ValueOf(obj)
	if _, ok := obj.(runtime.Unstructured); ok || from.Kind() != reflect.Pointer || from.Elem().Kind() != reflect.Struct {
		obj = obj.DeepCopyObject()
	} else {
		to := reflect.New(from.Type().Elem())
		to.Elem().Set(from.Elem())
		obj = to.Interface().(runtime.Object)
	}
	_ = versioner.UpdateObject(obj, version) // see decode
	return obj
}
