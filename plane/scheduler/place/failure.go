package place

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Failure is why a class has no node.
type Failure struct {
	Nodes   int            // that were considered
	Reasons map[string]int // text → nodes
	Causes  Cause
}

// Error is kube-scheduler's sentence: "0/3 nodes are available: 1 Insufficient
// cpu, 2 node(s) were unschedulable."
func (f *Failure) Error() string {
	if f.Nodes == 0 {
		return "no nodes available to schedule pods"
	}
	list := make([]string, 0, len(f.Reasons))
	for _, text := range slices.Sorted(maps.Keys(f.Reasons)) {
		list = append(list, fmt.Sprintf("%d %s", f.Reasons[text], text))
	}
	slices.Sort(list)
	return fmt.Sprintf("0/%d nodes are available: %s.", f.Nodes, strings.Join(list, ", "))
}

// explain asks every node for its refusal.
func (c *Cluster) explain(k *Class, rules []*rule) *Failure {
	f := &Failure{Nodes: len(c.nodes), Reasons: map[string]int{}}
	for _, n := range c.nodes {
		texts, cause := n.refusals(k)
		if len(texts) == 0 {
			if texts, cause = refusalByRule(n, rules), CauseOthers; len(texts) == 0 {
				continue
			}
		}
		f.Causes |= cause
		for _, text := range texts {
			f.Reasons[text]++
		}
	}
	return f
}

// refusalByRule is the first rule that closes the node: rules stand in the order
// of kube-scheduler's filters.
func refusalByRule(n *node, rules []*rule) []string {
	for _, r := range rules {
		if domain, known := n.label(r.key); !r.open(domain, known) {
			return []string{r.refusal(known)}
		}
	}
	return nil
}
