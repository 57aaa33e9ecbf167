// Package place decides which node each pod runs on. It is pure: a Cluster is a
// value that its owner brings up to date, and Place is a function of it. It knows
// nodes and classes of pods; it has no clock, no goroutine and no network.
//
// Filters and scores have the meaning of kube-scheduler's default plugins. The
// work is done once for a class of pods, not for each pod: of a thousand pods of
// one template, one looks at the nodes and each takes a step in a heap.
//
//	c := place.New()
//	c.SetNode(node)
//	k := c.Class(pod)
//	nodes, failure := c.Place(k, 3)
package place

import (
	"maps"

	corev1 "k8s.io/api/core/v1"
	nodev1 "k8s.io/api/node/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// Cluster is what placement depends on. It has one user at a time.
type Cluster struct {
	nodes      []*node // those that are there
	byName     map[string]*node
	classes    map[string]*Class
	keepers    map[*Class]struct{} // placed classes with required anti-affinity
	wishers    map[*Class]struct{} // placed classes with preferences about others, or required affinity
	namespaces map[string]labels.Set
	runtimes   map[string]*nodev1.RuntimeClass
	start      int        // where the next search begins, so that no node is always first
	found      candidates // room that every search uses again
}

// New is a cluster without nodes.
func New() *Cluster {
	return &Cluster{
		byName: map[string]*node{}, classes: map[string]*Class{}, keepers: map[*Class]struct{}{}, wishers: map[*Class]struct{}{},
		namespaces: map[string]labels.Set{}, runtimes: map[string]*nodev1.RuntimeClass{},
	}
}

// Nodes is the number of nodes.
func (c *Cluster) Nodes() int { return len(c.nodes) }

// SetNode adds a node or its new state. False means that nothing changed that
// placement looks at.
func (c *Cluster) SetNode(o *corev1.Node) bool {
	n := c.byName[o.Name]
	if n == nil {
		n = &node{name: o.Name}
		c.byName[o.Name] = n
	}
	if n.object == nil {
		n.at = len(c.nodes)
		c.nodes = append(c.nodes, n)
	} else if sameForPlacement(n.object, o) {
		return false
	}
	n.set(o)
	return true
}

// RemoveNode takes a node away. The pods on it still count there until they are
// released.
func (c *Cluster) RemoveNode(name string) {
	n := c.byName[name]
	if n == nil || n.object == nil {
		return
	}
	last := c.nodes[len(c.nodes)-1]
	c.nodes[n.at], last.at = last, n.at
	c.nodes = c.nodes[:len(c.nodes)-1]
	n.object = nil
	c.forget(n)
}

// forget drops a node that is not there and holds nothing.
func (c *Cluster) forget(n *node) {
	if n.object == nil && n.pods == 0 {
		delete(c.byName, n.name)
	}
}

// SetNamespace notes the labels of a namespace, by which affinity terms select;
// RemoveNamespace forgets them.
func (c *Cluster) SetNamespace(name string, l map[string]string) { c.namespaces[name] = l }

// RemoveNamespace forgets a namespace's labels.
func (c *Cluster) RemoveNamespace(name string) { delete(c.namespaces, name) }

// SetRuntimeClass notes a RuntimeClass for classes that are made from now on.
func (c *Cluster) SetRuntimeClass(rc *nodev1.RuntimeClass) { c.runtimes[rc.Name] = rc }

// RemoveRuntimeClass forgets a RuntimeClass.
func (c *Cluster) RemoveRuntimeClass(name string) { delete(c.runtimes, name) }

// Class is the class of a pod. Each call is to be followed by one Drop.
func (c *Cluster) Class(pod *corev1.Pod) *Class {
	var runtime *nodev1.RuntimeClass
	key := classKey(pod)
	if name := pod.Spec.RuntimeClassName; name != nil {
		if runtime = c.runtimes[*name]; runtime != nil {
			key += runtime.ResourceVersion // a RuntimeClass that was replaced makes new classes
		}
	}
	k := c.classes[key]
	if k == nil {
		k = newClass(key, pod, runtime)
		c.classes[key] = k
	}
	k.refs++
	return k
}

// Drop gives a class back.
func (c *Cluster) Drop(k *Class) {
	if k.refs--; k.refs == 0 {
		delete(c.classes, k.key)
	}
}

// Assign counts a pod of a class on a node, which need not be there yet.
func (c *Cluster) Assign(k *Class, name string) {
	n := c.byName[name]
	if n == nil {
		n = &node{name: name}
		c.byName[name] = n
	}
	c.assign(k, n)
}

func (c *Cluster) assign(k *Class, n *node) {
	n.hold(k, 1)
	k.on[n]++
	if len(k.apart) > 0 {
		c.keepers[k] = struct{}{}
	}
	if len(k.preferNear)+len(k.dislikes)+len(k.near) > 0 {
		c.wishers[k] = struct{}{}
	}
}

// Release takes a pod of a class off a node.
func (c *Cluster) Release(k *Class, name string) {
	n := c.byName[name]
	if n == nil || k.on[n] == 0 {
		return
	}
	n.hold(k, -1)
	if k.on[n]--; k.on[n] == 0 {
		delete(k.on, n)
	}
	if len(k.on) == 0 {
		delete(c.keepers, k)
		delete(c.wishers, k)
	}
	c.forget(n)
}

// Room is how many pods of a class a node could take, at most limit, as far as
// the node alone decides: what changed on a node is worth another try for that
// many.
func (c *Cluster) Room(k *Class, name string, limit int) int {
	if n := c.byName[name]; n != nil {
		return n.room(k, limit)
	}
	return 0
}

// Minds tells whether pods of other, being somewhere or not, may change where
// pods of k can go.
func (c *Cluster) Minds(k, other *Class) bool {
	for _, t := range k.near {
		if c.selects(&t, other) {
			return true
		}
	}
	for _, t := range k.apart {
		if c.selects(&t, other) {
			return true
		}
	}
	for i := range other.apart {
		if c.selects(&other.apart[i], k) {
			return true
		}
	}
	for _, s := range k.spread {
		if s.hard && k.namespace == other.namespace && s.selector.Matches(other.labels) {
			return true
		}
	}
	return false
}

// selects tells whether an affinity term speaks of pods of a class.
func (c *Cluster) selects(t *term, k *Class) bool {
	if _, ok := t.namespaces[k.namespace]; !ok && (t.nsSelector == nil || !t.nsSelector.Matches(c.namespaces[k.namespace])) {
		return false
	}
	return t.selector.Matches(k.labels)
}

// selectsAll tells whether every one of the terms speaks of pods of a class.
func (c *Cluster) selectsAll(terms []term, k *Class) bool {
	for i := range terms {
		if !c.selects(&terms[i], k) {
			return false
		}
	}
	return len(terms) > 0
}

// placed yields every class that has pods somewhere.
func (c *Cluster) placed(yield func(*Class) bool) {
	for k := range maps.Values(c.classes) {
		if len(k.on) > 0 && !yield(k) {
			return
		}
	}
}
