package nodelifecycle

import (
	"cmp"
	"sync"
	"time"

	"golang.org/x/time/rate"
	corev1 "k8s.io/api/core/v1"
)

// Rates is how fast nodes are emptied, for each zone. The meaning is that of the
// flags of kube-controller-manager; the numbers are higher, as everything else
// here is faster: a node is replaced in seconds, not in minutes.
type Rates struct {
	// PerSecond is how many nodes a second, Burst how many at once; defaults 1, 2.
	PerSecond float64
	Burst     int
	// Unhealthy is the part of a zone's nodes whose loss means that something else
	// is wrong; default 0.55.
	Unhealthy float64
	// SlowPerSecond is the rate then, in zones of more than Large nodes; in smaller
	// ones nothing is evicted. Defaults 0.1 and 50.
	SlowPerSecond float64
	Large         int
}

// disruption is the state of a zone.
type disruption string

// The states, in Kubernetes' words.
const (
	normal  disruption = "Normal"
	partial disruption = "PartialDisruption" // too many nodes are lost
	full    disruption = "FullDisruption"    // all are
)

// judge is the state of a zone with so many nodes.
func (r Rates) judge(nodes, unready int) disruption {
	switch {
	case nodes == unready && unready > 0:
		return full
	case unready > 2 && float64(unready)/float64(nodes) >= r.Unhealthy:
		return partial
	}
	return normal
}

// limit is the rate of evictions in a zone of that state. In a zone that is lost
// altogether it is the usual one: its pods have other zones to go to. Where all
// zones are lost, stopped holds.
func (r Rates) limit(d disruption, nodes int) rate.Limit {
	switch {
	case d != partial:
		return rate.Limit(r.PerSecond)
	case nodes > r.Large:
		return rate.Limit(r.SlowPerSecond)
	}
	return 0
}

// zones counts nodes, so that no node's fate costs a look at all others.
type zones struct {
	rates Rates

	mu    sync.Mutex // guards what follows
	zones map[string]*zone
	where map[string]string // node → zone
	all   bool              // every zone is lost
}

type zone struct {
	nodes   map[string]bool // name → lost
	unready int
	state   disruption
	limiter *rate.Limiter
}

func newZones(r Rates) *zones {
	r.PerSecond = cmp.Or(r.PerSecond, 1)
	r.Burst = cmp.Or(r.Burst, 2)
	r.Unhealthy = cmp.Or(r.Unhealthy, 0.55)
	r.SlowPerSecond = cmp.Or(r.SlowPerSecond, 0.1)
	r.Large = cmp.Or(r.Large, 50)
	return &zones{rates: r, zones: map[string]*zone{}, where: map[string]string{}}
}

// zoneOf names the failure domain of a node.
func zoneOf(n *corev1.Node) string {
	return n.Labels[corev1.LabelTopologyRegion] + "\x00" + n.Labels[corev1.LabelTopologyZone]
}

// set takes a node as it is now, and says which nodes are to be looked at again.
func (z *zones) set(n *corev1.Node) []string {
	z.mu.Lock()
	defer z.mu.Unlock()
	name, key, bad := n.Name, zoneOf(n), readiness(n) != corev1.ConditionTrue
	if old, ok := z.where[name]; ok && old != key {
		z.remove(name)
	}
	at := z.zones[key]
	if at == nil {
		at = &zone{nodes: map[string]bool{}, state: normal, limiter: rate.NewLimiter(rate.Limit(z.rates.PerSecond), z.rates.Burst)}
		z.zones[key] = at
	}
	was, known := at.nodes[name]
	if known && was == bad {
		return nil
	}
	if was {
		at.unready--
	}
	if bad {
		at.unready++
	}
	z.where[name], at.nodes[name] = key, bad
	return z.judge()
}

// drop takes that a node is gone.
func (z *zones) drop(name string) []string {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.remove(name)
	return z.judge()
}

// remove takes a node out of its zone. The caller holds z.mu.
func (z *zones) remove(name string) {
	key, ok := z.where[name]
	if !ok {
		return
	}
	at := z.zones[key]
	if at.nodes[name] {
		at.unready--
	}
	delete(at.nodes, name)
	delete(z.where, name)
	if len(at.nodes) == 0 {
		delete(z.zones, key)
	}
}

// judge brings states and rates up to date, and says which nodes that may concern.
// The caller holds z.mu.
func (z *zones) judge() []string {
	all := len(z.zones) > 0
	var changed []*zone
	for _, at := range z.zones {
		state := z.rates.judge(len(at.nodes), at.unready)
		if limit := z.rates.limit(state, len(at.nodes)); at.state != state || at.limiter.Limit() != limit {
			at.state = state
			at.limiter.SetLimit(limit)
			changed = append(changed, at)
		}
		all = all && state == full
	}
	if all != z.all {
		z.all, changed = all, changed[:0]
		for _, at := range z.zones {
			changed = append(changed, at)
		}
	}
	var again []string
	for _, at := range changed {
		for name, lost := range at.nodes {
			if lost {
				again = append(again, name)
			}
		}
	}
	return again
}

// stopped says that every zone is lost: then nothing is evicted anywhere, for
// there is nowhere to go, and it is most likely us who are cut off.
func (z *zones) stopped() bool {
	z.mu.Lock()
	defer z.mu.Unlock()
	return z.all
}

// evict says whether the pods of a lost node may be evicted now, or when to ask
// again; zero: when the zone's state changes.
func (z *zones) evict(node string, now time.Time) (eviction, time.Duration) {
	z.mu.Lock()
	defer z.mu.Unlock()
	at := z.zones[z.where[node]]
	switch {
	case z.all:
		return evictStop, 0
	case at == nil || at.limiter.Limit() == 0:
		return evictHold, 0
	}
	r := at.limiter.ReserveN(now, 1)
	if wait := r.DelayFrom(now); wait > 0 {
		r.CancelAt(now)
		return evictHold, wait
	}
	return evictNow, 0
}
