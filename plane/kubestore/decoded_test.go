package kubestore

import (
	"context"
	"fmt"
	"runtime"
	"testing"
	"weak"

	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apiserver/pkg/storage"
)

func TestReadersInTheProcessShareOneObject(t *testing.T) {
	k, _, s := podStorage(t, Config{})
	ctx := t.Context()
	events, err := k.Watch(ctx, podResource, k.View().Revision())
	if err != nil {
		t.Fatal(err)
	}
	stored := createPod(t, s, newPod("a", "node-1"))
	first, ok := k.View().Get(podResource, "default", "a")
	if !ok {
		t.Fatal("got no pod, want one")
	}
	if !apiequality.Semantic.DeepEqual(first, stored) {
		t.Errorf("got %v, want %v", first, stored)
	}
	if again, _ := k.View().Get(podResource, "default", "a"); again != first {
		t.Errorf("read again: got another object, want the same")
	}
	for obj := range k.View().List(podResource, "default") {
		if obj != first {
			t.Errorf("listed: got another object, want the same")
		}
	}
	if e := <-events; e[0].Object != first {
		t.Errorf("watched: got another object, want the same")
	}
}

func TestCallersOfTheStorageGetTheirOwnCopies(t *testing.T) {
	k, _, s := podStorage(t, Config{})
	ctx := t.Context()
	spoil := func(p *corev1.Pod) { p.Labels["app"], p.Spec.Containers[0].Name = "spoiled", "spoiled" }
	check := func(what string) {
		t.Helper()
		obj, _ := k.View().Get(podResource, "default", "a")
		if pod := obj.(*corev1.Pod); pod.Labels["app"] != "web" || pod.Spec.Containers[0].Name != "app" {
			t.Errorf("%s: got a changed object in the store, want it unchanged", what)
		}
	}
	spoil(createPod(t, s, newPod("a", "node-1")))
	check("create")
	got := &corev1.Pod{}
	if err := s.Get(ctx, "/core/pods/default/a", storage.GetOptions{}, got); err != nil {
		t.Fatal(err)
	}
	spoil(got)
	check("get")
	list := &corev1.PodList{}
	if err := s.GetList(ctx, "/core/pods", storage.ListOptions{Recursive: true, Predicate: storage.Everything}, list); err != nil {
		t.Fatal(err)
	}
	spoil(&list.Items[0])
	check("list")
	spoil(updatePod(t, s, got, func(p *corev1.Pod) { p.Labels["n"] = "1" }))
	check("update")
	w, err := s.Watch(ctx, "/core/pods", storage.ListOptions{Recursive: true, Predicate: storage.Everything})
	if err != nil {
		t.Fatal(err)
	}
	e := <-w.ResultChan()
	spoil(e.Object.(*encodedOnce).GetObject().(*corev1.Pod))
	e.Object.(*encodedOnce).GetObjectMeta().GetLabels()["app"] = "spoiled"
	check("watch")
}

func TestSharedListsAreOfTheSameContents(t *testing.T) {
	k, _, s := podStorage(t, Config{ShareLists: true})
	fill(t, k, 10, 2)
	list := &corev1.PodList{}
	if err := s.GetList(t.Context(), "/core/pods", storage.ListOptions{Recursive: true, Predicate: storage.Everything}, list); err != nil {
		t.Fatal(err)
	}
	i := 0
	for obj := range k.View().List(podResource, "") {
		shared := obj.(*corev1.Pod)
		if &list.Items[i].Spec.Containers[0] != &shared.Spec.Containers[0] || list.Items[i].Name != shared.Name {
			t.Errorf("item %d: got a copy, want one that shares its insides", i)
		}
		i++
	}
	if i != 10 || len(list.Items) != 10 {
		t.Errorf("got %d items and %d in the view, want 10", len(list.Items), i)
	}
}

func TestObjectsThatNobodyUsesAreLetGo(t *testing.T) {
	k, st, s := podStorage(t, Config{CacheBytes: 1})
	createPod(t, s, newPod("a", "node-1"))
	obj, _ := k.View().Get(podResource, "default", "a")
	seen := weak.Make(obj.(*corev1.Pod))
	obj = nil
	for range 10 {
		runtime.GC()
	}
	if seen.Value() != nil {
		t.Error("got a decoded object in memory, want it gone")
	}
	kv := st.Snapshot().Get("/registry/core/pods/default/a")
	if c, ok := (*kv.Derived.Load()).(*cell); !ok || c.trigger != "node-1" {
		t.Error("got no index at the version, want node-1: it outlives the object")
	}
	if obj, ok := k.View().Get(podResource, "default", "a"); !ok || obj.(*corev1.Pod).Spec.NodeName != "node-1" {
		t.Errorf("read again: got %v, want the pod", obj)
	}
}

func TestWarmSetKeepsWhatIsUsed(t *testing.T) {
	w := newWarm(1000)
	hot := &decoded{size: 10}
	w.add(hot)
	for range 5000 {
		hot.used.Store(true)
		w.add(&decoded{size: 10})
	}
	if w.held > 1000 || w.count != 100 {
		t.Errorf("got %d bytes in %d objects, want 1000 in 100", w.held, w.count)
	}
	kept := false
	for i := range w.count {
		kept = kept || w.ring[(w.head+i)%len(w.ring)] == hot
	}
	if !kept {
		t.Error("the object that is used all the time: got it dropped, want it kept")
	}
	for range 5 * turns { // all used: the oldest goes all the same
		d := &decoded{size: 10}
		d.used.Store(true)
		w.add(d)
	}
	if w.held > 1000 {
		t.Errorf("got %d bytes, want at most 1000", w.held)
	}
	w.add(&decoded{size: 5000})
	if w.held > 1000 {
		t.Errorf("after an object beyond the budget: got %d bytes, want at most 1000", w.held)
	}
}

func TestListOfANodeDecodesItsPodsOnly(t *testing.T) {
	l := newLab(t)
	counting := &countingCodec{Codec: podCodec()}
	r, err := l.k.add(resourceConfig{
		group: podResource, root: "/core/pods", codec: counting,
		newFunc: newPodObject, triggers: storage.IndexerFuncs{"spec.nodeName": nodeOf},
	})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 100 {
		createPod(t, r, newPod(fmt.Sprintf("pod-%d", i), fmt.Sprintf("node-%d", i%10)))
	}
	l.k.warm = newWarm(1)
	for kv := range l.store.Snapshot().Range("/core/pods/", "") { // as if all had been let go of
		var slot any = &cell{form: r.form.Load(), trigger: cellOf(kv, r.form.Load()).trigger}
		kv.Derived.Store(&slot)
	}
	counting.decoded.Store(0)
	list := &corev1.PodList{}
	opts := storage.ListOptions{Recursive: true, Predicate: onNode("node-3")}
	if err := r.GetList(context.Background(), "/core/pods", opts, list); err != nil {
		t.Fatal(err)
	}
	if got := counting.decoded.Load(); len(list.Items) != 10 || got != 10 {
		t.Errorf("got %d pods and %d decoded, want 10 and 10", len(list.Items), got)
	}
}
