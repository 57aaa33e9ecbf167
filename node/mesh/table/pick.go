package table

import (
	"math/rand/v2"
	"net/netip"
	"sync/atomic"
)

// load counts what a pod's port has open now.
type load struct {
	open   atomic.Int64
	routes int // ports that lead here; guarded by Table.mu
}

// Pick chooses a ready endpoint: of two taken at random, the one with fewer open
// connections ("the power of two choices", Mitzenmacher 2001). The caller calls
// done when the connection ends. It returns ErrNoEndpoints when none is ready.
func (p *Port) Pick() (addr netip.AddrPort, done func(), err error) {
	return p.pick(rand.IntN)
}

func (p *Port) pick(intn func(int) int) (netip.AddrPort, func(), error) {
	n := len(p.endpoints)
	if n == 0 {
		return netip.AddrPort{}, nil, ErrNoEndpoints
	}
	e := &p.endpoints[intn(n)]
	if n > 1 {
		if o := &p.endpoints[intn(n)]; o.load.open.Load() < e.load.open.Load() {
			e = o
		}
	}
	e.load.open.Add(1)
	return e.addr, func() { e.load.open.Add(-1) }, nil
}
