package nodelifecycle

import (
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

func member(name, zone string, ready corev1.ConditionStatus) *corev1.Node {
	n := node(false, "Ready", string(ready))
	n.Name = name
	n.Labels = map[string]string{corev1.LabelTopologyZone: zone}
	return n
}

func TestZonesAreJudgedAsKubernetesDoes(t *testing.T) {
	r := newZones(Rates{}).rates
	for _, row := range []struct {
		nodes, lost int
		want        disruption
		limit       float64
	}{
		{10, 0, normal, 1}, {10, 5, normal, 1}, {10, 6, partial, 0}, {3, 2, normal, 1}, {4, 3, partial, 0},
		{1, 1, full, 1}, {3, 3, full, 1}, {100, 54, normal, 1}, {100, 55, partial, 0.1}, {50, 40, partial, 0}, {0, 0, normal, 1},
	} {
		got := r.judge(row.nodes, row.lost)
		if limit := float64(r.limit(got, row.nodes)); got != row.want || limit != row.limit {
			t.Errorf("%d of %d lost: got %s at %v, want %s at %v", row.lost, row.nodes, got, limit, row.want, row.limit)
		}
	}
}

func TestEvictionsStopWhenTooMuchOfAZoneIsLost(t *testing.T) {
	z := newZones(Rates{})
	for i := range 5 {
		z.set(member(fmt.Sprint("a", i), "a", corev1.ConditionTrue))
		z.set(member(fmt.Sprint("b", i), "b", corev1.ConditionTrue))
	}
	lose := func(zone string, i int) (eviction, time.Duration) {
		z.set(member(fmt.Sprint(zone, i), zone, corev1.ConditionUnknown))
		return z.evict(fmt.Sprint(zone, i), now)
	}
	for i, want := range []eviction{evictNow, evictNow, evictHold} { // the third makes 60 %
		if got, wait := lose("a", i); got != want || wait != 0 {
			t.Errorf("node %d of zone a: got %d after %v, want %d", i, got, wait, want)
		}
	}
	if got, _ := lose("b", 0); got != evictNow {
		t.Errorf("zone b: got %d, want it to go on", got)
	}
	// The zone recovers: who was held back is to be looked at again.
	again := z.set(member("a0", "a", corev1.ConditionTrue))
	if len(again) != 2 {
		t.Errorf("got %v to look at again, want a1 and a2", again)
	}
	if got, wait := z.evict("a2", now.Add(time.Minute)); got != evictNow {
		t.Errorf("got %d after %v, want an eviction", got, wait)
	}
}

func TestNodesAreEmptiedOneAfterTheOther(t *testing.T) {
	z := newZones(Rates{PerSecond: 1, Burst: 1})
	for i := range 9 {
		z.set(member(fmt.Sprint(i), "", corev1.ConditionTrue))
	}
	for i := range 3 {
		z.set(member(fmt.Sprint(i), "", corev1.ConditionUnknown))
	}
	begin := time.Now() // SetLimit may have moved the limiter to now
	if got, _ := z.evict("0", begin); got != evictNow {
		t.Errorf("got %d, want the first at once", got)
	}
	got, wait := z.evict("1", begin)
	if got != evictHold || wait <= 0 || wait > time.Second {
		t.Errorf("got %d after %v, want it within a second", got, wait)
	}
	if got, _ := z.evict("1", begin.Add(wait)); got != evictNow {
		t.Errorf("got %d, want the second then", got)
	}
}

func TestWhereAllIsLostNothingIsEvicted(t *testing.T) {
	z := newZones(Rates{})
	z.set(member("a", "a", corev1.ConditionUnknown))
	z.set(member("b", "b", corev1.ConditionFalse))
	if got, _ := z.evict("a", now); got != evictStop || !z.stopped() {
		t.Errorf("got %d, want none", got)
	}
	if again := z.set(member("b", "b", corev1.ConditionTrue)); len(again) != 1 || z.stopped() {
		t.Errorf("got %v to look at again, want a", again)
	}
	z.drop("b")
	if !z.stopped() {
		t.Error("got evictions after the only node that lived has gone")
	}
	lost := member("a", "a", corev1.ConditionUnknown)
	lost.Spec.Taints, _ = taints(lost, now, evictNow)
	if list, changed := taints(lost, now, evictStop); !changed || len(list) != 1 || list[0].Effect != corev1.TaintEffectNoSchedule {
		t.Errorf("got %v, want the taint that evicts gone", list)
	}
}
