package memory

import "sync/atomic"

// Budget is a limit that several guests share. The nil Budget has no limit.
type Budget struct {
	limit int64
	used  atomic.Int64
}

// NewBudget returns a budget of so many bytes.
func NewBudget(limit int64) *Budget { return &Budget{limit: limit} }

// Used is what its guests hold now, in bytes.
func (b *Budget) Used() int64 { return b.used.Load() }

// take claims n bytes, or nothing.
func (b *Budget) take(n int64) bool {
	if b == nil {
		return true
	}
	if b.used.Add(n) > b.limit {
		b.used.Add(-n)
		return false
	}
	return true
}

func (b *Budget) giveBack(n int64) {
	if b != nil {
		b.used.Add(-n)
	}
}

// NewWithin is New for a guest that shares a budget with others.
func NewWithin(b *Budget, limit int64) *Allocator {
	a := New(limit)
	a.budget = b
	return a
}
