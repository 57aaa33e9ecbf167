package kubestore

import (
	"context"
	"fmt"

	"copepod/plane/store"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/storage"
)

// barrier waits until everything that was acknowledged anywhere before the
// call is visible here.
func (r *resource) barrier(ctx context.Context, key string) error {
	if err := r.k.backend.ReadIndex(ctx); err != nil {
		return backendError(key, err)
	}
	return nil
}

// notOlderThan returns the state for a read with a resource version: empty is
// the most recent, "0" is any, others are at least that.
func (r *resource) notOlderThan(ctx context.Context, key, resourceVersion string) (*store.Snapshot, error) {
	if resourceVersion == "" {
		if err := r.barrier(ctx, key); err != nil {
			return nil, err
		}
		return r.k.backend.Snapshot(), nil
	}
	least, err := versioner.ParseResourceVersion(resourceVersion)
	if err != nil {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("invalid resource version: %v", err))
	}
	return r.atLeast(ctx, key, least, 0)
}

// atLeast returns the state at a resource version or a later one. If there is
// none the client is told to come back after some seconds.
func (r *resource) atLeast(ctx context.Context, key string, least uint64, retry int) (*store.Snapshot, error) {
	snap := r.k.backend.Snapshot()
	if least <= version(snap.Revision()) {
		return snap, nil
	}
	if err := r.barrier(ctx, key); err != nil {
		return nil, err
	}
	snap = r.k.backend.Snapshot()
	if current := version(snap.Revision()); least > current {
		return nil, storage.NewTooLargeResourceVersionError(least, current, retry)
	}
	return snap, nil
}

// Get implements storage.Interface.
func (r *resource) Get(ctx context.Context, name string, opts storage.GetOptions, out runtime.Object) error {
	key, err := r.key(name, false)
	if err != nil {
		return err
	}
	snap, err := r.notOlderThan(ctx, key, opts.ResourceVersion)
	if err != nil {
		return err
	}
	kv := snap.Get(key)
	if kv == nil {
		if opts.IgnoreNotFound {
			return runtime.SetZeroValue(out)
		}
		return storage.NewKeyNotFoundError(key, 0)
	}
	return r.read(ctx, kv, out)
}

// read gives a caller its own copy of a version.
func (r *resource) read(ctx context.Context, kv *store.KV, out runtime.Object) error {
	d, err := r.decoded(ctx, kv)
	if err != nil {
		return readError(err)
	}
	return r.copyInto(ctx, out, d, kv)
}
