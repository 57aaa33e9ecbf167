package kubestore

import (
	"bytes"
	"context"
	"fmt"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/storage"
	"k8s.io/apiserver/pkg/storage/value"
)

// form is how the objects of a resource become bytes and back. What was
// decoded by one form is not served by another.
type form struct {
	codec       runtime.Codec
	transformer value.Transformer // nil: none
	newFunc     func() runtime.Object
	trigger     storage.IndexerFunc // nil: none
}

// transformError says that the transformer refused a stored value.
type transformError struct{ err error }

func (e *transformError) Error() string { return e.err.Error() }
func (e *transformError) Unwrap() error { return e.err }

// plain is what the codec made of the object, before encryption. stale says
// that it should be written again, with the current key.
func (f *form) plain(ctx context.Context, key string, stored []byte) (data []byte, stale bool, err error) {
	if f.transformer == nil {
		return stored, false, nil
	}
	data, stale, err = f.transformer.TransformFromStorage(ctx, stored, value.DefaultContext(key))
	if err != nil {
		return nil, false, &transformError{err}
	}
	return data, stale, nil
}

// seal is the reverse of plain.
func (f *form) seal(ctx context.Context, key string, data []byte) ([]byte, error) {
	if f.transformer == nil {
		return data, nil
	}
	sealed, err := f.transformer.TransformToStorage(ctx, data, value.DefaultContext(key))
	if err != nil {
		return nil, storage.NewInternalError(err)
	}
	return sealed, nil
}

// decode makes an object of what plain returned. The object gets the resource
// version, if it can have one.
func (f *form) decode(data []byte, into runtime.Object, version uint64) (runtime.Object, error) {
	obj, _, err := f.codec.Decode(data, nil, into)
	if err != nil {
		return nil, err
	}
	// An object without metadata is still an object.
	_ = versioner.UpdateObject(obj, version)
	return obj, nil
}

// buffer is the place where an object is encoded. What it holds is valid
// until it goes back to its pool.
type buffer struct {
	bytes.Buffer
	alloc runtime.Allocator
}

// maxPooled keeps one huge object from staying in the pool for ever.
const maxPooled = 256 << 10

func (k *K) buffer() *buffer { return k.buffers.Get().(*buffer) }

func (k *K) release(b *buffer) {
	if b.Cap() > maxPooled {
		return
	}
	b.Reset()
	k.buffers.Put(b)
}

// encode writes the object as it is stored into b: without resource version
// and self link, which it loses here.
func (f *form) encode(b *buffer, obj runtime.Object) error {
	if err := versioner.PrepareObjectForStorage(obj); err != nil {
		return fmt.Errorf("prepare object for storage: %w", err)
	}
	if enc, ok := f.codec.(runtime.EncoderWithAllocator); ok {
		return enc.EncodeWithAllocator(obj, &b.Buffer, &b.alloc)
	}
	return f.codec.Encode(obj, &b.Buffer)
}

// versioner reads and writes resource versions; it has no state.
var versioner storage.APIObjectVersioner
