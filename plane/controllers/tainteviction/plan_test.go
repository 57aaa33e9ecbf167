package tainteviction

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestPodLeavesWhenItsTolerationsRunOut(t *testing.T) {
	start := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	added := metav1.NewTime(start)
	taint := func(key string) corev1.Taint {
		return corev1.Taint{Key: key, Effect: corev1.TaintEffectNoExecute, TimeAdded: &added}
	}
	tolerate := func(key string, seconds ...int64) corev1.Toleration {
		t := corev1.Toleration{Key: key, Operator: corev1.TolerationOpExists}
		for _, s := range seconds {
			t.TolerationSeconds = &s
		}
		return t
	}
	timeless := taint("a")
	timeless.TimeAdded = nil
	for _, row := range []struct {
		name        string
		tolerations []corev1.Toleration
		taints      []corev1.Taint
		want        time.Duration
		leaves      bool
	}{
		{"no toleration", nil, []corev1.Taint{taint("a")}, 0, true},
		{"toleration of another", []corev1.Toleration{tolerate("b")}, []corev1.Taint{taint("a")}, 0, true},
		{"for good", []corev1.Toleration{tolerate("a")}, []corev1.Taint{taint("a")}, 0, false},
		{"for a time", []corev1.Toleration{tolerate("a", 30)}, []corev1.Taint{taint("a")}, 30 * time.Second, true},
		{"the shortest counts", []corev1.Toleration{tolerate("a", 30), tolerate("a", 10), tolerate("a")}, []corev1.Taint{taint("a")}, 10 * time.Second, true},
		{"below zero is now", []corev1.Toleration{tolerate("a", -5)}, []corev1.Taint{taint("a")}, 0, true},
		{"of two taints the first to run out", []corev1.Toleration{tolerate("a", 30), tolerate("b", 10)}, []corev1.Taint{taint("a"), taint("b")}, 10 * time.Second, true},
		{"one taint is not tolerated", []corev1.Toleration{tolerate("a")}, []corev1.Taint{taint("a"), taint("b")}, 0, true},
		{"a taint without a time counts from when it was seen", []corev1.Toleration{tolerate("a", 30)}, []corev1.Taint{timeless}, 90 * time.Second, true},
		{"no taint", nil, nil, 0, false},
	} {
		t.Run(row.name, func(t *testing.T) {
			at, leaves := deadline(row.tolerations, row.taints, start.Add(time.Minute))
			if leaves != row.leaves || leaves && at.Sub(start) != row.want {
				t.Errorf("got %v after %v, want %v after %v", leaves, at.Sub(start), row.leaves, row.want)
			}
		})
	}
}
