package place

import (
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

func benchmark(b *testing.B, pod *corev1.Pod, batch int) {
	const nodes, pods = 1000, 10000
	base := make([]*corev1.Node, nodes)
	for i := range base {
		base[i] = newNode(fmt.Sprint("n", i), zone(fmt.Sprint("z", i%3)))
	}
	for b.Loop() {
		c := cluster(base...)
		k := c.Class(pod)
		placed := 0
		for placed < pods {
			got, failure := c.Place(k, batch)
			if failure != nil {
				b.Fatal(failure)
			}
			placed += len(got)
		}
	}
	b.ReportMetric(float64(b.N)*pods/b.Elapsed().Seconds(), "pods/s")
}

func BenchmarkTenThousandPodsOnAThousandNodes(b *testing.B) {
	for _, row := range []struct {
		name  string
		pod   *corev1.Pod
		batch int
	}{
		{"batches of 500", newPod(owned("rs"), wants("cpu=10m", "memory=16Mi")), 500},
		{"one by one", newPod(owned("rs"), wants("cpu=10m", "memory=16Mi")), 1},
		{"zone spread", newPod(spreadBy(corev1.LabelTopologyZone, 1, true), wants("cpu=10m")), 500},
		{"node spread", newPod(spreadBy(corev1.LabelHostname, 1, true), wants("cpu=10m")), 500},
	} {
		b.Run(row.name, func(b *testing.B) { benchmark(b, row.pod, row.batch) })
	}
}
