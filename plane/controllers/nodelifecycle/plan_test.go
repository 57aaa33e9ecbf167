package nodelifecycle

import (
	"fmt"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

var now = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

func node(cordoned bool, conditions ...string) *corev1.Node {
	n := &corev1.Node{Spec: corev1.NodeSpec{Unschedulable: cordoned}}
	for i := 0; i < len(conditions); i += 2 {
		n.Status.Conditions = append(n.Status.Conditions, corev1.NodeCondition{Type: corev1.NodeConditionType(conditions[i]), Status: corev1.ConditionStatus(conditions[i+1])})
	}
	return n
}

func TestTaintsSayWhatConditionsSay(t *testing.T) {
	own := corev1.Taint{Key: "dedicated", Value: "x", Effect: corev1.TaintEffectNoSchedule}
	stale := corev1.Taint{Key: corev1.TaintNodeUnreachable, Effect: corev1.TaintEffectNoExecute}
	for _, row := range []struct {
		name string
		node *corev1.Node
		have []corev1.Taint
		want []string
	}{
		{"ready", node(false, "Ready", "True"), nil, nil},
		{"ready again", node(false, "Ready", "True"), []corev1.Taint{stale}, nil},
		{"a taint of others stays", node(false, "Ready", "True"), []corev1.Taint{own, stale}, []string{"dedicated:NoSchedule"}},
		{"not ready", node(false, "Ready", "False"), nil, []string{"node.kubernetes.io/not-ready:NoSchedule", "node.kubernetes.io/not-ready:NoExecute"}},
		{"unknown", node(false, "Ready", "Unknown"), nil, []string{"node.kubernetes.io/unreachable:NoSchedule", "node.kubernetes.io/unreachable:NoExecute"}},
		{"unknown already", node(false, "Ready", "Unknown"), []corev1.Taint{stale}, []string{"node.kubernetes.io/unreachable:NoExecute", "node.kubernetes.io/unreachable:NoSchedule"}},
		{"just registered", node(false), nil, []string{"node.kubernetes.io/not-ready:NoSchedule"}},
		{"cordoned", node(true, "Ready", "True"), nil, []string{"node.kubernetes.io/unschedulable:NoSchedule"}},
		{"under pressure", node(false, "Ready", "True", "MemoryPressure", "True", "DiskPressure", "False", "PIDPressure", "True"), nil,
			[]string{"node.kubernetes.io/memory-pressure:NoSchedule", "node.kubernetes.io/pid-pressure:NoSchedule"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			row.node.Spec.Taints = row.have
			list, changed := taints(row.node, now, evictNow)
			var got []string
			for _, taint := range list {
				got = append(got, taint.Key+":"+string(taint.Effect))
			}
			if !slices.Equal(got, row.want) {
				t.Errorf("got %v, want %v", got, row.want)
			}
			if want := fmt.Sprint(list) != fmt.Sprint(row.have); changed != want {
				t.Errorf("got changed=%v, want %v", changed, want)
			}
			row.node.Spec.Taints = list
			if _, changed := taints(row.node, now.Add(time.Hour), evictHold); changed {
				t.Error("got a change of what was just put right")
			}
		})
	}
}

func TestSilenceMakesEveryHeartbeatUnknown(t *testing.T) {
	n := node(false, "Ready", "True", "MemoryPressure", "False", "example.com/other", "True")
	n.CreationTimestamp = metav1.NewTime(now.Add(-time.Hour))
	got := map[corev1.NodeConditionType]string{}
	for _, c := range silence(n, now) {
		got[c.Type] = string(c.Status) + " " + c.Reason
	}
	want := map[corev1.NodeConditionType]string{
		"Ready": "Unknown NodeStatusUnknown", "MemoryPressure": "Unknown NodeStatusUnknown",
		"DiskPressure": "Unknown NodeStatusNeverUpdated", "PIDPressure": "Unknown NodeStatusNeverUpdated", "example.com/other": "True ",
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
