package node

import (
	goruntime "runtime"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// machine is what a node has, measured once.
type machine struct {
	capacity v1.ResourceList
	info     v1.NodeSystemInfo
}

// measure finds what the machine has, unless the configuration says it.
func measure(cfg Config) machine {
	_, disk := diskBytes(cfg.Dir)
	m := machine{capacity: v1.ResourceList{
		v1.ResourceCPU:              *resource.NewQuantity(int64(goruntime.NumCPU()), resource.DecimalSI),
		v1.ResourceMemory:           *resource.NewQuantity(memoryBytes(), resource.BinarySI),
		v1.ResourceEphemeralStorage: *resource.NewQuantity(disk, resource.BinarySI),
		v1.ResourcePods:             *resource.NewQuantity(cfg.MaxPods, resource.DecimalSI),
	}}
	for name, q := range cfg.Capacity {
		m.capacity[name] = q
	}
	m.info = systemInfo()
	m.info.KubeletVersion, m.info.ContainerRuntimeVersion = cfg.Version, cfg.Runtime
	m.info.OperatingSystem, m.info.Architecture = goruntime.GOOS, goruntime.GOARCH
	return m
}

// load is what the machine has left now; negative means that nobody knows.
type load struct {
	memoryFree     int64 // bytes that programs could still have
	diskFree, disk int64 // bytes of the file system that holds the data directory
	processesFree  int64 // threads that the system would still make
}

// At which load a node is under pressure, as the kubelet's default eviction
// thresholds have it.
const (
	leastMemory    = 100 << 20
	leastDiskPart  = 10 // per cent
	leastProcesses = 100
)

// conditions are what a node says of its load. ready is nil, or why it is not.
func conditions(l load, ready error) []v1.NodeCondition {
	pick := func(kind v1.NodeConditionType, pressed bool, no, yes v1.NodeCondition) v1.NodeCondition {
		c := no
		c.Status = v1.ConditionFalse
		if pressed {
			c = yes
			c.Status = v1.ConditionTrue
		}
		c.Type = kind
		return c
	}
	all := []v1.NodeCondition{
		pick(v1.NodeMemoryPressure, l.memoryFree >= 0 && l.memoryFree < leastMemory,
			v1.NodeCondition{Reason: "KubeletHasSufficientMemory", Message: "kubelet has sufficient memory available"},
			v1.NodeCondition{Reason: "KubeletHasInsufficientMemory", Message: "kubelet has insufficient memory available"}),
		pick(v1.NodeDiskPressure, l.disk > 0 && l.diskFree*100 < l.disk*leastDiskPart,
			v1.NodeCondition{Reason: "KubeletHasNoDiskPressure", Message: "kubelet has no disk pressure"},
			v1.NodeCondition{Reason: "KubeletHasDiskPressure", Message: "kubelet has disk pressure"}),
		pick(v1.NodePIDPressure, l.processesFree >= 0 && l.processesFree < leastProcesses,
			v1.NodeCondition{Reason: "KubeletHasSufficientPID", Message: "kubelet has sufficient PID available"},
			v1.NodeCondition{Reason: "KubeletHasInsufficientPID", Message: "kubelet has insufficient PID available"}),
		{Type: v1.NodeReady, Status: v1.ConditionTrue, Reason: "KubeletReady", Message: "kubelet is posting ready status"},
	}
	if ready != nil {
		c := &all[len(all)-1]
		c.Status, c.Reason, c.Message = v1.ConditionFalse, "KubeletNotReady", ready.Error()
	}
	return all
}

// merge lays what a node says now over the conditions that are there: those of
// others stay, and a condition that did not change keeps its time.
func merge(there, ours []v1.NodeCondition, now metav1.Time) []v1.NodeCondition {
	var out []v1.NodeCondition
	old := map[v1.NodeConditionType]v1.NodeCondition{}
	for _, c := range there {
		old[c.Type] = c
	}
	for _, c := range ours {
		c.LastHeartbeatTime, c.LastTransitionTime = now, now
		if o, ok := old[c.Type]; ok && o.Status == c.Status {
			c.LastTransitionTime = o.LastTransitionTime
		}
		delete(old, c.Type)
		out = append(out, c)
	}
	for _, c := range there {
		if _, foreign := old[c.Type]; foreign {
			out = append(out, c)
		}
	}
	return out
}

// changed says whether two lists of conditions differ in more than their times.
func changed(a, b []v1.NodeCondition) bool {
	if len(a) != len(b) {
		return true
	}
	for i := range a {
		x, y := a[i], b[i]
		if x.Type != y.Type || x.Status != y.Status || x.Reason != y.Reason || x.Message != y.Message {
			return true
		}
	}
	return false
}
