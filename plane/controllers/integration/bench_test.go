package integration

import (
	"fmt"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// BenchmarkDeploymentsBound measures from the creation of deployments until all
// of their pods have a node, through every layer but the nodes themselves.
func BenchmarkDeploymentsBound(b *testing.B) {
	for _, row := range []struct{ nodes, deployments, replicas int }{{100, 10, 300}, {1000, 10, 1000}, {1000, 100, 1000}} {
		b.Run(fmt.Sprintf("nodes=%d/pods=%d", row.nodes, row.deployments*row.replicas), func(b *testing.B) {
			pods := row.deployments * row.replicas
			for b.Loop() {
				b.StopTimer()
				c := start(b)
				for i := range row.nodes {
					c.hollow(fmt.Sprintf("n%04d", i))
				}
				b.StartTimer()
				begin := time.Now()
				for i := range row.deployments {
					d := deployment("default", int32(row.replicas))
					d.Name = fmt.Sprintf("web-%d", i)
					d.Spec.Selector.MatchLabels["n"], d.Spec.Template.Labels["n"] = d.Name, d.Name
					if _, err := c.AppsV1().Deployments("default").Create(c.ctx, d, metav1.CreateOptions{}); err != nil {
						b.Fatal(err)
					}
				}
				c.allBound(pods)
				b.ReportMetric(float64(pods)/time.Since(begin).Seconds(), "pods/s")
			}
		})
	}
}

// allBound polls until pods pods were made and each has a node.
func (c *cluster) allBound(pods int) {
	for {
		time.Sleep(5 * time.Millisecond)
		list, err := c.AppsV1().Deployments("default").List(c.ctx, metav1.ListOptions{})
		if err != nil {
			c.t.Fatal(err)
		}
		made := 0
		for _, d := range list.Items {
			made += int(d.Status.Replicas)
		}
		if made < pods {
			continue
		}
		waiting, err := c.CoreV1().Pods("default").List(c.ctx, metav1.ListOptions{FieldSelector: "spec.nodeName=", Limit: 1})
		if err != nil {
			c.t.Fatal(err)
		}
		if len(waiting.Items) == 0 {
			return
		}
	}
}
