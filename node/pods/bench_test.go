package pods_test

import (
	"context"
	"fmt"
	"net/netip"
	"testing"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"copepod/node/logs"
	"copepod/node/mesh/vnet"
	"copepod/node/objects"
	"copepod/node/pods"
	"copepod/node/probe"
	"copepod/node/runtime"
	"copepod/node/runtime/runtimetest"
	"copepod/node/status"
	"copepod/node/volume"
)

// sink takes reports and says when a pod is ready.
type sink struct{ ready chan types.UID }

func (s sink) Report(r status.Report) {
	for _, c := range r.Status.Conditions {
		if c.Type == v1.PodReady && c.Status == v1.ConditionTrue {
			s.ready <- r.Pod.UID
		}
	}
}
func (sink) Forget(types.UID)                                 {}
func (sink) Event(v1.ObjectReference, string, string, string) {}
func (sink) Hold(types.UID, []objects.Ref)                    {}

func newBench(b *testing.B) (*pods.Manager, sink) {
	b.Helper()
	dir, w, s := b.TempDir(), &world{}, sink{make(chan types.UID, 100000)}
	store, err := logs.New(logs.Config{Dir: dir + "/logs"})
	if err != nil {
		b.Fatal(err)
	}
	volumes, err := volume.New(volume.Config{Dir: dir + "/pods", Objects: w, Tokens: w})
	if err != nil {
		b.Fatal(err)
	}
	rt, network := runtimetest.NewFake(runtimetest.Programs()), vnet.New(vnet.Config{})
	m, err := pods.New(pods.Config{
		Runtime: func(context.Context, string) (runtime.Runtime, error) { return rt, nil },
		Network: network, CIDR: netip.MustParsePrefix("10.0.0.0/8"), Objects: w, Holder: s, Volumes: volumes,
		Prober: probe.New(network), Logs: store, Reporter: s, Recorder: s, HostIP: "192.0.2.1",
	})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = m.Run(ctx) }()
	m.Synced()
	b.Cleanup(func() { cancel(); <-done })
	return m, s
}

// BenchmarkReady is the node's part of a pod's start: from the watch event to
// the report that it is ready, with a runtime that costs nothing.
func BenchmarkReady(b *testing.B) {
	for _, row := range []struct {
		name   string
		change func(*v1.Pod)
	}{
		{"plain", func(*v1.Pod) {}},
		{"port", func(p *v1.Pod) { p.Spec.Containers[0].Ports = []v1.ContainerPort{{ContainerPort: 80}} }},
		{"emptyDir", func(p *v1.Pod) {
			p.Spec.Volumes = []v1.Volume{{Name: "v", VolumeSource: v1.VolumeSource{EmptyDir: &v1.EmptyDirVolumeSource{}}}}
			p.Spec.Containers[0].VolumeMounts = []v1.VolumeMount{{Name: "v", MountPath: "/v"}}
		}},
	} {
		b.Run(row.name, func(b *testing.B) {
			m, s := newBench(b)
			i := 0
			for b.Loop() {
				p := pod(fmt.Sprint("p", i), "server:v1", row.change)
				i++
				m.Set(p)
				<-s.ready
			}
		})
	}
}

// BenchmarkReadyAtOnce is the same for pods that come all at once.
func BenchmarkReadyAtOnce(b *testing.B) {
	m, s := newBench(b)
	b.ReportAllocs()
	b.ResetTimer()
	for i := range b.N {
		m.Set(pod(fmt.Sprint("p", i), "server:v1"))
	}
	seen := map[types.UID]bool{}
	for len(seen) < b.N {
		seen[<-s.ready] = true
	}
}
