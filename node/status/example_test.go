package status_test

import (
	"context"
	"fmt"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes/fake"

	"copepod/node/status"
)

func ExampleWriter() {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	client := fake.NewClientset(pod("web"))
	seen, _ := client.CoreV1().Pods("default").Watch(ctx, metav1.ListOptions{})
	w, _ := status.New(status.Config{Client: client.CoreV1()})
	done := make(chan error)
	go func() { done <- w.Run(ctx) }()
	w.Report(status.Report{Pod: pod("web"), Status: v1.PodStatus{Phase: v1.PodRunning}, Urgent: true})
	for event := range seen.ResultChan() {
		if p := event.Object.(*v1.Pod); event.Type == watch.Modified {
			fmt.Println(p.Name, p.Status.Phase)
			break
		}
	}
	cancel()
	fmt.Println(<-done)
	// Output:
	// web Running
	// <nil>
}
