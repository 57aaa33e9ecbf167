package downward_test

import (
	"fmt"
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"copepod/node/downward"
)

func source() downward.Source {
	return downward.Source{
		PodIP: "10.42.0.7", HostIP: "192.0.2.1",
		Allocatable: v1.ResourceList{"cpu": resource.MustParse("4"), "memory": resource.MustParse("8Gi")},
		Pod: &v1.Pod{
			ObjectMeta: metav1.ObjectMeta{
				Name: "web-0", Namespace: "shop", UID: "u-1",
				Labels:      map[string]string{"b": "2", "a": "one \"1\""},
				Annotations: map[string]string{"example.com/note": "hi"},
			},
			Spec: v1.PodSpec{NodeName: "n1", ServiceAccountName: "seller", Containers: []v1.Container{{
				Name: "app",
				Resources: v1.ResourceRequirements{
					Requests: v1.ResourceList{"cpu": resource.MustParse("250m"), "memory": resource.MustParse("64Mi")},
					Limits:   v1.ResourceList{"cpu": resource.MustParse("1500m")},
				},
			}}},
		},
	}
}

func TestFieldsOfAPod(t *testing.T) {
	for _, row := range []struct{ path, want, err string }{
		{"metadata.name", "web-0", ""},
		{"metadata.namespace", "shop", ""},
		{"metadata.uid", "u-1", ""},
		{"metadata.labels", "a=\"one \\\"1\\\"\"\nb=\"2\"", ""},
		{"metadata.labels['b']", "2", ""},
		{"metadata.labels['none']", "", ""},
		{"metadata.annotations['example.com/note']", "hi", ""},
		{"spec.nodeName", "n1", ""},
		{"spec.serviceAccountName", "seller", ""},
		{"status.podIP", "10.42.0.7", ""},
		{"status.podIPs", "10.42.0.7", ""},
		{"status.hostIP", "192.0.2.1", ""},
		{"spec.nodeName['x']", "", "does not support subscript"},
		{"spec.hostname", "", "unsupported fieldPath: spec.hostname"},
	} {
		got, err := source().Field(row.path)
		if got != row.want || (row.err == "") != (err == nil) || (err != nil && !strings.Contains(err.Error(), row.err)) {
			t.Errorf("%s: got %q, %v, want %q, %q", row.path, got, err, row.want, row.err)
		}
	}
}

func TestResourcesOfAContainer(t *testing.T) {
	for _, row := range []struct{ container, name, divisor, want, err string }{
		{"app", "limits.cpu", "0", "2", ""},
		{"app", "limits.cpu", "1m", "1500", ""},
		{"app", "requests.memory", "1Mi", "64", ""},
		{"app", "limits.memory", "1Gi", "8", ""}, // the node's
		{"app", "requests.ephemeral-storage", "1", "0", ""},
		{"app", "cpu", "1", "", "unsupported container resource"},
		{"other", "limits.cpu", "1", "", `container "other" not found`},
	} {
		ref := &v1.ResourceFieldSelector{ContainerName: row.container, Resource: row.name, Divisor: resource.MustParse(row.divisor)}
		got, err := source().Resource(nil, ref)
		if got != row.want || (row.err == "") != (err == nil) || (err != nil && !strings.Contains(err.Error(), row.err)) {
			t.Errorf("%s of %s by %s: got %q, %v, want %q, %q", row.name, row.container, row.divisor, got, err, row.want, row.err)
		}
	}
}

func ExampleSource_Field() {
	name, _ := source().Field("metadata.name")
	fmt.Println(name)
	// Output: web-0
}
