package place

import (
	"container/heap"
	"strings"
)

// candidate is a node that may take pods of the class being placed.
type candidate struct {
	n     *node
	still float64
	score float64
}

// group is the candidates in the same domains of every rule that spans nodes.
type group struct {
	domains []string
	known   []bool
	heap    candidates
	parked  candidates // closed for now by a rule about the node itself
}

// candidates is a heap, best first.
type candidates []candidate

func (h candidates) Len() int           { return len(h) }
func (h candidates) Less(i, j int) bool { return h[i].score > h[j].score }
func (h candidates) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *candidates) Push(x any)        { *h = append(*h, x.(candidate)) }
func (h *candidates) Pop() any {
	last := len(*h) - 1
	x := (*h)[last]
	*h = (*h)[:last]
	return x
}

// search is the placement of pods of one class.
type search struct {
	c      *Cluster
	k      *Class
	shared []*rule // whose domains span nodes
	local  []*rule // whose domains are nodes
	groups map[string]*group
}

// Place finds nodes for n pods of a class and counts them there. If it finds
// fewer than n, the failure says why there is none for the next.
func (c *Cluster) Place(k *Class, n int) ([]string, *Failure) {
	s := &search{c: c, k: k, groups: map[string]*group{}}
	rules := c.rules(k)
	for _, r := range rules {
		if r.local() {
			s.local = append(s.local, r)
		} else {
			s.shared = append(s.shared, r)
		}
	}
	seen := s.gather(c.enough(n, len(rules) > 0))
	nodes := make([]string, 0, n)
	for len(nodes) < n {
		best := s.take()
		if best == nil && seen < len(c.nodes) {
			seen = s.gather(len(c.nodes)) // the sample is used up: look at the rest
			best = s.take()
		}
		if best == nil {
			return nodes, c.explain(k, rules)
		}
		nodes = append(nodes, best.name)
	}
	return nodes, nil
}

// enough is how many candidates to look for. Where only the node matters, some
// of the nodes will do, as in kube-scheduler; rules need to see all.
func (c *Cluster) enough(pods int, ruled bool) int {
	n := len(c.nodes)
	if ruled || n <= 100 {
		return n
	}
	percent := max(5, 50-n/125)
	return min(n, max(100, n*percent/100, 2*pods))
}

// gather looks at nodes, from where the last search ended, until it has enough
// candidates, and sorts them into groups. It returns how many nodes it looked
// at; a second call starts over.
func (s *search) gather(enough int) int {
	c, k := s.c, s.k
	s.groups = map[string]*group{}
	found := c.found[:0]
	looked := 0
	for looked < len(c.nodes) && len(found) < enough {
		n := c.nodes[(c.start+looked)%len(c.nodes)]
		looked++
		if n.admits(k) && n.fits(k) {
			found = append(found, candidate{n: n})
		}
	}
	if looked > 0 {
		c.start = (c.start + looked) % len(c.nodes)
	}
	var mostPreferred, mostTaints int64
	for i := range found {
		if k.preferred != nil {
			mostPreferred = max(mostPreferred, k.preferred.Score(found[i].n.object))
		}
		mostTaints = max(mostTaints, k.discouraged(found[i].n))
	}
	for i := range found {
		found[i].still = k.still(found[i].n, mostPreferred, mostTaints)
		found[i].score = s.score(&found[i])
	}
	c.found = found
	s.sort(found)
	for _, g := range s.groups {
		heap.Init(&g.heap)
	}
	return looked
}

// sort puts candidates into groups. Without rules that span nodes there is one,
// and it takes the list as it is.
func (s *search) sort(found candidates) {
	if len(s.shared) == 0 {
		s.groups[""] = &group{heap: found}
		return
	}
	for i := range found {
		g := s.group(found[i].n)
		g.heap = append(g.heap, found[i])
	}
}

func (s *search) score(cand *candidate) float64 {
	score := cand.still + s.k.moving(cand.n)
	for _, r := range s.local {
		domain, known := cand.n.label(r.key)
		score += r.points(domain, known)
	}
	return score
}

func (s *search) group(n *node) *group {
	var key strings.Builder
	g := &group{}
	for _, r := range s.shared {
		domain, known := n.label(r.key)
		g.domains, g.known = append(g.domains, domain), append(g.known, known)
		if known {
			key.WriteString(domain)
		}
		key.WriteString("\x00")
	}
	if have := s.groups[key.String()]; have != nil {
		return have
	}
	s.groups[key.String()] = g
	return g
}

// take places one pod on the best node that is open to it; nil when none is.
func (s *search) take() *node {
	var best *group
	var bestScore float64
	for _, g := range s.groups {
		points, open := s.standing(g)
		if !open || !s.ready(g) {
			continue
		}
		if score := g.heap[0].score + points; best == nil || score > bestScore || score == bestScore && g.heap[0].n.name < best.heap[0].n.name {
			best, bestScore = g, score
		}
	}
	if best == nil {
		return nil
	}
	top := &best.heap[0]
	n := top.n
	s.c.assign(s.k, n)
	s.took(best, n)
	top.score = s.score(top)
	heap.Fix(&best.heap, 0)
	return n
}

// standing is a group's points from the rules that span nodes, and whether they
// let it take one more pod.
func (s *search) standing(g *group) (points float64, open bool) {
	for i, r := range s.shared {
		if !r.open(g.domains[i], g.known[i]) {
			return 0, false
		}
		points += r.points(g.domains[i], g.known[i])
	}
	return points, true
}

// ready brings a node that can take the pod to the top of the group's heap.
func (s *search) ready(g *group) bool {
	for len(g.heap) > 0 {
		n := g.heap[0].n
		switch {
		case !n.fits(s.k):
			heap.Pop(&g.heap) // pods only come while we search
		case !s.locallyOpen(n):
			g.parked = append(g.parked, heap.Pop(&g.heap).(candidate))
		default:
			return true
		}
	}
	return false
}

func (s *search) locallyOpen(n *node) bool {
	for _, r := range s.local {
		if !r.open(n.label(r.key)) {
			return false
		}
	}
	return true
}

// took tells every rule of a placed pod and brings back nodes that it opened.
func (s *search) took(g *group, n *node) {
	for i, r := range s.shared {
		r.took(g.domains[i], g.known[i])
	}
	opened := false
	for _, r := range s.local {
		if r.took(n.label(r.key)) {
			opened = true
		}
	}
	if !opened {
		return
	}
	for _, g := range s.groups {
		for _, cand := range g.parked {
			heap.Push(&g.heap, cand)
		}
		g.parked = nil
	}
}
