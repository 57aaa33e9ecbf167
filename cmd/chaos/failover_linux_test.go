package chaos

import (
	"context"
	"flag"
	"fmt"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

var kills = flag.Int("chaos.kills", 5, "leaders that BenchmarkFailover kills, up to 50")

// BenchmarkFailover kills the leader of three nodes on 127.0.0.x with -9, again and
// again: how long until a write is acknowledged through another node, and until
// all nine replicas are ready without the dead node.
func BenchmarkFailover(b *testing.B) {
	const replicas = 9
	c := newCluster(b, 3, false)
	if err := c.deploy(replicas); err != nil {
		b.Fatal(err)
	}
	if err := c.exactly(replicas, recovery); err != nil {
		b.Fatal(err)
	}
	var writes, serves []time.Duration
	for i := range min(*kills, 50) {
		leader := c.leader()
		if leader == nil {
			b.Fatal("nobody leads")
		}
		other := c.nodes[(slices.Index(c.nodes, leader)+1+i%2)%3]
		from := time.Now()
		leader.kill()
		if err := c.eventually(recovery, "a write", func(ctx context.Context) error {
			cm := register(fmt.Sprintf("failover-%d-%d", i, time.Now().UnixNano()), "", "")
			cm.Namespace = "default"
			_, err := other.client.CoreV1().ConfigMaps("default").Create(ctx, cm, metav1.CreateOptions{})
			return err
		}); err != nil {
			b.Fatal(err)
		}
		writes = append(writes, time.Since(from))
		if err := c.eventually(recovery, "all replicas serve", func(ctx context.Context) error {
			pods, err := other.pods(ctx)
			if err != nil {
				return err
			}
			pods = slices.DeleteFunc(pods, func(p corev1.Pod) bool { return !ready(p) || p.Spec.NodeName == leader.name })
			if len(pods) < replicas {
				return fmt.Errorf("%d of %d pods are ready without %s", len(pods), replicas, leader.name)
			}
			return nil
		}); err != nil {
			b.Fatal(err)
		}
		serves = append(serves, time.Since(from))
		b.Logf("kill %d, of %s: a write through %s after %v, all replicas after %v", i+1, leader.name, other.name,
			writes[i].Round(time.Millisecond), serves[i].Round(time.Millisecond))
		if err := c.restart(leader); err != nil {
			b.Fatal(err)
		}
		if err := leader.greeting(recovery); err != nil {
			b.Fatal(err)
		}
		if err := c.healthy(recovery); err != nil {
			b.Fatal(err)
		}
		if err := c.exactly(replicas, recovery); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(0, "ns/op") // one run is all: its time says nothing
	for _, m := range []struct {
		name  string
		times []time.Duration
	}{{"write", writes}, {"serve", serves}} {
		slices.Sort(m.times)
		b.ReportMetric(quantile(m.times, 0.5).Seconds()*1000, m.name+"-p50-ms")
		b.ReportMetric(quantile(m.times, 0.99).Seconds()*1000, m.name+"-p99-ms")
	}
}

// quantile is of sorted times, the nearest rank.
func quantile(times []time.Duration, q float64) time.Duration {
	return times[min(len(times)-1, int(q*float64(len(times))))]
}
