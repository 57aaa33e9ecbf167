package kubestore

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"copepod/plane/store"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/storage"
)

func TestConfigIsValidated(t *testing.T) {
	for _, row := range []struct {
		name, prefix string
		cfg          Config
	}{
		{"zero", "/registry/", Config{}},
		{"untidy prefix", "/a/b/", Config{Prefix: "a//b/"}},
		{"negative cache", "", Config{CacheBytes: -1}},
		{"negative queue", "", Config{WatchQueue: -1}},
		{"negative interval", "", Config{BookmarkInterval: -1}},
	} {
		cfg, err := row.cfg.validate()
		if (err != nil) != (row.prefix == "") || err == nil && cfg.Prefix != row.prefix {
			t.Errorf("%s: got prefix %q and %v, want prefix %q", row.name, cfg.Prefix, err, row.prefix)
		}
	}
}

func TestResourceMustBeNamedAndReadable(t *testing.T) {
	k, _, _ := podStorage(t, Config{})
	good := resourceConfig{group: podResource, root: "/core/other", codec: podCodec(), newFunc: newPodObject}
	for _, row := range []struct {
		name  string
		spoil func(*resourceConfig)
	}{
		{"no prefix", func(c *resourceConfig) { c.root = "" }},
		{"prefix of everything", func(c *resourceConfig) { c.root = "/" }},
		{"no codec", func(c *resourceConfig) { c.codec = nil }},
		{"no object", func(c *resourceConfig) { c.newFunc = nil }},
		{"two triggers", func(c *resourceConfig) { c.triggers = storage.IndexerFuncs{"a": nodeOf, "b": nodeOf} }},
	} {
		cfg := good
		row.spoil(&cfg)
		if _, err := k.add(cfg); err == nil {
			t.Errorf("%s: got no error, want one", row.name)
		}
	}
}

func TestViewIsOneMoment(t *testing.T) {
	k, _, s := podStorage(t, Config{})
	createPod(t, s, newPod("a", ""))
	view := k.View()
	createPod(t, s, newPod("b", ""))
	updatePod(t, s, newPod("a", ""), func(p *corev1.Pod) { p.Labels["n"] = "1" })
	obj, ok := view.Get(podResource, "default", "a")
	if !ok || obj.(*corev1.Pod).Labels["n"] != "" || obj.(*corev1.Pod).ResourceVersion != fmt.Sprint(view.Revision()) {
		t.Errorf("got %v, want the pod as it was", obj)
	}
	if _, ok := view.Get(podResource, "default", "b"); ok || view.Count(podResource, "default") != 1 {
		t.Error("got a pod of later, want none")
	}
	if _, ok := view.Get(podResource, "kube-system", "a"); ok || view.Count(podResource, "kube-system") != 0 {
		t.Error("got a pod of another namespace, want none")
	}
	moons := schema.GroupResource{Group: "sky", Resource: "moons"}
	if _, ok := view.Get(moons, "", "io"); ok || view.Count(moons, "") != 0 {
		t.Error("got an object of a resource that is not served, want none")
	}
	for obj := range view.List(moons, "") {
		t.Errorf("got %v of a resource that is not served, want nothing", obj)
	}
	if _, err := k.Watch(t.Context(), moons, view.Revision()); err == nil || !strings.Contains(err.Error(), "moons.sky") {
		t.Errorf("got %v, want an error that names moons.sky", err)
	}
}

func TestNotReadyWhileTheStoreIsNot(t *testing.T) {
	st, err := store.Open(store.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { st.Close() })
	k, err := New(st, Config{})
	if err != nil {
		t.Fatal(err)
	}
	s, destroy := decoratePods(t, k)
	t.Cleanup(destroy)
	if err := s.ReadinessCheck(); err == nil || !strings.Contains(err.Error(), "storage not ready") {
		t.Errorf("got %v, want storage not ready", err)
	}
}

func Example() {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	st, err := store.Open(store.Config{}) // in memory
	if err != nil {
		panic(err)
	}
	go st.Run(ctx)
	<-st.Ready()

	k, err := New(st, Config{})
	if err != nil {
		panic(err)
	}
	go k.Run(ctx)
	codec := podCodec()
	options, err := k.RESTOptions(func(schema.GroupResource) (runtime.Codec, runtime.GroupVersioner) {
		return codec, corev1.SchemeGroupVersion
	}).GetRESTOptions(podResource, nil)
	if err != nil {
		panic(err)
	}
	// A generic registry does this with its RESTOptions.
	_, destroy, err := options.Decorator(options.StorageConfig, options.ResourcePrefix, nil, newPodObject, nil, podAttrs, nil, nil)
	if err != nil {
		panic(err)
	}
	defer destroy()

	view := k.View()
	events, err := k.Watch(ctx, podResource, view.Revision())
	if err != nil {
		panic(err)
	}
	k.Write(ctx, []Write{
		{Resource: podResource, Object: newPod("a", "node-1")},
		{Resource: podResource, Object: newPod("b", "node-1")},
	})
	for n := 0; n < 2; {
		for _, e := range <-events {
			fmt.Println(e.Type, e.Object.(*corev1.Pod).Name, "at", e.Rev)
			n++
		}
	}
	// Output:
	// ADDED a at 2
	// ADDED b at 3
}
