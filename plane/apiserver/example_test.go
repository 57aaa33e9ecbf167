package apiserver_test

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func ExampleServer_Local() {
	ctx, client := context.Background(), one.Local() // one is a *apiserver.Server that is ready
	_, err := client.Create(ctx, &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Namespace: "kube-public", Name: "example"},
		Data:       map[string]string{"greeting": "hello"},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	for obj := range client.View().List(corev1.Resource("configmaps"), "kube-public") {
		fmt.Println(obj.GetName(), obj.(*corev1.ConfigMap).Data["greeting"])
	}
	if err := client.Delete(ctx, corev1.Resource("configmaps"), "kube-public", "example", metav1.DeleteOptions{}); err != nil {
		fmt.Println(err)
	}
	// Output: example hello
}
