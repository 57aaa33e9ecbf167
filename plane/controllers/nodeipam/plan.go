package nodeipam

import (
	"fmt"
	"hash/fnv"
	"net/netip"
)

// book is the cluster's range cut into equal parts, and who has which.
type book struct {
	cluster netip.Prefix
	bits    int             // length of a part's prefix
	size    int             // how many parts there are
	taken   map[int]int     // by part: how many nodes have it, or a piece of it
	spans   map[string]span // by node
}

// span is a run of parts.
type span struct {
	first, last int
	given       netip.Prefix
}

// largest is how many parts a range may have, as in Kubernetes: 2^16.
const largest = 16

func newBook(cluster netip.Prefix, bits int) (*book, error) {
	switch {
	case !cluster.IsValid() || !cluster.Addr().Is4():
		return nil, fmt.Errorf("pod CIDR %s: want an IPv4 range", cluster)
	case bits < cluster.Bits() || bits > 30:
		return nil, fmt.Errorf("node mask size %d: want %d to 30, within the pod CIDR %s", bits, cluster.Bits(), cluster)
	case bits-cluster.Bits() > largest:
		return nil, fmt.Errorf("pod CIDR %s: it has more than 65536 node ranges of /%d; choose a smaller mask size", cluster, bits)
	}
	return &book{
		cluster: cluster.Masked(), bits: bits, size: 1 << (bits - cluster.Bits()),
		taken: map[int]int{}, spans: map[string]span{},
	}, nil
}

// reserve finds a free part for a node, and keeps it. A node without one gets
// the part that its name points at, if that is free: one that is registered anew
// mostly gets the range that it had, and a range that has just become free mostly
// rests.
func (b *book) reserve(node string) (netip.Prefix, bool) {
	if s, ok := b.spans[node]; ok {
		return s.given, true
	}
	h := fnv.New32a()
	_, _ = h.Write([]byte(node))
	first := int(h.Sum32() % uint32(b.size)) //nolint:gosec // at most 2^16
	for i := range b.size {
		n := (first + i) % b.size
		if b.taken[n] == 0 {
			p := b.part(n)
			b.set(node, span{n, n, p})
			return p, true
		}
	}
	return netip.Prefix{}, false
}

// occupy takes that a node has a range. other is a node that has addresses of it
// too, which must not be.
func (b *book) occupy(node string, p netip.Prefix) (other string) {
	p = p.Masked()
	if s, ok := b.spans[node]; ok && s.given == p {
		return ""
	}
	b.release(node)
	if !p.Addr().Is4() || !b.cluster.Overlaps(p) {
		return "" // of an earlier configuration: it takes nothing of ours
	}
	s := span{0, b.size - 1, p}
	if p.Bits() > b.cluster.Bits() {
		s.first = b.index(p.Addr())
		s.last = s.first
		if p.Bits() < b.bits {
			s.last += 1<<(b.bits-p.Bits()) - 1
		}
	}
	for n, o := range b.spans {
		if o.given.Overlaps(p) {
			other = n
		}
	}
	b.set(node, s)
	return other
}

func (b *book) set(node string, s span) {
	b.spans[node] = s
	for n := s.first; n <= s.last; n++ {
		b.taken[n]++
	}
}

// release takes that a node has no range any more; false if it had none.
func (b *book) release(node string) bool {
	s, ok := b.spans[node]
	if !ok {
		return false
	}
	delete(b.spans, node)
	for n := s.first; n <= s.last; n++ {
		if b.taken[n]--; b.taken[n] == 0 {
			delete(b.taken, n)
		}
	}
	return true
}

// part is the nth part, and index the other way round.
func (b *book) part(n int) netip.Prefix {
	return netip.PrefixFrom(address(number(b.cluster.Addr())+uint32(n)<<(32-b.bits)), b.bits) //nolint:gosec // less than 2^16
}

func (b *book) index(ip netip.Addr) int {
	return int((number(ip) - number(b.cluster.Addr())) >> (32 - b.bits))
}

func number(ip netip.Addr) uint32 {
	a := ip.As4()
	return uint32(a[0])<<24 | uint32(a[1])<<16 | uint32(a[2])<<8 | uint32(a[3])
}

func address(n uint32) netip.Addr {
	return netip.AddrFrom4([4]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}) //nolint:gosec // one byte each
}
