package place

import (
	"math"

	corev1 "k8s.io/api/core/v1"
)

// rule is a demand or a wish about the pods in a node's topology domain. Its
// counts follow the pods that are placed while it lives.
type rule struct {
	key    string // topology key
	kind   kind
	counts map[string]int // domain → pods that it speaks of
	self   int            // what one more pod of the class adds

	maxSkew, minDomains int     // of a hard spread
	least, atLeast      int     // the smallest count, and how many domains have it
	first               *bool   // of affinity: nothing matches yet, and the class would
	factor              float64 // of a wish: points for each pod
	why                 string
}

type kind uint8

const (
	mustSpread kind = iota
	mustBeNear
	mustBeApart
	wish
)

// local tells whether each node is a domain of its own.
func (r *rule) local() bool { return r.key == corev1.LabelHostname }

// open tells whether the domain may take one more pod.
func (r *rule) open(domain string, known bool) bool {
	switch r.kind {
	case mustSpread:
		return known && r.counts[domain]+r.self-r.floor() <= r.maxSkew
	case mustBeNear:
		return known && (r.counts[domain] > 0 || *r.first)
	case mustBeApart:
		return !known || r.counts[domain] == 0
	}
	return true
}

// floor is the count that the skew is measured from.
func (r *rule) floor() int {
	if len(r.counts) < r.minDomains {
		return 0
	}
	return r.least
}

// points is what a wish adds to the score of a node in the domain.
func (r *rule) points(domain string, known bool) float64 {
	if !known || r.kind != wish {
		return 0
	}
	return r.factor * float64(r.counts[domain])
}

// refusal is why the domain is closed.
func (r *rule) refusal(known bool) string {
	if r.kind == mustSpread && !known {
		return whySpreadLabel
	}
	return r.why
}

// took notes that a pod of the class was placed in the domain. It tells whether
// that may have opened other domains.
func (r *rule) took(domain string, known bool) bool {
	if !known || r.self == 0 {
		return false
	}
	was := r.counts[domain]
	r.counts[domain] += r.self
	if r.kind == mustBeNear && *r.first {
		*r.first = false
	}
	if r.kind != mustSpread || was != r.least {
		return false
	}
	if r.atLeast--; r.atLeast > 0 {
		return false
	}
	r.settle()
	return true
}

// settle finds the smallest count anew.
func (r *rule) settle() {
	r.least, r.atLeast = math.MaxInt, 0
	for _, n := range r.counts {
		switch {
		case n < r.least:
			r.least, r.atLeast = n, 1
		case n == r.least:
			r.atLeast++
		}
	}
	if r.atLeast == 0 {
		r.least = 0
	}
}

// rules is everything that ties a class to other pods. Empty for most classes.
func (c *Cluster) rules(k *Class) []*rule {
	var list []*rule
	list = append(list, c.spreadRules(k)...)
	list = append(list, c.nearRules(k)...)
	for i := range k.apart {
		list = append(list, c.count(&rule{key: k.apart[i].key, kind: mustBeApart, why: whyApart, self: one(c.selects(&k.apart[i], k))},
			func(other *Class) bool { return c.selects(&k.apart[i], other) }))
	}
	for other := range c.keepers {
		for i := range other.apart {
			if t := &other.apart[i]; c.selects(t, k) {
				list = append(list, c.count(&rule{key: t.key, kind: mustBeApart, why: whyOthersApart},
					func(some *Class) bool { return some == other }))
			}
		}
	}
	return append(list, c.wishes(k)...)
}

func one(b bool) int {
	if b {
		return 1
	}
	return 0
}

// count fills in a rule's counts from the classes that it speaks of.
func (c *Cluster) count(r *rule, of func(*Class) bool) *rule {
	if r.counts == nil {
		r.counts = map[string]int{}
	}
	for other := range c.placed {
		if !of(other) {
			continue
		}
		for n, pods := range other.on {
			if n.object == nil {
				continue
			}
			if domain, ok := n.label(r.key); ok {
				r.counts[domain] += pods
			}
		}
	}
	return r
}

// nearRules is required affinity: the pods that count are those that all terms
// select. A class that would be the first of its kind may go anywhere.
func (c *Cluster) nearRules(k *Class) []*rule {
	if len(k.near) == 0 {
		return nil
	}
	self := c.selectsAll(k.near, k)
	first := self
	var list []*rule
	for i := range k.near {
		r := c.count(&rule{key: k.near[i].key, kind: mustBeNear, why: whyNear, self: one(self), first: &first},
			func(other *Class) bool { return c.selectsAll(k.near, other) })
		if len(r.counts) > 0 {
			first = false
		}
		list = append(list, r)
	}
	return list
}

func (c *Cluster) spreadRules(k *Class) []*rule {
	var list []*rule
	for i := range k.spread {
		s := &k.spread[i]
		r := &rule{key: s.key, self: one(s.selector.Matches(k.labels)), counts: map[string]int{}}
		if s.hard {
			r.kind, r.maxSkew, r.minDomains, r.why = mustSpread, s.maxSkew, s.minDomains, whySpread
		} else {
			r.kind, r.factor = wish, -spreadWeight*crowding/float64(s.maxSkew)
		}
		matching := c.matching(k, s)
		for _, n := range c.nodes {
			domain, ok := n.label(s.key)
			if !ok || !n.counts(k, s) {
				continue
			}
			r.counts[domain] += matching[n]
		}
		r.settle()
		list = append(list, r)
	}
	return list
}

// matching counts the pods that a spread constraint speaks of by node.
func (c *Cluster) matching(k *Class, s *spread) map[*node]int {
	counts := map[*node]int{}
	for other := range c.placed {
		if other.namespace == k.namespace && s.selector.Matches(other.labels) {
			for n, pods := range other.on {
				counts[n] += pods
			}
		}
	}
	return counts
}

// counts tells whether a spread constraint counts the node as a place at all: it
// has every key, and its class could go there in principle.
func (n *node) counts(k *Class, s *spread) bool {
	for i := range k.spread {
		if k.spread[i].hard != s.hard {
			continue
		}
		if _, ok := n.label(k.spread[i].key); !ok {
			return false
		}
	}
	if s.honorAffinity && k.selective {
		if ok, err := k.required.Match(n.object); !ok || err != nil {
			return false
		}
	}
	if s.honorTaints {
		for i := range n.hard {
			if !k.tolerates(&n.hard[i]) {
				return false
			}
		}
	}
	return true
}

// wishes is preferred affinity, of the class about others and of others about
// the class. Points come to 100 at most between the best and the worst domain as
// they stand.
func (c *Cluster) wishes(k *Class) []*rule {
	var list []*rule
	add := func(t *term, weight int32, self bool, of func(*Class) bool) {
		list = append(list, c.count(&rule{key: t.key, kind: wish, factor: float64(weight), self: one(self)}, of))
	}
	for _, terms := range [][]term{k.preferNear, k.dislikes} {
		for i := range terms {
			t := &terms[i]
			add(t, t.weight, c.selects(t, k), func(other *Class) bool { return c.selects(t, other) })
		}
	}
	for other := range c.wishers {
		alone := func(some *Class) bool { return some == other }
		for _, terms := range [][]term{other.preferNear, other.dislikes} {
			for i := range terms {
				if t := &terms[i]; c.selects(t, k) {
					add(t, t.weight, other == k, alone)
				}
			}
		}
		for i := range other.near {
			if t := &other.near[i]; c.selects(t, k) {
				add(t, hardAffinityWeight, other == k, alone)
			}
		}
	}
	scale(list)
	return list
}

// hardAffinityWeight is how much a placed pod's required affinity draws others.
const hardAffinityWeight = 1

func scale(list []*rule) {
	var most float64
	for _, r := range list {
		top := 1
		for _, n := range r.counts {
			top = max(top, n)
		}
		most += math.Abs(r.factor) * float64(top)
	}
	for _, r := range list {
		r.factor *= affinityWeight * 100 / most
	}
}
