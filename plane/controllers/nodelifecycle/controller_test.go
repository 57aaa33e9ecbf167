package nodelifecycle

import (
	"testing"
	"testing/synctest"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"

	"copepod/plane/controllers/api"
	"copepod/plane/controllers/cache"
	"copepod/plane/controllers/looptest"
	"copepod/plane/controllers/pods"
)

func TestProcessThatSleptBlamesItselfAndNotTheNodes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := looptest.New()
		c := New(Config{
			Client: a, Pods: pods.New(a, nil),
			Nodes:  cache.New(cache.Config[*corev1.Node]{Source: a, Resource: api.Nodes, Project: cache.As[*corev1.Node]}),
			Leases: cache.New(cache.Config[*coordinationv1.Lease]{Source: a, Resource: api.Leases, Project: Project}),
		})
		c.hear("n")
		time.Sleep(41 * time.Second)
		if left := c.left("n"); left != -time.Second {
			t.Errorf("got %v left just after the grace period, want -1s", left)
		}
		time.Sleep(time.Hour)
		if left := c.left("n"); left > 0 {
			t.Errorf("got %v left of a node that was lost long ago, want none", left)
		}
		c.hear("n")
		if left := c.left("n"); left != 40*time.Second {
			t.Errorf("got %v left of a node that was heard, want 40s", left)
		}
		time.Sleep(time.Hour) // nobody looked meanwhile
		if left := c.left("n"); left != 40*time.Second {
			t.Errorf("got %v left after we slept ourselves, want another 40s", left)
		}
	})
}
