package place

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	nodev1 "k8s.io/api/node/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestPodGoesWhereItMayAndTheRestIsExplained(t *testing.T) {
	a, b := newNode("a"), newNode("b")
	required := func(op corev1.NodeSelectorOperator, values ...string) func(*corev1.Pod) {
		return func(p *corev1.Pod) {
			affinity(p).NodeAffinity = &corev1.NodeAffinity{RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{
				NodeSelectorTerms: []corev1.NodeSelectorTerm{{MatchExpressions: []corev1.NodeSelectorRequirement{{Key: "disk", Operator: op, Values: values}}}},
			}}
		}
	}
	overhead := func(p *corev1.Pod) { p.Spec.Overhead = resources("cpu=3") }
	for _, row := range []struct {
		name  string
		nodes []*corev1.Node
		there map[string]*corev1.Pod // node → pod that is already on it
		pod   *corev1.Pod
		want  string // node, or the failure
	}{
		{"no nodes", nil, nil, newPod(), "no nodes available to schedule pods"},
		{"any node", []*corev1.Node{a}, nil, newPod(), "a"},
		{"cpu", []*corev1.Node{a, b}, nil, newPod(wants("cpu=5")), "0/2 nodes are available: 2 Insufficient cpu."},
		{"cpu that others took", []*corev1.Node{a, b}, map[string]*corev1.Pod{"a": newPod(wants("cpu=3"))}, newPod(wants("cpu=2")), "b"},
		{"memory and cpu", []*corev1.Node{a}, nil, newPod(wants("cpu=5", "memory=9Gi")), "0/1 nodes are available: 1 Insufficient cpu, 1 Insufficient memory."},
		{"ephemeral storage", []*corev1.Node{a}, nil, newPod(wants("ephemeral-storage=1Gi")), "0/1 nodes are available: 1 Insufficient ephemeral-storage."},
		{"extended resource", []*corev1.Node{a, newNode("gpu", allocatable("example.com/gpu=2"))}, nil, newPod(wants("example.com/gpu=2")), "gpu"},
		{"extended resource in use", []*corev1.Node{newNode("gpu", allocatable("example.com/gpu=2"))}, map[string]*corev1.Pod{"gpu": newPod(wants("example.com/gpu=1"))},
			newPod(wants("example.com/gpu=2")), "0/1 nodes are available: 1 Insufficient example.com/gpu."},
		{"number of pods", []*corev1.Node{newNode("a", allocatable("pods=1"))}, map[string]*corev1.Pod{"a": newPod()}, newPod(), "0/1 nodes are available: 1 Too many pods."},
		{"no request needs no room", []*corev1.Node{newNode("a", allocatable("cpu=1"))}, map[string]*corev1.Pod{"a": newPod(wants("cpu=1"))}, newPod(), "a"},
		{"overhead counts", []*corev1.Node{a}, nil, newPod(wants("cpu=2"), overhead), "0/1 nodes are available: 1 Insufficient cpu."},
		{"cordoned", []*corev1.Node{newNode("a", cordoned), b}, nil, newPod(), "b"},
		{"all cordoned", []*corev1.Node{newNode("a", cordoned)}, nil, newPod(), "0/1 nodes are available: 1 node(s) were unschedulable."},
		{"cordoned but tolerated", []*corev1.Node{newNode("a", cordoned)}, nil, newPod(tolerate(corev1.TaintNodeUnschedulable)), "a"},
		{"taint", []*corev1.Node{newNode("a", taint("team", "x", corev1.TaintEffectNoSchedule)), newNode("b", taint("team", "x", corev1.TaintEffectNoExecute))}, nil, newPod(),
			"0/2 nodes are available: 2 node(s) had untolerated taint {team: x}."},
		{"tolerated taint", []*corev1.Node{newNode("a", taint("team", "x", corev1.TaintEffectNoSchedule))}, nil, newPod(tolerate("team")), "a"},
		{"soft taint only discourages", []*corev1.Node{newNode("a", taint("team", "x", corev1.TaintEffectPreferNoSchedule)), b}, nil, newPod(), "b"},
		{"node selector", []*corev1.Node{a, newNode("b", label("disk", "ssd"))}, nil, newPod(nodeSelector("disk", "ssd")), "b"},
		{"node selector of none", []*corev1.Node{a}, nil, newPod(nodeSelector("disk", "ssd")), "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector."},
		{"required node affinity", []*corev1.Node{newNode("a", label("disk", "ssd")), newNode("b", label("disk", "hdd"))}, nil, newPod(required(corev1.NodeSelectorOpNotIn, "ssd")), "b"},
		{"host port", []*corev1.Node{a, b}, map[string]*corev1.Pod{"a": newPod(hostPort(80))}, newPod(hostPort(80)), "b"},
		{"host port taken", []*corev1.Node{a}, map[string]*corev1.Pod{"a": newPod(hostPort(80))}, newPod(hostPort(80)), "0/1 nodes are available: 1 node(s) didn't have free ports for the requested pod ports."},
		{"pod affinity", []*corev1.Node{newNode("a", zone("x")), newNode("b", zone("y"))}, map[string]*corev1.Pod{"b": newPod(app("db"))}, newPod(near("db", corev1.LabelTopologyZone)), "b"},
		{"pod affinity to none", []*corev1.Node{newNode("a", zone("x"))}, nil, newPod(near("db", corev1.LabelTopologyZone)), "0/1 nodes are available: 1 node(s) didn't match pod affinity rules."},
		{"pod affinity to itself: the first goes anywhere", []*corev1.Node{newNode("a", zone("x"))}, nil, newPod(near("web", corev1.LabelTopologyZone)), "a"},
		{"pod affinity without the key", []*corev1.Node{a}, nil, newPod(near("web", corev1.LabelTopologyZone)), "0/1 nodes are available: 1 node(s) didn't match pod affinity rules."},
		{"pod anti-affinity", []*corev1.Node{newNode("a", zone("x")), newNode("b", zone("x")), newNode("c", zone("y"))}, map[string]*corev1.Pod{"a": newPod(app("db"))},
			newPod(apart("db", corev1.LabelTopologyZone)), "c"},
		{"pod anti-affinity everywhere", []*corev1.Node{a}, map[string]*corev1.Pod{"a": newPod(app("db"))}, newPod(apart("db", corev1.LabelHostname)),
			"0/1 nodes are available: 1 node(s) didn't match pod anti-affinity rules."},
		{"anti-affinity of a pod that is there", []*corev1.Node{a}, map[string]*corev1.Pod{"a": newPod(app("db"), apart("web", corev1.LabelHostname))}, newPod(),
			"0/1 nodes are available: 1 node(s) didn't satisfy existing pods anti-affinity rules."},
		{"topology spread", []*corev1.Node{newNode("a", zone("x")), newNode("b", zone("y"))}, map[string]*corev1.Pod{"a": newPod()}, newPod(spreadBy(corev1.LabelTopologyZone, 1, true)), "b"},
		{"topology spread without room", []*corev1.Node{newNode("a", zone("x")), newNode("b", zone("y"), cordoned)}, map[string]*corev1.Pod{"a": newPod()}, newPod(spreadBy(corev1.LabelTopologyZone, 1, true)),
			"0/2 nodes are available: 1 node(s) didn't match pod topology spread constraints, 1 node(s) were unschedulable."},
		{"topology spread without the key", []*corev1.Node{a}, nil, newPod(spreadBy(corev1.LabelTopologyZone, 1, true)),
			"0/1 nodes are available: 1 node(s) didn't match pod topology spread constraints (missing required label)."},
		{"many reasons, sorted", []*corev1.Node{newNode("a", cordoned), newNode("b", taint("k", "v", corev1.TaintEffectNoSchedule)), newNode("c", taint("k", "v", corev1.TaintEffectNoSchedule)), newNode("d")}, nil, newPod(wants("cpu=9")),
			"0/4 nodes are available: 1 Insufficient cpu, 1 node(s) were unschedulable, 2 node(s) had untolerated taint {k: v}."},
	} {
		t.Run(row.name, func(t *testing.T) {
			c := cluster(row.nodes...)
			for name, p := range row.there {
				c.Assign(c.Class(p), name)
			}
			nodes, failure := c.Place(c.Class(row.pod), 1)
			got := strings.Join(nodes, " ")
			if failure != nil {
				got = failure.Error()
			}
			if got != row.want {
				t.Errorf("got %q, want %q", got, row.want)
			}
		})
	}
}

func TestPodsOfOneClassAreSpreadAsTheirTemplateAsks(t *testing.T) {
	three := []*corev1.Node{newNode("a"), newNode("b"), newNode("c")}
	zones := []*corev1.Node{newNode("a", zone("x")), newNode("b", zone("x")), newNode("c", zone("y"))}
	for _, row := range []struct {
		name  string
		nodes []*corev1.Node
		pod   *corev1.Pod
		n     int
		want  string
		fails bool
	}{
		{"replicas of one owner by node", three, newPod(owned("rs")), 9, "a=3 b=3 c=3", false},
		{"until it is full, then the others", []*corev1.Node{newNode("a", allocatable("cpu=1")), newNode("b")}, newPod(owned("rs"), wants("cpu=500m")), 6, "a=2 b=4", false},
		{"as many as fit", three, newPod(owned("rs"), wants("cpu=1500m")), 10, "a=2 b=2 c=2", true},
		{"hard spread over nodes", three, newPod(spreadBy(corev1.LabelHostname, 1, true)), 6, "a=2 b=2 c=2", false},
		{"hard spread over zones", zones, newPod(spreadBy(corev1.LabelTopologyZone, 1, true), wants("cpu=100m")), 8, "a=2 b=2 c=4", false},
		{"hard spread over zones and nodes", zones, newPod(spreadBy(corev1.LabelTopologyZone, 1, true), spreadBy(corev1.LabelHostname, 1, true)), 4, "a=1 b=1 c=2", false},
		{"hard spread stops when a zone is full", []*corev1.Node{newNode("a", zone("x")), newNode("b", zone("y"), allocatable("pods=1"))}, newPod(spreadBy(corev1.LabelTopologyZone, 1, true)), 5, "a=2 b=1", true},
		{"soft spread over zones", zones, newPod(spreadBy(corev1.LabelTopologyZone, 1, false), wants("cpu=10m")), 8, "a=2 b=2 c=4", false},
		{"one a node", three, newPod(apart("web", corev1.LabelHostname)), 4, "a=1 b=1 c=1", true},
		{"one a zone", zones, newPod(apart("web", corev1.LabelTopologyZone)), 3, "", true},
		{"all in the zone of the first", zones, newPod(near("web", corev1.LabelTopologyZone), wants("cpu=1")), 8, "a=4 b=4", false},
		{"host ports", three, newPod(hostPort(80)), 4, "a=1 b=1 c=1", true},
	} {
		t.Run(row.name, func(t *testing.T) {
			c := cluster(row.nodes...)
			nodes, failure := c.Place(c.Class(row.pod), row.n)
			if got := counts(nodes); row.want != "" && got != row.want {
				t.Errorf("got %q, want %q", got, row.want)
			}
			if (failure != nil) != row.fails {
				t.Errorf("got failure %v, want one: %v", failure, row.fails)
			}
			if !row.fails && len(nodes) != row.n {
				t.Errorf("got %d placed, want %d", len(nodes), row.n)
			}
		})
	}
}

func TestOneBatchEndsLikeManySteps(t *testing.T) {
	for _, pod := range []*corev1.Pod{
		newPod(owned("rs"), wants("cpu=100m")),
		newPod(spreadBy(corev1.LabelTopologyZone, 2, true), spreadBy(corev1.LabelHostname, 1, true)),
		newPod(spreadBy(corev1.LabelTopologyZone, 1, false), wants("cpu=50m", "memory=1Gi")),
	} {
		build := func() *Cluster {
			c := New()
			for i := range 12 {
				c.SetNode(newNode(fmt.Sprint("n", i), zone(fmt.Sprint("z", i%3)), allocatable(fmt.Sprintf("cpu=%d", 1+i%4))))
			}
			return c
		}
		batch, single := build(), build()
		all, _ := batch.Place(batch.Class(pod), 30)
		k := single.Class(pod)
		var steps []string
		for range 30 {
			nodes, _ := single.Place(k, 1)
			steps = append(steps, nodes...)
		}
		if zones(all) != zones(steps) {
			t.Errorf("got %s in one batch, %s one by one", zones(all), zones(steps))
		}
	}
}

// zones renders how many pods the zones of n0, n1, … got: equal nodes may swap.
func zones(nodes []string) string {
	var list []string
	for _, name := range nodes {
		i, _ := strconv.Atoi(name[1:])
		list = append(list, fmt.Sprint("z", i%3))
	}
	return counts(list)
}

func TestPreferencesOutweighEmptiness(t *testing.T) {
	prefers := func(p *corev1.Pod) {
		affinity(p).NodeAffinity = &corev1.NodeAffinity{PreferredDuringSchedulingIgnoredDuringExecution: []corev1.PreferredSchedulingTerm{{
			Weight: 10, Preference: corev1.NodeSelectorTerm{MatchExpressions: []corev1.NodeSelectorRequirement{{Key: "disk", Operator: corev1.NodeSelectorOpIn, Values: []string{"ssd"}}}},
		}}}
	}
	likes := func(p *corev1.Pod) {
		affinity(p).PodAffinity = &corev1.PodAffinity{PreferredDuringSchedulingIgnoredDuringExecution: []corev1.WeightedPodAffinityTerm{{Weight: 50, PodAffinityTerm: podTerm("db", corev1.LabelHostname)}}}
	}
	dislikes := func(p *corev1.Pod) {
		affinity(p).PodAntiAffinity = &corev1.PodAntiAffinity{PreferredDuringSchedulingIgnoredDuringExecution: []corev1.WeightedPodAffinityTerm{{Weight: 50, PodAffinityTerm: podTerm("db", corev1.LabelHostname)}}}
	}
	module := func(n *corev1.Node) {
		n.Status.Images = []corev1.ContainerImage{{Names: []string{"hello:latest"}}}
	}
	for _, row := range []struct {
		name  string
		nodes []*corev1.Node
		pod   *corev1.Pod
		want  string
	}{
		{"node affinity", []*corev1.Node{newNode("a"), newNode("b", label("disk", "ssd"))}, newPod(prefers), "b"},
		{"likes others", []*corev1.Node{newNode("a"), newNode("b")}, newPod(likes), "b"},
		{"dislikes others", []*corev1.Node{newNode("a"), newNode("b")}, newPod(dislikes), "a"},
		{"where its module is", []*corev1.Node{newNode("a"), newNode("b", module)}, newPod(), "b"},
	} {
		t.Run(row.name, func(t *testing.T) {
			c := cluster(row.nodes...)
			c.Assign(c.Class(newPod(app("db"), wants("cpu=500m", "memory=1Gi"))), "b")
			if nodes, failure := c.Place(c.Class(row.pod), 1); failure != nil || nodes[0] != row.want {
				t.Errorf("got %v %v, want %s", nodes, failure, row.want)
			}
		})
	}
}

func TestAffinityTermsReachTheNamespacesTheyName(t *testing.T) {
	elsewhere := newPod(app("db"), func(p *corev1.Pod) { p.Namespace = "data" })
	for _, row := range []struct {
		name   string
		change func(*corev1.PodAffinityTerm)
		want   bool
	}{
		{"its own only", func(*corev1.PodAffinityTerm) {}, false},
		{"named", func(t *corev1.PodAffinityTerm) { t.Namespaces = []string{"data"} }, true},
		{"by label", func(t *corev1.PodAffinityTerm) {
			t.NamespaceSelector = &metav1.LabelSelector{MatchLabels: map[string]string{"kind": "storage"}}
		}, true},
		{"by another label", func(t *corev1.PodAffinityTerm) {
			t.NamespaceSelector = &metav1.LabelSelector{MatchLabels: map[string]string{"kind": "other"}}
		}, false},
		{"all", func(t *corev1.PodAffinityTerm) { t.NamespaceSelector = &metav1.LabelSelector{} }, true},
	} {
		t.Run(row.name, func(t *testing.T) {
			c := cluster(newNode("a"))
			c.SetNamespace("data", map[string]string{"kind": "storage"})
			c.Assign(c.Class(elsewhere), "a")
			pod := newPod(near("db", corev1.LabelHostname))
			row.change(&pod.Spec.Affinity.PodAffinity.RequiredDuringSchedulingIgnoredDuringExecution[0])
			if nodes, _ := c.Place(c.Class(pod), 1); (len(nodes) == 1) != row.want {
				t.Errorf("got %v, want placed: %v", nodes, row.want)
			}
		})
	}
}

func TestRuntimeClassNarrowsTheNodesAndAddsOverhead(t *testing.T) {
	c := cluster(newNode("a"), newNode("b", label("runtime", "wasm"), taint("wasm", "only", corev1.TaintEffectNoSchedule)))
	c.SetRuntimeClass(&nodev1.RuntimeClass{
		ObjectMeta: metav1.ObjectMeta{Name: "wasm"}, Handler: "wasm", Overhead: &nodev1.Overhead{PodFixed: resources("cpu=1")},
		Scheduling: &nodev1.Scheduling{NodeSelector: map[string]string{"runtime": "wasm"}, Tolerations: []corev1.Toleration{{Key: "wasm", Operator: corev1.TolerationOpExists}}},
	})
	name := "wasm"
	pod := newPod(wants("cpu=1"), func(p *corev1.Pod) { p.Spec.RuntimeClassName = &name })
	nodes, failure := c.Place(c.Class(pod), 5)
	if counts(nodes) != "b=2" || failure == nil {
		t.Errorf("got %s %v, want two on b, which then is full", counts(nodes), failure)
	}
}

func TestReleasedRoomIsFoundAgain(t *testing.T) {
	c := cluster(newNode("a"))
	k := c.Class(newPod(wants("cpu=4")))
	if nodes, _ := c.Place(k, 1); len(nodes) != 1 {
		t.Fatal("the first pod found no node")
	}
	if got := c.Room(k, "a", 9); got != 0 {
		t.Errorf("got room for %d, want none", got)
	}
	c.Release(k, "a")
	if got := c.Room(k, "a", 9); got != 1 {
		t.Errorf("got room for %d, want 1", got)
	}
}

func TestHeartbeatOfANodeChangesNothing(t *testing.T) {
	c := cluster(newNode("a"))
	beat := newNode("a")
	beat.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, LastHeartbeatTime: metav1.Now()}}
	if c.SetNode(beat) {
		t.Error("got a change from a heartbeat")
	}
	if !c.SetNode(newNode("a", cordoned)) || !c.SetNode(newNode("a", allocatable("cpu=8"))) {
		t.Error("got no change from a cordon or more room")
	}
}

func TestNodeThatComesBackStillHoldsItsPods(t *testing.T) {
	c := cluster(newNode("a"))
	k := c.Class(newPod(wants("cpu=3")))
	c.Assign(k, "a")
	c.RemoveNode("a")
	if _, failure := c.Place(k, 1); failure == nil || failure.Nodes != 0 {
		t.Errorf("got %v, want no nodes", failure)
	}
	c.SetNode(newNode("a"))
	if _, failure := c.Place(k, 1); failure == nil || failure.Causes != CauseRoom {
		t.Errorf("got %v, want no room", failure)
	}
}

func TestLargeClusterIsSampledButNeverMissesTheOneNodeThatFits(t *testing.T) {
	c := New()
	for i := range 2000 {
		c.SetNode(newNode(fmt.Sprint("n", i), allocatable("cpu=1")))
	}
	c.SetNode(newNode("big"))
	for range 3 {
		c.start += 777
		k := c.Class(newPod(wants("cpu=1100m")))
		nodes, failure := c.Place(k, 1)
		if failure != nil || nodes[0] != "big" {
			t.Errorf("got %v %v, want big", nodes, failure)
		}
		c.Release(k, "big")
	}
	k := c.Class(newPod(owned("rs"), wants("cpu=1")))
	if nodes, failure := c.Place(k, 2001); failure != nil {
		t.Errorf("got %d placed, %v, want a pod on every node", len(nodes), failure)
	}
}
