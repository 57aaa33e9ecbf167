package place

import (
	"fmt"
	"math/rand"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

// naive is the scheduler that anyone would write first: a list of nodes, a list
// of pods on them, and every rule checked from scratch for each pod.
type naive struct {
	nodes []*corev1.Node
	pods  []placement
}

type placement struct {
	pod  *corev1.Pod
	node *corev1.Node
}

func cpuOf(p *corev1.Pod) int64 { return p.Spec.Containers[0].Resources.Requests.Cpu().MilliValue() }

// matching counts pods with the app of a term by the value of a topology key.
func (s *naive) matching(key, app string) map[string]int {
	n := map[string]int{}
	for _, p := range s.pods {
		if p.pod.Labels["app"] == app {
			n[p.node.Labels[key]]++
		}
	}
	return n
}

func (s *naive) admits(n *corev1.Node, p *corev1.Pod) bool {
	if n.Spec.Unschedulable || len(n.Spec.Taints) > 0 {
		return false
	}
	for k, v := range p.Spec.NodeSelector {
		if n.Labels[k] != v {
			return false
		}
	}
	return true
}

func (s *naive) feasible(n *corev1.Node, p *corev1.Pod) bool {
	if !s.admits(n, p) || !s.fits(n, p) {
		return false
	}
	for _, c := range p.Spec.TopologySpreadConstraints {
		if c.WhenUnsatisfiable == corev1.DoNotSchedule && !s.evenWith(n, p, c) {
			return false
		}
	}
	if a := p.Spec.Affinity; a != nil && a.PodAntiAffinity != nil {
		for _, t := range a.PodAntiAffinity.RequiredDuringSchedulingIgnoredDuringExecution {
			if s.matching(t.TopologyKey, t.LabelSelector.MatchLabels["app"])[n.Labels[t.TopologyKey]] > 0 {
				return false
			}
		}
	}
	if a := p.Spec.Affinity; a != nil && a.PodAffinity != nil {
		for _, t := range a.PodAffinity.RequiredDuringSchedulingIgnoredDuringExecution {
			app := t.LabelSelector.MatchLabels["app"]
			counts := s.matching(t.TopologyKey, app)
			if counts[n.Labels[t.TopologyKey]] == 0 && (len(counts) > 0 || p.Labels["app"] != app) {
				return false
			}
		}
	}
	return s.toleratedBy(n, p)
}

func (s *naive) fits(n *corev1.Node, p *corev1.Pod) bool {
	used, count := cpuOf(p), int64(1)
	for _, other := range s.pods {
		if other.node == n {
			used += cpuOf(other.pod)
			count++
			for _, port := range other.pod.Spec.Containers[0].Ports {
				for _, mine := range p.Spec.Containers[0].Ports {
					if port.HostPort == mine.HostPort {
						return false
					}
				}
			}
		}
	}
	return (cpuOf(p) == 0 || used <= n.Status.Allocatable.Cpu().MilliValue()) && count <= n.Status.Allocatable.Pods().Value()
}

// evenWith leaves out nodes that the pod's selector excludes, and the pods there.
func (s *naive) evenWith(n *corev1.Node, p *corev1.Pod, c corev1.TopologySpreadConstraint) bool {
	app := c.LabelSelector.MatchLabels["app"]
	counts, self := map[string]int{}, 0
	counted := func(n *corev1.Node) bool {
		return len(p.Spec.NodeSelector) == 0 || n.Labels["disk"] == p.Spec.NodeSelector["disk"]
	}
	for _, other := range s.nodes {
		if counted(other) {
			counts[other.Labels[c.TopologyKey]] += 0
		}
	}
	for _, other := range s.pods {
		if other.pod.Labels["app"] == app && counted(other.node) {
			counts[other.node.Labels[c.TopologyKey]]++
		}
	}
	least := 1 << 30
	for _, count := range counts {
		least = min(least, count)
	}
	if p.Labels["app"] == app {
		self = 1
	}
	return counts[n.Labels[c.TopologyKey]]+self-least <= int(c.MaxSkew)
}

// toleratedBy asks the pods that are there.
func (s *naive) toleratedBy(n *corev1.Node, p *corev1.Pod) bool {
	for _, other := range s.pods {
		a := other.pod.Spec.Affinity
		if a == nil || a.PodAntiAffinity == nil {
			continue
		}
		for _, t := range a.PodAntiAffinity.RequiredDuringSchedulingIgnoredDuringExecution {
			if t.LabelSelector.MatchLabels["app"] == p.Labels["app"] && n.Labels[t.TopologyKey] == other.node.Labels[t.TopologyKey] {
				return false
			}
		}
	}
	return true
}

func randomNodes(r *rand.Rand) []*corev1.Node {
	nodes := make([]*corev1.Node, 1+r.Intn(12))
	for i := range nodes {
		nodes[i] = newNode(fmt.Sprintf("n%02d", i), zone(fmt.Sprint("z", r.Intn(3))), label("disk", []string{"ssd", "hdd"}[r.Intn(2)]),
			allocatable(fmt.Sprintf("cpu=%d", 1+r.Intn(4)), fmt.Sprintf("pods=%d", 2+r.Intn(10))))
		switch r.Intn(8) {
		case 0:
			cordoned(nodes[i])
		case 1:
			taint("k", "v", corev1.TaintEffectNoSchedule)(nodes[i])
		}
	}
	return nodes
}

func randomPod(r *rand.Rand, i int) *corev1.Pod {
	apps, keys := []string{"a", "b", "c"}, []string{corev1.LabelHostname, corev1.LabelTopologyZone}
	pick := func(list []string) string { return list[r.Intn(len(list))] }
	own := pick(apps)
	p := newPod(app(own), owned(fmt.Sprint("rs", i)), wants(fmt.Sprintf("cpu=%dm", 100*r.Intn(10))))
	for range r.Intn(3) {
		switch r.Intn(5) {
		case 0:
			nodeSelector("disk", pick([]string{"ssd", "hdd"}))(p)
		case 1:
			apart(pick(apps), pick(keys))(p)
		case 2:
			near(pick(apps), pick(keys))(p)
		case 3:
			spreadBy(pick(keys), int32(1+r.Intn(3)), r.Intn(3) > 0)(p)
			last := len(p.Spec.TopologySpreadConstraints) - 1
			p.Spec.TopologySpreadConstraints[last].LabelSelector.MatchLabels["app"] = pick([]string{own, pick(apps)})
		case 4:
			hostPort(int32(80 + r.Intn(2)))(p)
		}
	}
	return p
}

func TestEveryStepIsOneThatTheNaiveSchedulerAllows(t *testing.T) {
	for seed := range int64(1500) {
		r := rand.New(rand.NewSource(seed))
		nodes := randomNodes(r)
		c, s := cluster(nodes...), &naive{nodes: nodes}
		byName := map[string]*corev1.Node{}
		for _, n := range nodes {
			byName[n.Name] = n
		}
		for i := range 6 {
			p, want := randomPod(r, i), 1+r.Intn(8)
			got, failure := c.Place(c.Class(p), want)
			for step, name := range got {
				n := byName[name]
				if !s.feasible(n, p) {
					t.Fatalf("seed %d, class %d, step %d: got %s, which does not allow it", seed, i, step, name)
				}
				s.pods = append(s.pods, placement{p, n})
			}
			if failure == nil && len(got) != want {
				t.Fatalf("seed %d, class %d: got %d of %d and no failure", seed, i, len(got), want)
			}
			if failure == nil {
				continue
			}
			for _, n := range nodes {
				if s.feasible(n, p) {
					t.Fatalf("seed %d, class %d: got %v, but %s would take it", seed, i, failure, n.Name)
				}
			}
			total := 0
			for _, n := range failure.Reasons {
				total += n
			}
			if total < len(nodes) {
				t.Fatalf("seed %d, class %d: got reasons for %d of %d nodes: %v", seed, i, total, len(nodes), failure)
			}
		}
		releaseAll(t, r, c, s)
	}
}

// releaseAll takes every pod off again and looks whether anything is left.
func releaseAll(t *testing.T, r *rand.Rand, c *Cluster, s *naive) {
	r.Shuffle(len(s.pods), func(i, j int) { s.pods[i], s.pods[j] = s.pods[j], s.pods[i] })
	for _, p := range s.pods {
		k := c.Class(p.pod)
		c.Release(k, p.node.Name)
		c.Drop(k)
	}
	for _, n := range c.nodes {
		if n.pods != 0 || n.used.cpu != 0 || len(n.ports) != 0 {
			t.Fatalf("got %d pods, %dm CPU, ports %v left on node %s, want nothing", n.pods, n.used.cpu, n.ports, n.name)
		}
	}
}

func Example() {
	c := New()
	for _, name := range []string{"a", "b"} {
		c.SetNode(newNode(name))
	}
	web := c.Class(newPod(owned("web"), wants("cpu=1500m")))
	nodes, failure := c.Place(web, 5)
	fmt.Println(counts(nodes))
	fmt.Println(failure)
	// Output:
	// a=2 b=2
	// 0/2 nodes are available: 2 Insufficient cpu.
}
