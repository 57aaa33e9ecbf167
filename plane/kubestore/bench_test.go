package kubestore

import (
	"context"
	"fmt"
	"io"
	"sync/atomic"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/apiserver/pkg/storage"
)

func BenchmarkCreate(b *testing.B) {
	_, _, s := podStorage(b, Config{})
	pod := newPod("pod", "node-1")
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		pod.Name, pod.ResourceVersion = fmt.Sprintf("pod-%d", i), ""
		createPod(b, s, pod)
	}
}

// Many callers share log entries.
func BenchmarkCreateParallel(b *testing.B) {
	_, _, s := podStorage(b, Config{})
	var n atomic.Int64
	b.ReportAllocs()
	b.SetParallelism(64)
	b.RunParallel(func(pb *testing.PB) {
		pod := newPod("pod", "node-1")
		for pb.Next() {
			pod.Name, pod.ResourceVersion = fmt.Sprintf("pod-%d", n.Add(1)), ""
			createPod(b, s, pod)
		}
	})
}

// One operation is one pod in a batch of 500.
func BenchmarkWriteBatch(b *testing.B) {
	k, _, _ := podStorage(b, Config{})
	const size = 500
	writes := make([]Write, size)
	for i := range writes {
		writes[i] = Write{Resource: podResource, Object: newPod("", "node-1")}
	}
	b.ReportAllocs()
	b.ResetTimer()
	for done := 0; done < b.N; done += size {
		batch := writes[:min(size, b.N-done)]
		for i := range batch {
			batch[i].Object.(*corev1.Pod).Name = fmt.Sprintf("pod-%d", done+i)
		}
		for _, w := range k.Write(context.Background(), batch) {
			if w.Err != nil {
				b.Fatal(w.Err)
			}
		}
	}
}

func BenchmarkGet(b *testing.B) {
	k, _, s := podStorage(b, Config{})
	fill(b, k, 1000, 10)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if err := s.Get(context.Background(), fmt.Sprintf("/core/pods/default/pod-%06d", i%1000), storage.GetOptions{}, &corev1.Pod{}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkViewGet(b *testing.B) {
	k, _, _ := podStorage(b, Config{})
	fill(b, k, 1000, 10)
	b.ReportAllocs()
	for b.Loop() {
		if _, ok := k.View().Get(podResource, "default", "pod-000500"); !ok {
			b.Fatal("not found")
		}
	}
}

func BenchmarkGetList(b *testing.B) {
	for _, row := range []struct {
		name  string
		cfg   Config
		pods  int
		pred  storage.SelectionPredicate
		items int
	}{
		{"3000CopiedPods", Config{}, 3000, storage.Everything, 3000},
		{"3000SharedPods", Config{ShareLists: true}, 3000, storage.Everything, 3000},
		{"30PodsOfANodeIn3000", Config{}, 3000, onNode("node-7"), 30},
		{"30PodsOfANodeIn30000Cold", Config{CacheBytes: 1}, 30000, onNode("node-7"), 300},
	} {
		b.Run(row.name, func(b *testing.B) {
			k, _, s := podStorage(b, row.cfg)
			fill(b, k, row.pods, 100)
			b.ReportAllocs()
			for b.Loop() {
				list := &corev1.PodList{}
				opts := storage.ListOptions{Recursive: true, Predicate: row.pred}
				if err := s.GetList(context.Background(), "/core/pods", opts, list); err != nil {
					b.Fatal(err)
				}
				if len(list.Items) != row.items {
					b.Fatalf("got %d items, want %d", len(list.Items), row.items)
				}
			}
		})
	}
}

func BenchmarkViewList3000(b *testing.B) {
	k, _, _ := podStorage(b, Config{})
	fill(b, k, 3000, 100)
	b.ReportAllocs()
	for b.Loop() {
		n := 0
		for range k.View().List(podResource, "") {
			n++
		}
		if n != 3000 {
			b.Fatalf("got %d pods, want 3000", n)
		}
	}
}

// One operation is one update that reaches all watchers that it concerns.
func BenchmarkWatchFanOut(b *testing.B) {
	for _, row := range []struct {
		name     string
		watchers int
		pred     func(i int) storage.SelectionPredicate
		reached  int64
	}{
		{"100Informers", 100, func(int) storage.SelectionPredicate { return storage.Everything }, 100},
		{"1000Nodes", 1000, func(i int) storage.SelectionPredicate { return onNode(fmt.Sprintf("node-%d", i)) }, 1},
	} {
		b.Run(row.name, func(b *testing.B) {
			_, _, s := podStorage(b, Config{})
			pod := createPod(b, s, newPod("pod", "node-7"))
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			arrived := make(chan struct{}, row.watchers)
			codec := podCodec()
			encode := func(obj runtime.Object, w io.Writer) error { return codec.Encode(obj, w) }
			for i := range row.watchers {
				w, err := s.Watch(ctx, "/core/pods", storage.ListOptions{
					Recursive: true, ResourceVersion: pod.ResourceVersion, Predicate: row.pred(i),
				})
				if err != nil {
					b.Fatal(err)
				}
				go func() {
					for e := range w.ResultChan() {
						if e.Type == watch.Modified {
							_ = e.Object.(runtime.CacheableObject).CacheEncode("test", encode, io.Discard)
						}
						arrived <- struct{}{}
					}
				}()
			}
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				updatePod(b, s, pod, func(p *corev1.Pod) { p.Labels["n"] = fmt.Sprint(i) })
				for range row.reached {
					<-arrived
				}
			}
		})
	}
}
