package wasm

import (
	"container/list"
	"context"

	"copepod/registry"
	"copepod/wasmrt"
)

// loaded is a module that containers share. It is read and compiled once, and
// stays while somebody uses it, and for a while after: a container that crashes
// or a deployment that rolls needs it again.
type loaded struct {
	digest registry.Digest
	ready  chan struct{} // closed when module or err is set
	module *wasmrt.Module
	err    error

	users int           // guarded by Runtime.mu
	idle  *list.Element // in Runtime.idle while nobody uses it; guarded by Runtime.mu
}

// maxIdle is how many modules stay loaded that nobody uses.
const maxIdle = 8

// acquire gives the module of an image, loaded once for all that use it.
func (r *Runtime) acquire(ctx context.Context, d registry.Digest) (*loaded, error) {
	r.mu.Lock()
	l := r.modules[d]
	first := l == nil
	if first {
		l = &loaded{digest: d, ready: make(chan struct{})}
		r.modules[d] = l
	}
	l.users++
	if l.idle != nil {
		r.idle.Remove(l.idle)
		l.idle = nil
	}
	r.mu.Unlock()
	if first {
		go func() { // the first user may give up; the others still wait
			l.module, l.err = r.load(context.WithoutCancel(ctx), d)
			if l.err != nil {
				r.forget(l) // the next one tries again
			}
			close(l.ready)
		}()
	}
	select {
	case <-l.ready:
	case <-ctx.Done():
		r.release(l)
		return nil, ctx.Err()
	}
	if l.err != nil {
		r.release(l)
		return nil, l.err
	}
	return l, nil
}

func (r *Runtime) load(ctx context.Context, d registry.Digest) (*wasmrt.Module, error) {
	code, err := r.cfg.Images.Module(ctx, d)
	if err != nil {
		return nil, named(err)
	}
	return r.cfg.Host.Load(ctx, code)
}

func (r *Runtime) forget(l *loaded) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.modules[l.digest] == l {
		delete(r.modules, l.digest)
	}
	if l.idle != nil {
		r.idle.Remove(l.idle)
		l.idle = nil
	}
}

// release gives a module back. The one that nobody has used for the longest is
// closed when too many are idle.
func (r *Runtime) release(l *loaded) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if l.users--; l.users > 0 || r.modules[l.digest] != l {
		return
	}
	l.idle = r.idle.PushBack(l)
	if r.idle.Len() <= maxIdle {
		return
	}
	oldest := r.idle.Remove(r.idle.Front()).(*loaded)
	oldest.idle = nil
	delete(r.modules, oldest.digest)
	go r.close(oldest)
}

// close frees a module once it is loaded.
func (r *Runtime) close(l *loaded) {
	<-l.ready
	if l.module == nil {
		return
	}
	if err := l.module.Close(); err != nil {
		r.cfg.Log.Warn("module not closed", "image", l.digest, "err", err)
	}
}
