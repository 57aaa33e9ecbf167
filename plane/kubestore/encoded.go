package kubestore

import (
	"bytes"
	"io"
	"sync"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// encodedOnce is a shared object in a watch event. Every encoder that meets
// it encodes it once, for all watchers.
type encodedOnce struct {
	obj runtime.Object // shared, never changed

	mu    sync.Mutex // guards what follows
	bytes map[runtime.Identifier]*encoding
	own   runtime.Object // for GetObjectMeta
}

var (
	_ runtime.CacheableObject   = (*encodedOnce)(nil)
	_ metav1.ObjectMetaAccessor = (*encodedOnce)(nil)
)

// encoding is what one encoder made of the object.
type encoding struct {
	once  sync.Once
	bytes []byte
	err   error
}

// CacheEncode implements runtime.CacheableObject.
func (e *encodedOnce) CacheEncode(id runtime.Identifier, encode func(runtime.Object, io.Writer) error, w io.Writer) error {
	enc := e.encoding(id)
	enc.once.Do(func() {
		var b bytes.Buffer
		// An encoder may set the kind of what it encodes.
		enc.err = encode(e.GetObject(), &b)
		enc.bytes = bytes.Clone(b.Bytes()) // without the slack
	})
	if enc.err != nil {
		return enc.err
	}
	if s, ok := w.(runtime.Splice); ok {
		s.Splice(enc.bytes)
		return nil
	}
	_, err := w.Write(enc.bytes)
	return err
}

func (e *encodedOnce) encoding(id runtime.Identifier) *encoding {
	e.mu.Lock()
	defer e.mu.Unlock()
	enc := e.bytes[id]
	if enc == nil {
		if e.bytes == nil {
			e.bytes = make(map[runtime.Identifier]*encoding, 1)
		}
		enc = new(encoding)
		e.bytes[id] = enc
	}
	return enc
}

// GetObject implements runtime.CacheableObject: the caller owns the result.
func (e *encodedOnce) GetObject() runtime.Object { return e.obj.DeepCopyObject() }

// GetObjectKind implements runtime.Object.
func (e *encodedOnce) GetObjectKind() schema.ObjectKind { return e.meta().GetObjectKind() }

// DeepCopyObject implements runtime.Object. The copy encodes for itself.
func (e *encodedOnce) DeepCopyObject() runtime.Object { return &encodedOnce{obj: e.GetObject()} }

// GetObjectMeta implements metav1.ObjectMetaAccessor. What is set in it is
// not encoded.
func (e *encodedOnce) GetObjectMeta() metav1.Object {
	m, err := meta.Accessor(e.meta())
	if err != nil {
		return nil
	}
	return m
}

// meta is a copy of the object, so that nobody can reach the shared one.
func (e *encodedOnce) meta() runtime.Object {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.own == nil {
		e.own = e.GetObject()
	}
	return e.own
}
