package kubestore

import (
	"context"
	"errors"
	"fmt"
	"reflect"

	"copepod/plane/store"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/conversion"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/features"
	"k8s.io/apiserver/pkg/storage"
	utilfeature "k8s.io/apiserver/pkg/util/feature"
)

// GetList implements storage.Interface. All pages of a list are read from the
// state of the first.
func (r *resource) GetList(ctx context.Context, name string, opts storage.ListOptions, list runtime.Object) error {
	key, err := r.key(name, opts.Recursive)
	if err != nil {
		return err
	}
	itemsPtr, err := meta.GetItemsPtr(list)
	if err != nil {
		return err
	}
	items, err := conversion.EnforcePtr(itemsPtr)
	if err != nil || items.Kind() != reflect.Slice {
		return fmt.Errorf("need ptr to slice: %w", err)
	}
	at, from, err := storage.ValidateListOptions(key, versioner, opts)
	if err != nil {
		return err
	}
	snap, err := r.listSnapshot(ctx, key, opts, uint64(at), from)
	if err != nil {
		return err
	}
	l := &lister{r: r, pred: &opts.Predicate, items: items, errs: newListErrors()}
	if opts.Recursive {
		l.walk(ctx, snap, key, from)
	} else if kv := snap.Get(key); kv != nil {
		l.visit(ctx, kv)
	}
	if err := l.errs.aggregate(); err != nil {
		return err
	}
	var remaining int64
	if l.more {
		remaining = int64(snap.CountFrom(key, from))
	}
	token, count, err := storage.PrepareContinueToken(l.last, key, int64(version(snap.Revision())), remaining, l.more, opts)
	if err != nil {
		return err
	}
	if items.IsNil() { // a list is never null
		items.Set(reflect.MakeSlice(items.Type(), 0, 0))
	}
	if err := versioner.UpdateList(list, version(snap.Revision()), token, count); err != nil {
		return err
	}
	if utilfeature.DefaultFeatureGate.Enabled(features.ShardedListAndWatch) {
		opts.Predicate.SetShardInfoOnList(list)
	}
	return nil
}

// listSnapshot returns the state that a list shows: at exactly the version
// at, or if that is 0 what its other options allow.
func (r *resource) listSnapshot(ctx context.Context, key string, opts storage.ListOptions, at uint64, from string) (*store.Snapshot, error) {
	paging := opts.Predicate.Continue != ""
	if at == 0 {
		if paging { // whose token asks for the most recent state
			return r.notOlderThan(ctx, key, "")
		}
		return r.notOlderThan(ctx, key, opts.ResourceVersion)
	}
	if _, err := r.atLeast(ctx, key, at, 0); err != nil {
		return nil, err
	}
	snap, err := r.k.backend.At(revision(at))
	if errors.Is(err, store.ErrCompacted) {
		return nil, expiredList(paging, from, key)
	}
	if err != nil {
		return nil, backendError(key, err)
	}
	return snap, nil
}

// lister collects the items of a list.
type lister struct {
	r     *resource
	pred  *storage.SelectionPredicate
	items reflect.Value // an addressable slice
	errs  listErrors
	last  string // the last key that was looked at
	more  bool   // there are keys behind it
}

// walk visits the keys from a place on until the page is full.
func (l *lister) walk(ctx context.Context, snap *store.Snapshot, prefix, from string) {
	limit, all := l.pred.Limit, l.pred.Empty()
	if all {
		n := snap.CountFrom(prefix, from)
		if limit > 0 {
			n = min(n, int(limit))
		}
		l.items.Grow(n)
	}
	visited := 0
	for kv := range l.r.selected(ctx, snap, prefix, from, l.pred) {
		if limit > 0 && int64(l.items.Len()) >= limit {
			l.more = true
			return
		}
		l.last = kv.Key
		if visited++; visited%256 == 0 && ctx.Err() != nil {
			l.errs.add(kv.Key, storage.NewTimeoutError(kv.Key, "request did not complete within requested timeout"))
			return
		}
		if !l.visit(ctx, kv) {
			return
		}
	}
}

// visit adds one object if it matches; false is the end of the list.
func (l *lister) visit(ctx context.Context, kv *store.KV) bool {
	d, err := l.r.decoded(ctx, kv)
	if err != nil {
		var t *transformError
		if errors.As(err, &t) {
			err = storage.NewInternalError(fmt.Errorf("unable to transform key %q: %w", kv.Key, t.err))
		}
		return !l.errs.add(kv.Key, err)
	}
	if ok, err := l.pred.Matches(d.obj); err != nil || !ok {
		return true
	}
	if err := l.append(ctx, d, kv); err != nil {
		return !l.errs.add(kv.Key, readError(err))
	}
	return true
}

func (l *lister) append(ctx context.Context, d *decoded, kv *store.KV) error {
	obj := d.obj
	_, isMap := obj.(runtime.Unstructured) // of which an encoder changes the top
	if isMap || !l.r.k.cfg.ShareLists {
		obj = obj.DeepCopyObject()
	}
	item := reflect.ValueOf(obj).Elem()
	if want := l.items.Type().Elem(); item.Type() != want {
		other := reflect.New(want)
		into, ok := other.Interface().(runtime.Object)
		if !ok {
			return fmt.Errorf("list of %s: items are not objects", want)
		}
		if err := l.r.copyInto(ctx, into, d, kv); err != nil {
			return err
		}
		item = other.Elem()
	}
	n := l.items.Len()
	l.items.Grow(1)
	l.items.SetLen(n + 1)
	l.items.Index(n).Set(item)
	return nil
}
