package place

import (
	"math"
)

// Weights of kube-scheduler's default profile.
const (
	leastWeight    = 1
	balancedWeight = 1
	localityWeight = 1
	prefersWeight  = 2
	spreadWeight   = 2
	affinityWeight = 2
	taintWeight    = 3
)

// crowding is the points that each pod of the same owner (or of a soft spread
// constraint) takes from a node. kube-scheduler divides by the most crowded node
// instead; a fixed figure means the same near ten pods a node and keeps the score
// of a node a matter of that node alone.
const crowding = 10

// still is the part of a node's score that does not change while pods of the
// class are placed: preferred labels, soft taints, modules that are there.
func (k *Class) still(n *node, mostPreferred, mostTaints int64) float64 {
	score := 0.0
	if mostPreferred > 0 {
		score += prefersWeight * 100 * float64(k.preferred.Score(n.object)) / float64(mostPreferred)
	}
	if mostTaints > 0 {
		score += taintWeight * 100 * (1 - float64(k.discouraged(n))/float64(mostTaints))
	}
	present := 0
	for _, image := range k.images {
		if _, ok := n.images[image]; ok {
			present++
		}
	}
	if present > 0 {
		score += localityWeight * 100 * float64(present) / float64(len(k.images))
	}
	return score
}

// discouraged is how many soft taints the class does not tolerate.
func (k *Class) discouraged(n *node) (count int64) {
	for i := range n.soft {
		if !k.tolerates(&n.soft[i]) {
			count++
		}
	}
	return count
}

// moving is the part that changes with each pod on the node: how full it would
// be, how evenly, and how many of the same owner it holds.
func (k *Class) moving(n *node) float64 {
	cpu := fraction(n.scored.cpu+k.scored.cpu, n.all.cpu)
	memory := fraction(n.scored.memory+k.scored.memory, n.all.memory)
	score := leastWeight * 100 * (1 - (cpu+memory)/2)
	cpu = fraction(n.used.cpu+k.wants.cpu, n.all.cpu) // the balance is that of real requests
	memory = fraction(n.used.memory+k.wants.memory, n.all.memory)
	score += balancedWeight * 100 * (1 - math.Abs(cpu-memory)/2)
	if k.owner != "" && len(k.spread) == 0 {
		score -= spreadWeight * crowding * float64(k.on[n])
	}
	return score
}

func fraction(used, all int64) float64 {
	if all <= 0 {
		return 1
	}
	return min(1, float64(used)/float64(all))
}
