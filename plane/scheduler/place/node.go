package place

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"
	"k8s.io/klog/v2"
)

// node is a node with what its pods take. It may hold pods before it is there
// itself: then object is nil and nothing is placed on it.
type node struct {
	name   string
	object *corev1.Node
	at     int // in Cluster.nodes

	all    amounts
	slots  int64 // pods that it may hold
	images map[string]struct{}
	hard   []corev1.Taint // that keep pods away
	soft   []corev1.Taint // that only discourage

	used   amounts
	scored amounts
	pods   int64
	ports  []port
}

func (n *node) set(o *corev1.Node) {
	n.object = o
	n.all = amountsOf(o.Status.Allocatable)
	slots := o.Status.Allocatable[corev1.ResourcePods]
	n.slots = slots.Value()
	n.images = map[string]struct{}{}
	for _, image := range o.Status.Images {
		for _, name := range image.Names {
			n.images[name] = struct{}{}
		}
	}
	n.hard, n.soft = nil, nil
	for _, t := range o.Spec.Taints {
		if t.Effect == corev1.TaintEffectPreferNoSchedule {
			n.soft = append(n.soft, t)
		} else {
			n.hard = append(n.hard, t)
		}
	}
}

// sameForPlacement tells whether nothing that placement looks at differs. Nodes
// report every few seconds; almost all of that is this.
func sameForPlacement(a, b *corev1.Node) bool {
	return a.Spec.Unschedulable == b.Spec.Unschedulable &&
		slices.EqualFunc(a.Spec.Taints, b.Spec.Taints, func(x, y corev1.Taint) bool { return x.Key == y.Key && x.Value == y.Value && x.Effect == y.Effect }) &&
		labels.Equals(a.Labels, b.Labels) && sameResources(a.Status.Allocatable, b.Status.Allocatable) &&
		slices.EqualFunc(a.Status.Images, b.Status.Images, func(x, y corev1.ContainerImage) bool { return slices.Equal(x.Names, y.Names) })
}

func sameResources(a, b corev1.ResourceList) bool {
	if len(a) != len(b) {
		return false
	}
	for name, q := range a {
		if other, ok := b[name]; !ok || q.Cmp(other) != 0 {
			return false
		}
	}
	return true
}

// hold counts times pods of a class in or out.
func (n *node) hold(k *Class, times int64) {
	n.used.add(&k.wants, times)
	n.scored.add(&k.scored, times)
	n.pods += times
	for range times {
		n.ports = append(n.ports, k.ports...)
	}
	for range -times {
		for _, p := range k.ports {
			if at := slices.Index(n.ports, p); at >= 0 {
				n.ports = slices.Delete(n.ports, at, at+1)
			}
		}
	}
}

// label is the node's value of a topology key.
func (n *node) label(key string) (string, bool) {
	v, ok := n.object.Labels[key]
	return v, ok
}

func (n *node) portsFree(k *Class) bool {
	for _, p := range k.ports {
		if slices.ContainsFunc(n.ports, p.clashes) {
			return false
		}
	}
	return true
}

func (k *Class) tolerates(t *corev1.Taint) bool {
	for i := range k.tolerations {
		if k.tolerations[i].ToleratesTaint(klog.Background(), t, false) {
			return true
		}
	}
	return false
}

var unschedulable = corev1.Taint{Key: corev1.TaintNodeUnschedulable, Effect: corev1.TaintEffectNoSchedule}

func newMilli(n int64) *resource.Quantity { return resource.NewMilliQuantity(n, resource.DecimalSI) }
func newBytes(n int64) *resource.Quantity { return resource.NewQuantity(n, resource.BinarySI) }

func requirement(key string, op metav1.LabelSelectorOperator, value string) (*labels.Requirement, error) {
	if op == metav1.LabelSelectorOpNotIn {
		return labels.NewRequirement(key, selection.NotIn, []string{value})
	}
	return labels.NewRequirement(key, selection.In, []string{value})
}
