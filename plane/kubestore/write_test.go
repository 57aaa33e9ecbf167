package kubestore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"

	"copepod/plane/store"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/storage"
	"k8s.io/apiserver/pkg/storage/value"
)

// follower shows an old state until it is asked for the latest.
type follower struct {
	*store.Store
	old atomic.Pointer[store.Snapshot]
}

func (f *follower) Snapshot() *store.Snapshot {
	if s := f.old.Load(); s != nil {
		return s
	}
	return f.Store.Snapshot()
}

func (f *follower) ReadIndex(ctx context.Context) error {
	f.old.Store(nil)
	return f.Store.ReadIndex(ctx)
}

func newFollower(t *testing.T) (*follower, storage.Interface) {
	t.Helper()
	f := &follower{Store: openStore(t)}
	k, err := New(f, Config{})
	if err != nil {
		t.Fatal(err)
	}
	s, destroy := decoratePods(t, k)
	t.Cleanup(destroy)
	return f, s
}

func TestOldStateIsNotTrusted(t *testing.T) {
	errOld := errors.New("this is the old one")
	for _, row := range []struct {
		name string
		call func(t *testing.T, s storage.Interface, pod *corev1.Pod) error
		want func(error) bool
	}{
		{"get", func(t *testing.T, s storage.Interface, pod *corev1.Pod) error {
			got := &corev1.Pod{}
			err := s.Get(t.Context(), podKey(pod), storage.GetOptions{}, got)
			if got.Labels["n"] != "new" {
				t.Errorf("got %v, want the new pod", got.Labels)
			}
			return err
		}, nil},
		{"list at a version that is not here yet", func(t *testing.T, s storage.Interface, pod *corev1.Pod) error {
			list := &corev1.PodList{}
			err := s.GetList(t.Context(), "/core/pods", storage.ListOptions{
				Recursive: true, Predicate: storage.Everything, ResourceVersion: pod.ResourceVersion,
			}, list)
			if len(list.Items) != 1 || list.Items[0].Labels["n"] != "new" {
				t.Errorf("got %v, want the new pod", list.Items)
			}
			return err
		}, nil},
		{"update that the old state denies", func(t *testing.T, s storage.Interface, pod *corev1.Pod) error {
			return s.GuaranteedUpdate(t.Context(), podKey(pod), &corev1.Pod{}, false, nil,
				storage.SimpleUpdate(func(obj runtime.Object) (runtime.Object, error) {
					if obj.(*corev1.Pod).Labels["n"] != "new" {
						return nil, errOld
					}
					return obj, nil
				}), nil)
		}, nil},
		{"update that the new state denies", func(t *testing.T, s storage.Interface, pod *corev1.Pod) error {
			return s.GuaranteedUpdate(t.Context(), podKey(pod), &corev1.Pod{}, false,
				&storage.Preconditions{ResourceVersion: ptr("1")}, nil, nil)
		}, storage.IsInvalidObj},
		{"update to what the old state is", func(t *testing.T, s storage.Interface, pod *corev1.Pod) error {
			out := &corev1.Pod{}
			err := s.GuaranteedUpdate(t.Context(), podKey(pod), out, false, nil,
				storage.SimpleUpdate(func(obj runtime.Object) (runtime.Object, error) {
					delete(obj.(*corev1.Pod).Labels, "n")
					return obj, nil
				}), nil)
			if out.ResourceVersion == pod.ResourceVersion {
				t.Errorf("got version %s again, want a new one", out.ResourceVersion)
			}
			return err
		}, nil},
		{"deletion that the old state denies", func(t *testing.T, s storage.Interface, pod *corev1.Pod) error {
			return s.Delete(t.Context(), podKey(pod), &corev1.Pod{}, nil, func(_ context.Context, obj runtime.Object) error {
				if obj.(*corev1.Pod).Labels["n"] != "new" {
					return errOld
				}
				return nil
			}, nil, storage.DeleteOptions{})
		}, nil},
	} {
		t.Run(row.name, func(t *testing.T) {
			f, s := newFollower(t)
			pod := createPod(t, s, newPod("a", ""))
			old := f.Store.Snapshot()
			pod = updatePod(t, s, pod, func(p *corev1.Pod) { p.Labels["n"] = "new" })
			f.old.Store(old)
			err := row.call(t, s, pod)
			if row.want == nil && err != nil || row.want != nil && !row.want(err) {
				t.Errorf("got %v, want it judged by the new state", err)
			}
		})
	}
}

func ptr[T any](v T) *T { return &v }

func TestAbsenceOnAnOldStateIsNotTrusted(t *testing.T) {
	f, s := newFollower(t)
	f.old.Store(f.Store.Snapshot())
	pod := createPod(t, s, newPod("a", ""))
	if err := s.Delete(t.Context(), podKey(pod), &corev1.Pod{}, nil, storage.ValidateAllObjectFunc, nil, storage.DeleteOptions{}); err != nil {
		t.Errorf("delete: got %v, want no error", err)
	}
	if err := s.Delete(t.Context(), podKey(pod), &corev1.Pod{}, nil, storage.ValidateAllObjectFunc, nil, storage.DeleteOptions{}); !storage.IsNotFound(err) {
		t.Errorf("delete again: got %v, want not found", err)
	}
}

// failing answers writes with an error.
type failing struct {
	*store.Store
	err error
}

func (f *failing) Txn(context.Context, ...store.Op) (store.Result, error) {
	return store.Result{}, f.err
}

func TestStoreErrorsInTheWordsOfKubernetes(t *testing.T) {
	f := &failing{Store: openStore(t)}
	k, err := New(f, Config{})
	if err != nil {
		t.Fatal(err)
	}
	s, destroy := decoratePods(t, k)
	t.Cleanup(destroy)
	for _, row := range []struct {
		name string
		err  error
		want func(error) bool
	}{
		{"another member leads", &store.NotLeaderError{ID: "b", Address: "b:1"}, storage.IsUnreachable},
		{"the disk is full", fmt.Errorf("%w: no space left on device", store.ErrUnavailable), apierrors.IsServiceUnavailable},
		{"the caller's time is over", context.DeadlineExceeded, storage.IsRequestTimeout},
		{"too large", fmt.Errorf("%w: 17 MiB", store.ErrInvalid), apierrors.IsRequestEntityTooLargeError},
		{"the caller has gone", context.Canceled, func(err error) bool { return errors.Is(err, context.Canceled) }},
	} {
		f.err = row.err
		pod := newPod("a", "")
		if err := s.Create(t.Context(), podKey(pod), pod, nil, 0); !row.want(err) {
			t.Errorf("%s: got %v (%T), want another error", row.name, err, err)
		}
	}
}

// bound seals values with their key.
type bound struct{}

func (bound) TransformToStorage(_ context.Context, data []byte, c value.Context) ([]byte, error) {
	return append(append(c.AuthenticatedData(), 0), data...), nil
}

func (bound) TransformFromStorage(_ context.Context, data []byte, c value.Context) ([]byte, bool, error) {
	rest, ok := bytes.CutPrefix(data, append(c.AuthenticatedData(), 0))
	if !ok {
		return nil, false, errors.New("sealed for another key")
	}
	return rest, false, nil
}

func TestSealedValueIsBoundToItsKey(t *testing.T) {
	k, st, s := podStorage(t, Config{Transformer: func(gr schema.GroupResource) value.Transformer {
		if gr != podResource {
			t.Errorf("got resource %s, want pods", gr)
		}
		return bound{}
	}})
	pod := createPod(t, s, newPod("a", ""))
	updatePod(t, s, pod, func(p *corev1.Pod) { p.Labels["n"] = "1" })
	sealed := st.Snapshot().Get("/registry/core/pods/default/a").Value
	if !bytes.HasPrefix(sealed, []byte("/registry/core/pods/default/a\x00k8s\x00")) {
		t.Errorf("got %q, want it sealed with its key around the encoding of Kubernetes", sealed[:40])
	}
	for _, name := range []string{"a", "b"} {
		if _, err := st.Txn(t.Context(), store.Op{Kind: store.Put, Key: "/registry/core/pods/default/" + name, Value: sealed}); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Get(t.Context(), "/core/pods/default/a", storage.GetOptions{}, &corev1.Pod{}); err != nil {
		t.Errorf("under its key: got %v, want no error", err)
	}
	if err := s.Get(t.Context(), "/core/pods/default/b", storage.GetOptions{}, &corev1.Pod{}); err == nil {
		t.Error("under another key: got no error, want one")
	}
	names := 0
	for range k.View().List(podResource, "default") {
		names++
	}
	if _, ok := k.View().Get(podResource, "default", "b"); ok || names != 1 {
		t.Errorf("view: got %d pods, want the one that can be read", names)
	}
}

func TestConcurrentUpdatesAllCount(t *testing.T) {
	_, _, s := podStorage(t, Config{})
	pod := createPod(t, s, newPod("a", ""))
	const callers, each = 8, 20
	done := make(chan struct{})
	for range callers {
		go func() {
			defer func() { done <- struct{}{} }()
			for range each {
				updatePod(t, s, pod, func(p *corev1.Pod) { p.Generation++ })
			}
		}()
	}
	for range callers {
		<-done
	}
	got := &corev1.Pod{}
	if err := s.Get(t.Context(), podKey(pod), storage.GetOptions{}, got); err != nil || got.Generation != callers*each {
		t.Errorf("got generation %d (%v), want %d", got.Generation, err, callers*each)
	}
}
