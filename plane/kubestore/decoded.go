package kubestore

import (
	"context"
	"sync"
	"sync/atomic"
	"weak"

	"copepod/plane/store"

	"k8s.io/apimachinery/pkg/runtime"
)

// decoded is the one decoded form of a version of a key. It is shared by all
// its readers and never changes.
type decoded struct {
	obj  runtime.Object
	size int64
	used atomic.Bool // since the warm set looked last
}

// cell is what hangs at a KV. It does not keep the object alive: a million
// objects are kept as bytes, those in use and those in the warm set decoded.
type cell struct {
	form    *form
	object  weak.Pointer[decoded]
	trigger string // value of the resource's index, which outlives the object
}

// cellOf returns what this form has hung at kv, nil if nothing.
func cellOf(kv *store.KV, f *form) *cell {
	p := kv.Derived.Load()
	if p == nil {
		return nil
	}
	if c, ok := (*p).(*cell); ok && c.form == f {
		return c
	}
	return nil
}

// decoded returns the shared object of a version. It fails with what the
// transformer (*transformError) or the codec say.
func (r *resource) decoded(ctx context.Context, kv *store.KV) (*decoded, error) {
	f := r.form.Load()
	if c := cellOf(kv, f); c != nil {
		if d := c.object.Value(); d != nil {
			if !d.used.Load() { // a shared line is only written to once
				d.used.Store(true)
			}
			return d, nil
		}
	}
	data, _, err := f.plain(ctx, kv.Key, kv.Value)
	if err != nil {
		return nil, err
	}
	obj, err := f.decode(data, f.newFunc(), version(kv.Rev))
	if err != nil {
		return nil, err
	}
	return r.k.hang(kv, f, obj), nil
}

// hang makes obj the shared object of kv, unless another already is.
func (k *K) hang(kv *store.KV, f *form, obj runtime.Object) *decoded {
	d := &decoded{obj: obj, size: decodedSize(kv)}
	c := &cell{form: f, object: weak.Make(d)}
	if f.trigger != nil {
		c.trigger = f.trigger(obj)
	}
	var slot any = c
	for {
		old := kv.Derived.Load()
		if old != nil {
			if other, ok := (*old).(*cell); ok && other.form == f {
				if first := other.object.Value(); first != nil {
					return first
				}
			}
		}
		if kv.Derived.CompareAndSwap(old, &slot) {
			k.warm.add(d)
			return d
		}
	}
}

// decodedSize estimates the memory of a decoded object: measured on pods, it
// is about five times its bytes.
func decodedSize(kv *store.KV) int64 { return 512 + 5*int64(len(kv.Value)) }

// triggerOf is the value of the resource's index for a version, without
// decoding it a second time.
func (r *resource) triggerOf(ctx context.Context, kv *store.KV) (string, error) {
	f := r.form.Load()
	if c := cellOf(kv, f); c != nil {
		return c.trigger, nil
	}
	d, err := r.decoded(ctx, kv)
	if err != nil {
		return "", err
	}
	return f.trigger(d.obj), nil
}

// warm keeps the most useful decoded objects alive, up to a budget: a clock
// that gives whatever was used since its last turn another turn.
type warm struct {
	mu     sync.Mutex // guards what follows
	budget int64
	held   int64
	ring   []*decoded // a queue that begins at head
	head   int
	count  int
}

func newWarm(budget int64) *warm {
	return &warm{budget: budget, ring: make([]*decoded, 64)}
}

// turns bounds how long one addition may look for something to let go of.
const turns = 16

func (w *warm) add(d *decoded) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.push(d)
	w.held += d.size
	for i := 0; w.held > w.budget && w.count > 0; i++ {
		oldest := w.pop()
		if i < turns && oldest.used.Swap(false) {
			w.push(oldest)
			continue
		}
		w.held -= oldest.size
	}
}

func (w *warm) push(d *decoded) {
	if w.count == len(w.ring) {
		bigger := make([]*decoded, 2*len(w.ring))
		n := copy(bigger, w.ring[w.head:])
		copy(bigger[n:], w.ring[:w.head])
		w.ring, w.head = bigger, 0
	}
	w.ring[(w.head+w.count)%len(w.ring)] = d
	w.count++
}

func (w *warm) pop() *decoded {
	d := w.ring[w.head]
	w.ring[w.head] = nil
	w.head = (w.head + 1) % len(w.ring)
	w.count--
	return d
}
