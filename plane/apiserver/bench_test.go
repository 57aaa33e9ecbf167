package apiserver_test

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"copepod/plane/apiserver/local"
)

// protobufClient is a client as controllers have it. Each has a connection of
// its own, as different programs would.
func protobufClient(b *testing.B) *kubernetes.Clientset {
	config := rest.CopyConfig(one.admin)
	config.ContentType = "application/vnd.kubernetes.protobuf"
	config.UserAgent = fmt.Sprint("bench-", clientCount.Add(1))
	return must(kubernetes.NewForConfig(config))(b)
}

var clientCount atomic.Int64

// clients runs a request by one client at a time, and by 32 at once.
func clients(b *testing.B, request func(client *kubernetes.Clientset, n int64) error) {
	for _, parallel := range []int{1, 32} {
		b.Run(fmt.Sprintf("clients=%d", parallel), func(b *testing.B) {
			all := make([]*kubernetes.Clientset, min(parallel, 8))
			for i := range all {
				all[i] = protobufClient(b)
			}
			var count atomic.Int64
			ask := func() {
				n := count.Add(1)
				if err := request(all[int(n)%len(all)], n); err != nil {
					b.Error(err)
				}
			}
			ask() // connect
			b.ReportAllocs()
			b.ResetTimer()
			if parallel == 1 {
				for range b.N {
					ask()
				}
				return
			}
			b.SetParallelism(parallel)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					ask()
				}
			})
		})
	}
}

var benchCount atomic.Int64

func benchMap(namespace string) *corev1.ConfigMap {
	return &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: fmt.Sprint("c-", benchCount.Add(1))},
		Data:       map[string]string{"key": "value"},
	}
}

func BenchmarkHTTPSCreate(b *testing.B) {
	namespace := one.namespace(b)
	clients(b, func(client *kubernetes.Clientset, _ int64) error {
		_, err := client.CoreV1().ConfigMaps(namespace).Create(b.Context(), benchMap(namespace), metav1.CreateOptions{})
		return err
	})
}

func BenchmarkHTTPSGet(b *testing.B) {
	namespace := one.namespace(b)
	cm := must(one.CoreV1().ConfigMaps(namespace).Create(b.Context(), benchMap(namespace), metav1.CreateOptions{}))(b)
	clients(b, func(client *kubernetes.Clientset, _ int64) error {
		_, err := client.CoreV1().ConfigMaps(namespace).Get(b.Context(), cm.Name, metav1.GetOptions{})
		return err
	})
}

func BenchmarkHTTPSUpdate(b *testing.B) {
	namespace := one.namespace(b)
	maps := make([]*corev1.ConfigMap, 64)
	for i := range maps {
		maps[i] = must(one.CoreV1().ConfigMaps(namespace).Create(b.Context(), benchMap(namespace), metav1.CreateOptions{}))(b)
	}
	clients(b, func(client *kubernetes.Clientset, n int64) error {
		cm := maps[int(n)%len(maps)].DeepCopy()
		cm.ResourceVersion, cm.Data["key"] = "", fmt.Sprint(n)
		_, err := client.CoreV1().ConfigMaps(namespace).Update(b.Context(), cm, metav1.UpdateOptions{})
		return err
	})
}

func BenchmarkHTTPSListOf500Pods(b *testing.B) {
	namespace := one.namespace(b)
	pods := make([]local.Object, 500)
	for i := range pods {
		pods[i] = newPod(namespace, fmt.Sprint("p-", i))
	}
	one.Local().CreateAll(b.Context(), pods)
	clients(b, func(client *kubernetes.Clientset, _ int64) error {
		list, err := client.CoreV1().Pods(namespace).List(b.Context(), metav1.ListOptions{})
		if err == nil && len(list.Items) != len(pods) {
			err = fmt.Errorf("got %d pods, want %d", len(list.Items), len(pods))
		}
		return err
	})
}

// BenchmarkHTTPSWatch is the time from a write to its arrival at all watchers.
func BenchmarkHTTPSWatch(b *testing.B) {
	for _, watchers := range []int{1, 32} {
		b.Run(fmt.Sprintf("watchers=%d", watchers), func(b *testing.B) {
			namespace := one.namespace(b)
			arrived := make(chan struct{}, watchers)
			for range watchers {
				w := must(protobufClient(b).CoreV1().ConfigMaps(namespace).Watch(b.Context(), metav1.ListOptions{ResourceVersion: "0"}))(b)
				defer w.Stop()
				go func() {
					for range w.ResultChan() {
						arrived <- struct{}{}
					}
				}()
			}
			b.ResetTimer()
			for range b.N {
				if _, err := one.Local().Create(b.Context(), benchMap(namespace)); err != nil {
					b.Fatal(err)
				}
				for range watchers {
					select {
					case <-arrived:
					case <-time.After(10 * time.Second):
						b.Fatal("a watcher did not see the write")
					}
				}
			}
		})
	}
}

func BenchmarkInProcessCreate(b *testing.B) {
	for _, batch := range []int{1, 100, 1000} {
		b.Run(fmt.Sprintf("batch=%d", batch), func(b *testing.B) {
			namespace := one.namespace(b)
			controller := one.Local().As("system:serviceaccount:kube-system:replicaset-controller")
			b.ReportAllocs()
			for n := 0; n < b.N; n += batch {
				pods := make([]local.Object, min(batch, b.N-n))
				for i := range pods {
					pods[i] = newPod(namespace, fmt.Sprint("p-", benchCount.Add(1)))
				}
				_, errs := controller.CreateAll(b.Context(), pods)
				for _, err := range errs {
					if err != nil {
						b.Fatal(err)
					}
				}
			}
		})
	}
}

func BenchmarkInProcessBind(b *testing.B) {
	namespace := one.namespace(b)
	pods, bindings := make([]local.Object, b.N), make([]*corev1.Binding, b.N)
	for i := range pods {
		pods[i] = newPod(namespace, fmt.Sprint("p-", benchCount.Add(1)))
		bindings[i] = &corev1.Binding{
			ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: pods[i].GetName()},
			Target:     corev1.ObjectReference{Kind: "Node", Name: "node-1"},
		}
	}
	one.Local().CreateAll(b.Context(), pods)
	scheduler := one.Local().As("system:kube-scheduler")
	b.ReportAllocs()
	b.ResetTimer()
	for _, err := range scheduler.BindAll(b.Context(), bindings) {
		if err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkInProcessUpdateStatus(b *testing.B) {
	namespace := one.namespace(b)
	here := one.Local()
	must(here.Create(b.Context(), webDeployment(namespace, "web")))(b)
	b.ReportAllocs()
	for n := range b.N {
		_, err := here.Modify(b.Context(), appsv1.Resource("deployments"), namespace, "web", "status", func(obj local.Object) error {
			obj.(*appsv1.Deployment).Status.ObservedGeneration = int64(n)
			return nil
		})
		if err != nil {
			b.Fatal(err)
		}
	}
}
