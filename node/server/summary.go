package server

import (
	"net/http"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// The summary has the form of the kubelet's Summary API (stats/v1alpha1), with
// the fields that a WebAssembly node can fill.
type (
	summary struct {
		Node nodeStats  `json:"node"`
		Pods []podStats `json:"pods"`
	}
	nodeStats struct {
		NodeName  string      `json:"nodeName"`
		StartTime metav1.Time `json:"startTime"`
	}
	podStats struct {
		PodRef     podReference     `json:"podRef"`
		StartTime  metav1.Time      `json:"startTime"`
		Containers []containerStats `json:"containers"`
		CPU        cpuStats         `json:"cpu"`
		Memory     memoryStats      `json:"memory"`
	}
	podReference struct {
		Name      string `json:"name"`
		Namespace string `json:"namespace"`
		UID       string `json:"uid"`
	}
	containerStats struct {
		Name      string      `json:"name"`
		StartTime metav1.Time `json:"startTime"`
		CPU       cpuStats    `json:"cpu"`
		Memory    memoryStats `json:"memory"`
	}
	cpuStats struct {
		Time  metav1.Time `json:"time"`
		Nanos int64       `json:"usageCoreNanoSeconds"`
	}
	memoryStats struct {
		Time       metav1.Time `json:"time"`
		WorkingSet int64       `json:"workingSetBytes"`
	}
)

func (s *Server) summary(w http.ResponseWriter, r *http.Request) {
	now := metav1.NewTime(time.Now())
	out := summary{Node: nodeStats{s.cfg.Node, metav1.NewTime(s.began)}, Pods: []podStats{}}
	for _, u := range s.cfg.Pods.Usage() {
		p := podStats{
			PodRef: podReference{u.Pod.Name, u.Pod.Namespace, string(u.Pod.UID)},
			CPU:    cpuStats{Time: now}, Memory: memoryStats{Time: now},
		}
		if u.Pod.Status.StartTime != nil {
			p.StartTime = *u.Pod.Status.StartTime
		}
		for _, c := range u.Containers {
			p.Containers = append(p.Containers, containerStats{
				c.Name, metav1.NewTime(c.Started), cpuStats{now, int64(c.CPU)}, memoryStats{now, c.MemoryBytes},
			})
			p.CPU.Nanos += int64(c.CPU)
			p.Memory.WorkingSet += c.MemoryBytes
		}
		out.Pods = append(out.Pods, p)
	}
	s.answer(w, r, out)
}
