package kubestore

import (
	"errors"
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/apiserver/pkg/storage"
)

func TestWriteDoesEachThatItCan(t *testing.T) {
	k, _, s := podStorage(t, Config{})
	ctx := t.Context()
	stale := createPod(t, s, newPod("stale", ""))
	updatePod(t, s, stale, func(p *corev1.Pod) { p.Labels["n"] = "1" })
	gone := createPod(t, s, newPod("gone", ""))
	if err := s.Delete(ctx, podKey(gone), &corev1.Pod{}, nil, storage.ValidateAllObjectFunc, nil, storage.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	createPod(t, s, newPod("kept", ""))
	createPod(t, s, newPod("dropped", ""))
	view := k.View()
	old := func(name string) *corev1.Pod {
		obj, _ := view.Get(podResource, "default", name)
		return obj.(*corev1.Pod)
	}
	changed := old("kept").DeepCopy()
	changed.Labels["n"] = "2"
	from := view.Revision()
	rows := []struct {
		name  string
		write Write
		err   func(error) bool
		wrote bool
	}{
		{"create", Write{Resource: podResource, Object: newPod("new", "")}, nil, true},
		{"create what exists", Write{Resource: podResource, Object: newPod("kept", "")}, storage.IsExist, false},
		{"update", Write{Resource: podResource, Object: changed, Old: old("kept")}, nil, true},
		{"update again from before", Write{Resource: podResource, Object: changed.DeepCopy(), Old: old("kept")}, storage.IsConflict, false},
		{"update without a change", Write{Resource: podResource, Object: old("dropped").DeepCopy(), Old: old("dropped")}, nil, false},
		{"delete", Write{Resource: podResource, Old: old("dropped")}, nil, true},
		{"delete an old version", Write{Resource: podResource, Old: stale}, storage.IsConflict, false},
		{"update what is gone", Write{Resource: podResource, Object: gone.DeepCopy(), Old: gone}, storage.IsNotFound, false},
		{"old without version", Write{Resource: podResource, Old: newPod("kept", "")}, storage.IsInvalidObj, false},
		{"neither", Write{Resource: podResource}, func(err error) bool { return err != nil }, false},
		{"no name", Write{Resource: podResource, Object: newPod("", "")}, func(err error) bool { return err != nil }, false},
		{"name that leaves the resource", Write{Resource: podResource, Object: newPod("../secrets/x", "")}, func(err error) bool { return err != nil }, false},
		{"unknown resource", Write{Resource: schema.GroupResource{Resource: "moons"}, Object: newPod("m", "")},
			func(err error) bool { var e *NotServedError; return errors.As(err, &e) }, false},
	}
	writes := make([]Write, len(rows))
	for i, r := range rows {
		writes[i] = r.write
	}
	rev := from
	for i, got := range k.Write(ctx, writes) {
		r := rows[i]
		if r.err != nil {
			if !r.err(got.Err) || got.Object != nil {
				t.Errorf("%s: got %v and object %v, want another error", r.name, got.Err, got.Object)
			}
			continue
		}
		if got.Err != nil {
			t.Errorf("%s: got %v, want no error", r.name, got.Err)
			continue
		}
		if r.wrote {
			rev++
			if rv, _ := versioner.ObjectResourceVersion(got.Object); rv != rev {
				t.Errorf("%s: got version %d, want %d", r.name, rv, rev)
			}
		}
	}
	if got := k.View().Revision(); got != rev {
		t.Errorf("got revision %d after all, want %d", got, rev)
	}
	events, err := k.Watch(ctx, podResource, from)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for len(got) < 3 {
		for _, e := range <-events {
			got = append(got, fmt.Sprintf("%s %s %v", e.Type, e.Object.(*corev1.Pod).Name, e.Old != nil))
		}
	}
	if want := "[ADDED new false MODIFIED kept true DELETED dropped true]"; fmt.Sprint(got) != want {
		t.Errorf("got %v, want %s", got, want)
	}
}

func TestWriteExpires(t *testing.T) {
	k, _, _ := podStorage(t, Config{})
	events, err := k.Watch(t.Context(), podResource, k.View().Revision())
	if err != nil {
		t.Fatal(err)
	}
	if err := k.Write(t.Context(), []Write{{Resource: podResource, Object: newPod("brief", ""), TTL: time.Millisecond}})[0].Err; err != nil {
		t.Fatal(err)
	}
	for seen := ""; seen != string(watch.Added)+string(watch.Deleted); {
		for _, e := range <-events {
			seen += string(e.Type)
		}
	}
}
