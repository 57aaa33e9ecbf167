package kubestore

import (
	"context"
	"fmt"
	"reflect"

	"copepod/plane/store"

	"k8s.io/apimachinery/pkg/conversion"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/storage"
)

// Delete implements storage.Interface. The suggestion is not used, see
// GuaranteedUpdate.
func (r *resource) Delete(ctx context.Context, name string, out runtime.Object, pre *storage.Preconditions,
	validate storage.ValidateObjectFunc, _ runtime.Object, opts storage.DeleteOptions) error {
	key, err := r.key(name, false)
	if err != nil {
		return err
	}
	like, err := conversion.EnforcePtr(out)
	if err != nil {
		return fmt.Errorf("unable to convert output object to pointer: %w", err)
	}
	d := &deletion{r: r, key: key, like: like, pre: pre, validate: validate,
		corrupt: opts.ExpectTransformOrDecodeError && unsafeDeletion()}
	s, err := d.stateOf(ctx, r.k.backend.Snapshot().Get(key))
	if err != nil {
		return err
	}
	for {
		var next *store.KV
		if denied := d.allowed(ctx, s); denied != nil {
			if s.current {
				return denied
			}
			if next, err = r.latest(ctx, key); err != nil {
				return err
			}
			if sameVersion(next, s.kv) {
				return denied
			}
		} else {
			rev, err := d.commit(ctx, s)
			conflict, changed := err.(*store.ConflictError)
			if err == nil {
				return d.deleted(ctx, s, rev, out)
			}
			if !changed {
				return err
			}
			next = conflict.Current
		}
		if s, err = d.stateOf(ctx, next); err != nil {
			return err
		}
		s.current = true
	}
}

// deletion is one call of Delete.
type deletion struct {
	r        *resource
	key      string
	like     reflect.Value
	pre      *storage.Preconditions
	validate storage.ValidateObjectFunc
	corrupt  bool // the object must be unreadable
}

// stateOf is the state to delete. If it must be unreadable it has no object.
func (d *deletion) stateOf(ctx context.Context, kv *store.KV) (*state, error) {
	if !d.corrupt || kv == nil {
		return d.r.stateOf(ctx, kv, d.like)
	}
	f := d.r.form.Load()
	data, _, err := f.plain(ctx, kv.Key, kv.Value)
	if err == nil {
		_, err = f.decode(data, f.newFunc(), version(kv.Rev))
	}
	if err == nil {
		return nil, storage.NewInvalidObjError(d.key, "unsafe deletion is not allowed because the object is decodable from storage")
	}
	return &state{kv: kv}, nil
}

func (d *deletion) allowed(ctx context.Context, s *state) error {
	if s.kv == nil {
		return storage.NewKeyNotFoundError(d.key, 0)
	}
	if d.pre != nil {
		if err := d.pre.Check(d.key, s.obj); err != nil {
			return err
		}
	}
	return d.validate(ctx, s.obj)
}

func (d *deletion) commit(ctx context.Context, s *state) (store.Revision, error) {
	op := store.Op{Kind: store.Delete, Key: d.key, Expect: store.Exact(s.kv.Rev)}
	res, err := d.r.k.backend.Txn(ctx, op)
	if err != nil {
		return 0, backendError(d.key, err)
	}
	return res.Rev, nil
}

// deleted gives the caller the object as it last was, with the version of the
// deletion.
func (d *deletion) deleted(ctx context.Context, s *state, rev store.Revision, out runtime.Object) error {
	if d.corrupt {
		return nil
	}
	ok, err := moveInto(out, s.obj)
	if err != nil {
		return err
	}
	if !ok {
		if err := d.r.read(ctx, s.kv, out); err != nil {
			return err
		}
	}
	_ = versioner.UpdateObject(out, version(rev)) // see decode
	return nil
}
