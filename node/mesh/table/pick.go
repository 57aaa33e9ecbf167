package table

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync/atomic"
)

// load counts what a pod's port has open now.
type load struct {
	open   atomic.Int64
	routes int // ports that lead here; guarded by Table.mu
}

// Pick chooses an endpoint for a connection from inside the cluster, of those
// that were not tried: of two taken at random, the one with fewer open
// connections ("the power of two choices", Mitzenmacher 2001). The caller calls
// done when the connection ends. It returns ErrNoEndpoints when none is left.
func (p *Port) Pick(tried ...netip.AddrPort) (addr netip.AddrPort, done func(), err error) {
	return pick(p.internal, tried, rand.IntN)
}

// PickExternal is Pick for a connection from outside the cluster.
func (p *Port) PickExternal(tried ...netip.AddrPort) (addr netip.AddrPort, done func(), err error) {
	return pick(p.external, tried, rand.IntN)
}

func pick(list []endpoint, tried []netip.AddrPort, intn func(int) int) (netip.AddrPort, func(), error) {
	e := untried(list, tried, intn)
	if e == nil {
		return netip.AddrPort{}, nil, ErrNoEndpoints
	}
	if len(list) > 1 {
		if o := untried(list, tried, intn); o.load.open.Load() < e.load.open.Load() {
			e = o
		}
	}
	e.load.open.Add(1)
	return e.addr, func() { e.load.open.Add(-1) }, nil
}

// untried is the first that was not tried, from a random place on.
func untried(list []endpoint, tried []netip.AddrPort, intn func(int) int) *endpoint {
	if len(list) == 0 {
		return nil
	}
	first := intn(len(list))
	for i := range list {
		if e := &list[(first+i)%len(list)]; !slices.Contains(tried, e.addr) {
			return e
		}
	}
	return nil
}
