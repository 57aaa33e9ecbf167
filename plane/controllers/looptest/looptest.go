// Package looptest is a small in-memory cluster API for tests of controllers and
// the scheduler. It keeps the rules that controllers lean on: revisions and
// conflicts, spec and status apart, generations, generated names, finalizers,
// graceful deletion of pods, propagation policies, terminating namespaces,
// snapshots and ordered watches. It has no admission, defaulting or validation.
//
//	c := looptest.New()
//	c.Create(ctx, &appsv1.Deployment{…})
package looptest

import (
	"context"
	"fmt"
	"iter"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tidwall/btree"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"

	"copepod/plane/controllers/api"
)

// API is the cluster. It implements api.Client.
type API struct {
	// Refuse, when set before use, may fail a write: verb is create, update,
	// delete or bind.
	Refuse func(verb string, o api.Object) error

	mu       sync.Mutex // guards what follows
	rev      uint64
	serial   int
	entries  int
	objects  map[schema.GroupResource]*table
	history  map[schema.GroupResource][]api.Event
	watchers map[schema.GroupResource]map[*watcher]struct{}
}

type table = btree.Map[string, api.Object]

// New is an empty cluster.
func New() *API {
	return &API{
		rev: 1, objects: map[schema.GroupResource]*table{},
		history: map[schema.GroupResource][]api.Event{}, watchers: map[schema.GroupResource]map[*watcher]struct{}{},
	}
}

// Entries is how many log entries the writes so far would have cost: a batch is
// one.
func (a *API) Entries() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.entries
}

func path(namespace, name string) string { return namespace + "/" + name }

func (a *API) table(gr schema.GroupResource) *table {
	t := a.objects[gr]
	if t == nil {
		t = &table{}
		a.objects[gr] = t
	}
	return t
}

func (a *API) get(gr schema.GroupResource, namespace, name string) (api.Object, error) {
	o, ok := a.table(gr).Get(path(namespace, name))
	if !ok {
		return nil, apierrors.NewNotFound(gr, name)
	}
	return o, nil
}

// commit stores o (or removes old when o is nil) at a new revision.
func (a *API) commit(gr schema.GroupResource, o, old api.Object) api.Object {
	a.rev++
	e := api.Event{Type: watch.Added, Object: o, Old: old, Rev: a.rev}
	switch {
	case o == nil:
		gone := old.DeepCopyObject().(api.Object)
		gone.SetResourceVersion(strconv.FormatUint(a.rev, 10))
		a.table(gr).Delete(path(old.GetNamespace(), old.GetName()))
		e.Type, e.Object = watch.Deleted, gone
	default:
		if old != nil {
			e.Type = watch.Modified
		}
		o.SetResourceVersion(strconv.FormatUint(a.rev, 10))
		a.table(gr).Set(path(o.GetNamespace(), o.GetName()), o)
	}
	a.history[gr] = append(a.history[gr], e)
	for w := range a.watchers[gr] {
		w.send(e)
	}
	return e.Object
}

// refuse asks Refuse.
func (a *API) refuse(verb string, o api.Object) error {
	if a.Refuse == nil {
		return nil
	}
	return a.Refuse(verb, o)
}

type view struct {
	objects map[schema.GroupResource]*table
	rev     uint64
}

// View is a snapshot; taking one costs a copy of a few pointers.
func (a *API) View() api.View {
	a.mu.Lock()
	defer a.mu.Unlock()
	v := view{objects: make(map[schema.GroupResource]*table, len(a.objects)), rev: a.rev}
	for gr, t := range a.objects {
		v.objects[gr] = t.Copy()
	}
	return v
}

func (v view) Revision() uint64 { return v.rev }

func (v view) Get(gr schema.GroupResource, namespace, name string) (api.Object, bool) {
	if v.objects[gr] == nil {
		return nil, false
	}
	return v.objects[gr].Get(path(namespace, name))
}

func (v view) List(gr schema.GroupResource, namespace string) iter.Seq[api.Object] {
	return func(yield func(api.Object) bool) {
		if v.objects[gr] == nil {
			return
		}
		from := ""
		if namespace != "" {
			from = namespace + "/"
		}
		v.objects[gr].Ascend(from, func(key string, o api.Object) bool {
			return strings.HasPrefix(key, from) && yield(o)
		})
	}
}

// Watch replays what happened after from and follows.
func (a *API) Watch(ctx context.Context, gr schema.GroupResource, from uint64) (<-chan []api.Event, error) {
	w := &watcher{wake: make(chan struct{}, 1)}
	a.mu.Lock()
	for _, e := range a.history[gr] {
		if e.Rev > from {
			w.send(e)
		}
	}
	if a.watchers[gr] == nil {
		a.watchers[gr] = map[*watcher]struct{}{}
	}
	a.watchers[gr][w] = struct{}{}
	a.mu.Unlock()
	out := make(chan []api.Event)
	go func() {
		defer close(out)
		w.run(ctx, out)
		a.mu.Lock()
		delete(a.watchers[gr], w)
		a.mu.Unlock()
	}()
	return out, nil
}

type watcher struct {
	wake    chan struct{}
	mu      sync.Mutex // guards pending
	pending []api.Event
}

func (w *watcher) send(e api.Event) {
	w.mu.Lock()
	w.pending = append(w.pending, e)
	w.mu.Unlock()
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

func (w *watcher) run(ctx context.Context, out chan<- []api.Event) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-w.wake:
		}
		w.mu.Lock()
		batch := w.pending
		w.pending = nil
		w.mu.Unlock()
		if len(batch) == 0 {
			continue
		}
		select {
		case <-ctx.Done():
			return
		case out <- batch:
		}
	}
}

// Get is the current state of an object, or fails the test.
func Get[T api.Object](t testing.TB, a *API, namespace, name string) T {
	t.Helper()
	var zero T
	o, ok := a.View().Get(resourceOf(zero), namespace, name)
	if !ok {
		t.Fatalf("%T %s/%s is not there", zero, namespace, name)
	}
	return o.(T)
}

// List is the objects of a namespace ("" for all) in order of name.
func List[T api.Object](a *API, namespace string) []T {
	var zero T
	var list []T
	for o := range a.View().List(resourceOf(zero), namespace) {
		list = append(list, o.(T))
	}
	return list
}

// Must fails the test on an error and gives the object its type.
func Must[T api.Object](t testing.TB) func(api.Object, error) T {
	return func(o api.Object, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return o.(T)
	}
}

var _ api.Client = (*API)(nil)

func (a *API) name(o api.Object) string {
	if o.GetName() != "" {
		return o.GetName()
	}
	serial := strconv.FormatInt(int64(a.serial), 36)
	return o.GetGenerateName() + strings.Repeat("0", max(0, 5-len(serial))) + serial
}

func equal(x, y api.Object) bool { return equality.Semantic.DeepEqual(x, y) }

func now() *metav1.Time {
	t := metav1.NewTime(time.Now())
	return &t
}

func bound(pod *corev1.Pod, node string) *corev1.Pod {
	pod.Spec.NodeName = node
	pod.Status.Conditions = append(withoutScheduled(pod.Status.Conditions), corev1.PodCondition{
		Type: corev1.PodScheduled, Status: corev1.ConditionTrue, LastTransitionTime: *now(),
	})
	return pod
}

func withoutScheduled(list []corev1.PodCondition) []corev1.PodCondition {
	var rest []corev1.PodCondition
	for _, c := range list {
		if c.Type != corev1.PodScheduled {
			rest = append(rest, c)
		}
	}
	return rest
}

func uid(serial int) types.UID { return types.UID(fmt.Sprintf("uid-%06d", serial)) }
