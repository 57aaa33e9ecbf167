package wasi

import "sync/atomic"

// Budget is how many of the host's descriptors guests may hold among them. One
// that is greedy cannot starve the others, nor the host: none may hold more than
// what is then left for all. Its methods are safe from any goroutine; nil is a
// budget without bound.
//
// Source: A. Choudhury, E. Hahne, Dynamic queue length thresholds for
// shared-memory packet switches, 1998, for shares without a fixed size.
type Budget struct {
	most int64
	used atomic.Int64
}

// NewBudget makes a budget of so many descriptors.
func NewBudget(most int64) *Budget { return &Budget{most: most} }

// Used is what guests hold now, counted as what it can become at most.
func (b *Budget) Used() int64 {
	if b == nil {
		return 0
	}
	return b.used.Load()
}

// usualCost of a guest's descriptor: a directory has one of the host's, and one
// more while it is listed.
const usualCost = 2

// costOf is how many descriptors of the host a file may take.
func costOf(f file) int64 {
	switch on := f.(type) {
	case *inlet, *outlet:
		return 0 // the embedder's
	case *directory:
		if on.lent {
			return 1 // the listing
		}
		if !on.borrowed {
			return usualCost + int64(len(on.files))
		}
	}
	return usualCost
}

// fits reports whether a guest that holds so much may have more.
func (b *Budget) fits(held, more int64) bool {
	return b == nil || more == 0 || held+more <= b.most-b.used.Load()-more
}

func (b *Budget) take(held, more int64) bool {
	if b == nil || more == 0 {
		return true
	}
	for {
		used := b.used.Load()
		if held+more > b.most-used-more {
			return false
		}
		if b.used.CompareAndSwap(used, used+more) {
			return true
		}
	}
}

func (b *Budget) giveBack(n int64) {
	if b != nil && n != 0 {
		b.used.Add(-n)
	}
}
