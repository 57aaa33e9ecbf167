package place

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
)

// Cause says what kind of thing kept a class from nodes, and so what may change
// it.
type Cause uint8

const (
	// CauseNode: what the node is: taints, labels, being cordoned.
	CauseNode Cause = 1 << iota
	// CauseRoom: resources, ports and pods that fit.
	CauseRoom
	// CauseOthers: where other pods run: affinity and spread.
	CauseOthers
)

// Texts of kube-scheduler's plugins.
const (
	whyUnschedulable = "node(s) were unschedulable"
	whyAffinity      = "node(s) didn't match Pod's node affinity/selector"
	whyPorts         = "node(s) didn't have free ports for the requested pod ports"
	whyFull          = "Too many pods"
	whySpread        = "node(s) didn't match pod topology spread constraints"
	whySpreadLabel   = "node(s) didn't match pod topology spread constraints (missing required label)"
	whyNear          = "node(s) didn't match pod affinity rules"
	whyApart         = "node(s) didn't match pod anti-affinity rules"
	whyOthersApart   = "node(s) didn't satisfy existing pods anti-affinity rules"
)

func whyTaint(t *corev1.Taint) string {
	return fmt.Sprintf("node(s) had untolerated taint {%s: %s}", t.Key, t.Value)
}

// admits tells whether the node may ever take a class, however empty it is.
func (n *node) admits(k *Class) bool {
	if n.object.Spec.Unschedulable && !k.tolerates(&unschedulable) {
		return false
	}
	for i := range n.hard {
		if !k.tolerates(&n.hard[i]) {
			return false
		}
	}
	if k.selective {
		ok, err := k.required.Match(n.object)
		return ok && err == nil
	}
	return true
}

// fits tells whether the node has room for one more.
func (n *node) fits(k *Class) bool {
	return n.pods < n.slots &&
		(k.wants.cpu == 0 || k.wants.cpu <= n.all.cpu-n.used.cpu) &&
		(k.wants.memory == 0 || k.wants.memory <= n.all.memory-n.used.memory) &&
		(len(k.ports) == 0 || n.portsFree(k)) &&
		(k.wants.storage == 0 && len(k.wants.others) == 0 || len(short(&k.wants, &n.used, &n.all)) == 0)
}

// room is how many pods of a class the node could take, at most limit, as far as
// it alone decides.
func (n *node) room(k *Class, limit int) int {
	if n.object == nil || !n.admits(k) || !n.portsFree(k) {
		return 0
	}
	if len(k.ports) > 0 {
		limit = min(limit, 1)
	}
	return int(times(&k.wants, &n.used, &n.all, min(int64(limit), n.slots-n.pods)))
}

// refusals is why the node does not take a class, as far as it alone decides, by
// the first filter that refuses.
func (n *node) refusals(k *Class) ([]string, Cause) {
	if n.object.Spec.Unschedulable && !k.tolerates(&unschedulable) {
		return []string{whyUnschedulable}, CauseNode
	}
	for i := range n.hard {
		if t := &n.hard[i]; !k.tolerates(t) {
			return []string{whyTaint(t)}, CauseNode
		}
	}
	if k.selective {
		if ok, err := k.required.Match(n.object); !ok || err != nil {
			return []string{whyAffinity}, CauseNode
		}
	}
	if !n.portsFree(k) {
		return []string{whyPorts}, CauseRoom
	}
	var list []string
	if n.pods >= n.slots {
		list = append(list, whyFull)
	}
	for _, name := range short(&k.wants, &n.used, &n.all) {
		list = append(list, "Insufficient "+string(name))
	}
	return list, CauseRoom
}
