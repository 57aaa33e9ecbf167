package kubestore

import (
	"bytes"
	"context"
	"fmt"
	"reflect"
	"time"

	"copepod/plane/store"

	"k8s.io/apimachinery/pkg/conversion"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/storage"
)

// Create implements storage.Interface. Concurrent calls share log entries.
func (r *resource) Create(ctx context.Context, name string, obj, out runtime.Object, ttl uint64) error {
	key, err := r.key(name, false)
	if err != nil {
		return err
	}
	if rv, err := versioner.ObjectResourceVersion(obj); err == nil && rv != 0 {
		return storage.ErrResourceVersionSetOnCreate
	}
	b := r.k.buffer()
	defer r.k.release(b)
	f := r.form.Load()
	if err := f.encode(b, obj); err != nil {
		return err
	}
	kv, err := r.put(ctx, f, key, b.Bytes(), store.Absent, ttl)
	if _, exists := err.(*store.ConflictError); exists {
		return storage.NewKeyExistsError(key, 0)
	}
	if err != nil {
		return err
	}
	if out == nil {
		return nil
	}
	return r.written(ctx, f, kv, b.Bytes(), out)
}

// put writes the encoded object. The error is a *store.ConflictError or for
// the caller.
func (r *resource) put(ctx context.Context, f *form, key string, data []byte, expect store.Expect, ttl uint64) (*store.KV, error) {
	sealed, err := f.seal(ctx, key, data)
	if err != nil {
		return nil, err
	}
	op := store.Op{Kind: store.Put, Key: key, Value: sealed, Expect: expect, TTL: seconds(ttl)}
	res, err := r.k.backend.Txn(ctx, op)
	if err != nil {
		return nil, backendError(key, err)
	}
	return res.Ops[0].Cur, nil
}

// maxTTL keeps a duration from overflowing.
const maxTTL = uint64(100 * 365 * 24 * 60 * 60)

func seconds(ttl uint64) time.Duration { return time.Duration(min(ttl, maxTTL)) * time.Second }

// written gives the caller what was written, as it will be read: what the
// codec does not keep is gone from it.
func (r *resource) written(ctx context.Context, f *form, kv *store.KV, data []byte, out runtime.Object) error {
	obj, err := f.decode(data, f.newFunc(), version(kv.Rev))
	if err != nil {
		return err
	}
	return r.copyInto(ctx, out, r.k.hang(kv, f, obj), kv)
}

// state is what an update or a deletion starts from.
type state struct {
	kv  *store.KV // nil: absent
	obj runtime.Object
	// current says that it was the latest state at some time after the
	// call began. Errors that depend on it are only true then.
	current bool
}

// latest returns what is stored under key, and was at some time after the call.
func (r *resource) latest(ctx context.Context, key string) (*store.KV, error) {
	if err := r.barrier(ctx, key); err != nil {
		return nil, err
	}
	return r.k.backend.Snapshot().Get(key), nil
}

func sameVersion(a, b *store.KV) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.Rev == b.Rev
}

// stateOf makes a private copy of what kv holds, a zero object like the
// caller's if that is nothing.
func (r *resource) stateOf(ctx context.Context, kv *store.KV, like reflect.Value) (*state, error) {
	if kv == nil {
		obj, err := zeroLike(like)
		return &state{obj: obj}, err
	}
	d, err := r.decoded(ctx, kv)
	if err != nil {
		return nil, readError(err)
	}
	return &state{kv: kv, obj: d.obj.DeepCopyObject()}, nil
}

func zeroLike(like reflect.Value) (runtime.Object, error) {
	if u, ok := like.Addr().Interface().(runtime.Unstructured); ok {
		return u.NewEmptyInstance(), nil
	}
	obj, ok := reflect.New(like.Type()).Interface().(runtime.Object)
	if !ok {
		return nil, fmt.Errorf("%s is not an object", like.Type())
	}
	return obj, nil
}

// GuaranteedUpdate implements storage.Interface. The suggestion is not used:
// the state that is known here costs no more and is no older.
func (r *resource) GuaranteedUpdate(ctx context.Context, name string, out runtime.Object, ignoreNotFound bool,
	pre *storage.Preconditions, try storage.UpdateFunc, _ runtime.Object) error {
	key, err := r.key(name, false)
	if err != nil {
		return err
	}
	like, err := conversion.EnforcePtr(out)
	if err != nil {
		return fmt.Errorf("unable to convert output object to pointer: %w", err)
	}
	s, err := r.stateOf(ctx, r.k.backend.Snapshot().Get(key), like)
	if err != nil {
		return err
	}
	u := &update{r: r, key: key, ignoreNotFound: ignoreNotFound, pre: pre, try: try}
	for {
		var next *store.KV
		switch outcome := u.attempt(ctx, s, out).(type) {
		case *unsure:
			if next, err = s.kv, nil; !s.current {
				next, err = r.latest(ctx, key)
			}
			if err != nil {
				return err
			}
			if sameVersion(next, s.kv) {
				return outcome.settle(ctx, r, s.kv, out)
			}
		case *store.ConflictError:
			next = outcome.Current
		default:
			return outcome
		}
		if s, err = r.stateOf(ctx, next, like); err != nil {
			return err
		}
		s.current = true
	}
}

// unsure is the outcome of an attempt on a state that it takes for the latest.
type unsure struct{ err error } // nil: nothing changes

func (u *unsure) Error() string { return fmt.Sprintf("unless there is a later state: %v", u.err) }

// settle is the outcome once kv is known to be the latest.
func (u *unsure) settle(ctx context.Context, r *resource, kv *store.KV, out runtime.Object) error {
	if u.err != nil {
		return u.err
	}
	return r.read(ctx, kv, out)
}

// update is one call of GuaranteedUpdate.
type update struct {
	r              *resource
	key            string
	ignoreNotFound bool
	pre            *storage.Preconditions
	try            storage.UpdateFunc
}

// attempt tries the update on a state. The outcome may be *unsure or a
// *store.ConflictError; anything else is final.
func (u *update) attempt(ctx context.Context, s *state, out runtime.Object) error {
	ret, ttl, err := u.change(s)
	if err != nil {
		return &unsure{err}
	}
	b := u.r.k.buffer()
	defer u.r.k.release(b)
	f := u.r.form.Load()
	if err := f.encode(b, ret); err != nil {
		return err
	}
	expect := store.Absent
	if s.kv != nil {
		expect = store.Exact(s.kv.Rev)
		data, stale, err := f.plain(ctx, u.key, s.kv.Value)
		if err != nil {
			return readError(err)
		}
		if !stale && bytes.Equal(data, b.Bytes()) {
			return &unsure{}
		}
	}
	kv, err := u.r.put(ctx, f, u.key, b.Bytes(), expect, ttl)
	if err != nil {
		return err
	}
	return u.r.written(ctx, f, kv, b.Bytes(), out)
}

// change lets the caller make the new object.
func (u *update) change(s *state) (runtime.Object, uint64, error) {
	if s.kv == nil && !u.ignoreNotFound {
		return nil, 0, storage.NewKeyNotFoundError(u.key, 0)
	}
	if err := u.pre.Check(u.key, s.obj); err != nil {
		return nil, 0, err
	}
	ret, ttl, err := u.try(s.obj, storage.ResponseMeta{ResourceVersion: stateVersion(s)})
	if err != nil || ttl == nil {
		return ret, 0, err
	}
	return ret, *ttl, nil
}

func stateVersion(s *state) uint64 {
	if s.kv == nil {
		return 0
	}
	return version(s.kv.Rev)
}
