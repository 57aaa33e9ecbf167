package objects

import (
	"context"
	"errors"
	"sync"
	"time"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
)

// entry is one object that is held.
type entry struct {
	store   *Store
	ref     Ref
	holders map[types.UID]struct{} // guarded by store.mu
	stop    context.CancelFunc     // guarded by store.mu
	known   chan struct{}          // closed when the first answer is there

	mu  sync.Mutex // guards what follows
	obj metav1.Object
	err error
}

func (e *entry) value() (metav1.Object, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.obj, e.err
}

// recall takes the object from the cache, if nothing is known of it. Nobody is
// told: who asks is still waiting.
func (e *entry) recall() {
	if e.store.cfg.Cache == nil {
		return
	}
	obj, ok := e.store.cfg.Cache.Load(e.ref)
	e.mu.Lock()
	defer e.mu.Unlock()
	if ok && e.obj == nil && e.err == nil {
		e.obj = obj
		close(e.known)
	}
}

// learn is set for what the API says.
func (e *entry) learn(obj metav1.Object, err error) {
	if e.store.cfg.Cache != nil {
		e.store.cfg.Cache.Save(e.ref, obj)
	}
	e.set(obj, err)
}

// set takes an answer and tells the holders if it is news.
func (e *entry) set(obj metav1.Object, err error) {
	e.mu.Lock()
	first := e.obj == nil && e.err == nil
	same := e.obj != nil && obj != nil && e.obj.GetResourceVersion() == obj.GetResourceVersion() ||
		e.err != nil && err != nil
	e.obj, e.err = obj, err
	e.mu.Unlock()
	if first {
		close(e.known)
	}
	if !first && !same {
		e.store.changed(e)
	}
}

// watch keeps the entry as the API has it until ctx ends. It waits between
// tries only after one that failed.
func (e *entry) watch(ctx context.Context) {
	const least, most = 200 * time.Millisecond, 30 * time.Second
	wait := least
	for ctx.Err() == nil {
		begin := time.Now()
		err := e.follow(ctx)
		if ctx.Err() != nil {
			return
		}
		if err == nil || time.Since(begin) > time.Minute {
			wait = least
		}
		if err != nil {
			e.store.cfg.Log.Debug("object watch broke", "kind", e.ref.Kind, "namespace", e.ref.Namespace, "name", e.ref.Name, "err", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
		wait = min(2*wait, most)
	}
}

// follow reads the object and then its changes, until the stream ends.
func (e *entry) follow(ctx context.Context) error {
	list, err := e.list(ctx)
	if err != nil {
		if _, known := e.value(); known != nil || e.unknown() {
			e.set(nil, err) // an object that we have stays as we know it
		}
		return err
	}
	if list.obj != nil {
		e.learn(list.obj, nil)
	} else {
		e.learn(nil, e.notFound())
	}
	w, err := e.open(ctx, list.version)
	if err != nil {
		return err
	}
	defer w.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case event, ok := <-w.ResultChan():
			if !ok {
				return nil
			}
			if err := e.apply(event); err != nil {
				return err
			}
		}
	}
}

func (e *entry) unknown() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.obj == nil && e.err == nil
}

func (e *entry) notFound() error {
	return apierrors.NewNotFound(v1.Resource(string(e.ref.Kind)+"s"), e.ref.Name)
}

func (e *entry) apply(event watch.Event) error {
	switch event.Type {
	case watch.Added, watch.Modified:
		if obj, ok := event.Object.(metav1.Object); ok && obj.GetName() == e.ref.Name {
			obj.SetManagedFields(nil)
			e.learn(obj, nil)
		}
	case watch.Deleted:
		if obj, ok := event.Object.(metav1.Object); ok && obj.GetName() == e.ref.Name {
			e.learn(nil, e.notFound())
		}
	case watch.Error:
		return errors.Join(errExpired, apierrors.FromObject(event.Object))
	}
	return nil
}

var errExpired = errors.New("the watch must begin anew")

// listed is what a list of one object found, as of a version of the store.
type listed struct {
	obj     metav1.Object // nil: not there
	version string
}

// one selects the object alone: a node may not list more of a namespace.
func (e *entry) one(version string) metav1.ListOptions {
	return metav1.ListOptions{
		FieldSelector:   fields.OneTermEqualSelector(metav1.ObjectNameField, e.ref.Name).String(),
		ResourceVersion: version,
	}
}

func (e *entry) list(ctx context.Context) (listed, error) {
	if e.ref.Kind == Secret {
		l, err := e.store.cfg.Client.Secrets(e.ref.Namespace).List(ctx, e.one(""))
		if err != nil {
			return listed{}, err
		}
		found := listed{version: l.ResourceVersion}
		for i := range l.Items {
			if l.Items[i].Name == e.ref.Name {
				l.Items[i].ManagedFields = nil
				found.obj = &l.Items[i]
			}
		}
		return found, nil
	}
	l, err := e.store.cfg.Client.ConfigMaps(e.ref.Namespace).List(ctx, e.one(""))
	if err != nil {
		return listed{}, err
	}
	found := listed{version: l.ResourceVersion}
	for i := range l.Items {
		if l.Items[i].Name == e.ref.Name {
			l.Items[i].ManagedFields = nil
			found.obj = &l.Items[i]
		}
	}
	return found, nil
}

func (e *entry) open(ctx context.Context, version string) (watch.Interface, error) {
	if e.ref.Kind == Secret {
		return e.store.cfg.Client.Secrets(e.ref.Namespace).Watch(ctx, e.one(version))
	}
	return e.store.cfg.Client.ConfigMaps(e.ref.Namespace).Watch(ctx, e.one(version))
}
