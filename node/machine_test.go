package node

import (
	"errors"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestANodeSaysWhatItIsShortOf(t *testing.T) {
	plenty := load{memoryFree: 1 << 30, diskFree: 50, disk: 100, processesFree: 1000}
	for _, row := range []struct {
		name  string
		load  load
		ready error
		kind  v1.NodeConditionType
		want  string
	}{
		{"plenty", plenty, nil, v1.NodeReady, "True KubeletReady"},
		{"memory", load{memoryFree: 1 << 20, processesFree: 1000}, nil, v1.NodeMemoryPressure, "True KubeletHasInsufficientMemory"},
		{"memory unknown", load{memoryFree: -1, processesFree: -1}, nil, v1.NodeMemoryPressure, "False KubeletHasSufficientMemory"},
		{"disk", load{memoryFree: 1 << 30, diskFree: 9, disk: 100, processesFree: 1000}, nil, v1.NodeDiskPressure, "True KubeletHasDiskPressure"},
		{"processes", load{memoryFree: 1 << 30, processesFree: 3}, nil, v1.NodePIDPressure, "True KubeletHasInsufficientPID"},
		{"not ready", plenty, errors.New("data directory: gone"), v1.NodeReady, "False KubeletNotReady"},
	} {
		for _, c := range conditions(row.load, row.ready) {
			if got := string(c.Status) + " " + c.Reason; c.Type == row.kind && got != row.want {
				t.Errorf("%s: got %s %s, want %s", row.name, c.Type, got, row.want)
			}
		}
	}
}

func TestConditionsOfOthersAndTheirTimesStay(t *testing.T) {
	old, now := metav1.NewTime(time.Unix(1, 0)), metav1.NewTime(time.Unix(2, 0))
	there := []v1.NodeCondition{
		{Type: v1.NodeReady, Status: v1.ConditionTrue, LastTransitionTime: old},
		{Type: v1.NodeMemoryPressure, Status: v1.ConditionTrue, LastTransitionTime: old},
		{Type: "example.com/Fire", Status: v1.ConditionTrue, LastTransitionTime: old},
	}
	got := merge(there, conditions(load{memoryFree: -1, processesFree: -1}, nil), now)
	want := map[v1.NodeConditionType]metav1.Time{v1.NodeReady: old, v1.NodeMemoryPressure: now, v1.NodeDiskPressure: now, v1.NodePIDPressure: now, "example.com/Fire": old}
	if len(got) != len(want) {
		t.Errorf("got %d conditions, want %d", len(got), len(want))
	}
	for _, c := range got {
		if w := want[c.Type]; !c.LastTransitionTime.Equal(&w) {
			t.Errorf("got %s since %v, want %v", c.Type, c.LastTransitionTime, w)
		}
	}
}
