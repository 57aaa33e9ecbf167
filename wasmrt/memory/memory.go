// Package memory gives a guest its linear memory, up to a limit, outside Go's
// heap. It knows bytes and pages; it never learns whose memory it is. One
// Allocator serves one instance:
//
//	a := memory.New(64 << 20)
//	defer a.Free() // only after the last call into the guest returned
//	ctx = experimental.WithMemoryAllocator(ctx, a)
//
// Memory outside the heap keeps a parked guest cheap (untouched pages cost
// nothing and the collector never counts them), and growing it never copies:
// the address range is reserved whole and opened as the guest asks for it.
package memory

import (
	"sync"
	"sync/atomic"

	"github.com/tetratelabs/wazero/experimental"
)

// PageSize is the WebAssembly page: what memory.grow counts in.
const PageSize = 64 << 10

// Max is the most that one guest can have: 4 GiB less a page, so that every
// length and every end of a range still fits 32 bits.
const Max = 4<<30 - PageSize

// Allocator is the memory of one instance. It implements
// experimental.MemoryAllocator; every method is safe from any goroutine.
type Allocator struct {
	limit   int64
	budget  *Budget
	size    atomic.Int64
	refused atomic.Bool

	mu      sync.Mutex // guards what follows
	regions []*region
	image   *Image // adopted
	vain    int    // looks of rewind at pages that had not changed
	freed   bool
}

// New returns an allocator that refuses to hold more than limit bytes; a limit
// of 0, or one past Max, means Max.
func New(limit int64) *Allocator {
	if limit <= 0 || limit > Max {
		limit = Max
	}
	return &Allocator{limit: limit}
}

// Allocate reserves address space for a memory that may grow to max bytes, or
// to the allocator's limit, whichever is less.
func (a *Allocator) Allocate(_, max uint64) experimental.LinearMemory {
	a.mu.Lock()
	defer a.mu.Unlock()
	r := &region{owner: a, reserve: min(max, uint64(a.limit))}
	a.regions = append(a.regions, r)
	return r
}

// Size is the linear memory the guest holds now, in bytes.
func (a *Allocator) Size() int64 { return a.size.Load() }

// Limit is the most the guest may hold, in bytes.
func (a *Allocator) Limit() int64 { return a.limit }

// Refused reports whether the guest's latest wish for more memory was turned
// down because of the limit (or because the host had none left).
func (a *Allocator) Refused() bool { return a.refused.Load() }

// Free returns everything to the system. The caller makes sure that no call
// into the guest is in flight: the addresses are gone afterwards. A second
// Free does nothing.
func (a *Allocator) Free() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.freed = true
	for _, r := range a.regions {
		r.release()
	}
	a.regions, a.image = nil, nil
	a.budget.giveBack(a.size.Swap(0))
}

// region is one linear memory: a reserved range of addresses of which the
// first size bytes are open.
type region struct {
	owner   *Allocator
	reserve uint64
	size    uint64
	mapping mapping
}

// Reallocate opens the memory up to size bytes, or returns nil when that would
// pass the limit; the guest then sees memory.grow answer -1.
func (r *region) Reallocate(size uint64) []byte {
	a := r.owner
	a.mu.Lock()
	defer a.mu.Unlock()
	grown := int64(size) - int64(r.size)
	if a.freed || size > r.reserve || a.size.Load()+grown > a.limit || !a.budget.take(grown) {
		a.refused.Store(true)
		return nil
	}
	b := r.mapping.open(r.reserve, size)
	if b == nil {
		a.budget.giveBack(grown)
		a.refused.Store(true)
		return nil
	}
	r.size = size
	a.size.Add(grown)
	a.refused.Store(false)
	return b
}

// Free is called when the module instance closes. The range stays until the
// allocator's own Free, because an instance may be closed by the call that
// still runs on its memory.
func (r *region) Free() {}

func (r *region) release() {
	r.mapping.close()
	r.size = 0
}
