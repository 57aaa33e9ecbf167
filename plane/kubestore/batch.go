package kubestore

import (
	"bytes"
	"context"
	"fmt"
	"time"

	"copepod/plane/store"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/storage"
)

// Write is one change of one object: a creation (Object), an update of what
// was read before (Object and Old), or its deletion (Old).
type Write struct {
	Resource schema.GroupResource
	// Object is what to store. It loses its resource version and self link.
	Object runtime.Object
	// Old is the object as it was read: the write happens only if that is
	// still the latest version of it. It is not changed.
	Old runtime.Object
	// TTL is after how long the object is deleted; 0 is never.
	TTL time.Duration
}

// Written is the outcome of one Write.
type Written struct {
	// Object is the object as it is stored, shared with everybody: copy it
	// before changing it. That of a deletion is the object as it last was,
	// with the resource version of the deletion.
	Object runtime.Object
	// Err is, in the terms of package storage, that the object exists
	// (create), is not found or has another version (update, delete), or
	// that the store is not available.
	Err error
}

// Write does many independent writes in order, with as few log entries as
// they fit in. One that fails does not affect the others; two of the same
// object are done one after the other. An update that changes nothing
// writes nothing.
func (k *K) Write(ctx context.Context, writes []Write) []Written {
	results := make([]Written, len(writes))
	steps := make([]step, 0, len(writes))
	txns := make([]store.Txn, 0, len(writes))
	for i := range writes {
		s, err := k.step(ctx, &writes[i])
		if err != nil {
			results[i].Err = err
			continue
		}
		s.index = i
		steps = append(steps, s)
		txns = append(txns, store.Txn{s.op})
	}
	if len(txns) > 0 {
		for n, res := range k.backend.Batch(ctx, txns) {
			s := &steps[n]
			results[s.index].Object, results[s.index].Err = s.finish(ctx, res)
		}
	}
	for i := range steps {
		if steps[i].data != nil {
			k.release(steps[i].data)
		}
	}
	return results
}

// step is a write on its way to the store.
type step struct {
	index int
	r     *resource
	form  *form
	op    store.Op
	data  *buffer // the encoded object, nil for a deletion
}

func (k *K) step(ctx context.Context, w *Write) (step, error) {
	s := step{r: k.resource(w.Resource)}
	if s.r == nil {
		return s, &NotServedError{w.Resource}
	}
	s.form = s.r.form.Load()
	if w.Object == nil && w.Old == nil {
		return s, fmt.Errorf("write of %s: it needs Object, Old or both", w.Resource)
	}
	var err error
	if w.Object == nil {
		s.op.Kind = store.Delete
		s.op.Key, err = s.r.keyOf(w.Old)
	} else {
		s.op.Kind, s.op.TTL = store.Put, w.TTL
		s.op.Key, err = s.r.keyOf(w.Object)
	}
	if err != nil {
		return s, err
	}
	if s.op.Expect, err = expectation(s.op.Key, w.Old); err != nil || w.Object == nil {
		return s, err
	}
	s.data = k.buffer()
	if err := s.form.encode(s.data, w.Object); err != nil {
		return s, err
	}
	return s, s.seal(ctx)
}

// seal sets what is put, unless it is there already: then the write is only a
// check.
func (s *step) seal(ctx context.Context) (err error) {
	if s.op.Expect != store.Absent && s.op.TTL == 0 {
		kv := s.r.k.backend.Snapshot().Get(s.op.Key)
		if kv != nil && store.Exact(kv.Rev) == s.op.Expect {
			data, stale, err := s.form.plain(ctx, kv.Key, kv.Value)
			if err == nil && !stale && bytes.Equal(data, s.data.Bytes()) {
				s.op.Kind = store.Check
				return nil
			}
		}
	}
	s.op.Value, err = s.form.seal(ctx, s.op.Key, s.data.Bytes())
	return err
}

// keyOf is the key of an object.
func (r *resource) keyOf(obj runtime.Object) (string, error) {
	m, err := meta.Accessor(obj)
	if err != nil {
		return "", fmt.Errorf("write of %s: %w", r.group, err)
	}
	key := r.objectKey(m.GetNamespace(), m.GetName())
	if _, err := storage.PrepareKey(r.prefix, key, false); err != nil || m.GetName() == "" {
		return "", fmt.Errorf("write of %s: namespace %q and name %q make no key", r.group, m.GetNamespace(), m.GetName())
	}
	return key, nil
}

func expectation(key string, old runtime.Object) (store.Expect, error) {
	if old == nil {
		return store.Absent, nil
	}
	rv, err := versioner.ObjectResourceVersion(old)
	if err != nil || rv == 0 {
		return 0, storage.NewInvalidObjError(key, "the object to replace has no resource version")
	}
	return store.Exact(revision(rv)), nil
}

// finish turns the answer of the store into that of Write.
func (s *step) finish(ctx context.Context, res store.BatchResult) (runtime.Object, error) {
	if res.Err != nil {
		return nil, s.failed(res.Err)
	}
	op := res.Result.Ops[0]
	switch s.op.Kind {
	case store.Check:
		return s.object(ctx, op.Cur)
	case store.Delete:
		obj, err := s.object(ctx, op.Prev)
		if err != nil {
			return nil, err
		}
		return shallow(obj, version(res.Result.Rev)), nil
	}
	obj, err := s.form.decode(s.data.Bytes(), s.form.newFunc(), version(op.Cur.Rev))
	if err != nil {
		return nil, err
	}
	return s.r.k.hang(op.Cur, s.form, obj).obj, nil
}

func (s *step) object(ctx context.Context, kv *store.KV) (runtime.Object, error) {
	d, err := s.r.decoded(ctx, kv)
	if err != nil {
		return nil, readError(err)
	}
	return d.obj, nil
}

func (s *step) failed(err error) error {
	err = backendError(s.op.Key, err)
	conflict, ok := err.(*store.ConflictError)
	switch {
	case !ok:
		return err
	case s.op.Expect == store.Absent:
		return storage.NewKeyExistsError(s.op.Key, 0)
	case conflict.Current == nil:
		return storage.NewKeyNotFoundError(s.op.Key, 0)
	}
	return storage.NewResourceVersionConflictsError(s.op.Key, int64(version(conflict.Current.Rev)))
}
