package pods

import (
	"errors"
	"fmt"
	"net/netip"
	"sync"
)

// addresses hands out the pod addresses of one node. A pod that had an address
// gets it again if it is free; otherwise the one that was free the longest.
type addresses struct {
	mu     sync.Mutex // guards what follows
	prefix netip.Prefix
	used   map[netip.Addr]bool
	last   netip.Addr
}

// newAddresses starts without a range if the prefix is not valid.
func newAddresses(prefix netip.Prefix) (*addresses, error) {
	if !prefix.IsValid() {
		return &addresses{used: map[netip.Addr]bool{}}, nil
	}
	return rangeOf(prefix)
}

func rangeOf(prefix netip.Prefix) (*addresses, error) {
	if !prefix.IsValid() || !prefix.Addr().Is4() || prefix.Bits() > 30 {
		return nil, fmt.Errorf("pod addresses %s: want an IPv4 prefix of at least four addresses", prefix)
	}
	prefix = prefix.Masked()
	return &addresses{prefix: prefix, used: map[netip.Addr]bool{}, last: prefix.Addr().Next()}, nil
}

// take finds an address; the network's own, the first and the broadcast address
// are nobody's.
func (a *addresses) take(wanted netip.Addr) (netip.Addr, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.usable(wanted) && !a.used[wanted] {
		a.used[wanted] = true
		return wanted, nil
	}
	if !a.prefix.IsValid() {
		return netip.Addr{}, errors.New("the node has no range of pod addresses yet")
	}
	size := 1 << (32 - a.prefix.Bits())
	for range size {
		a.last = a.last.Next()
		if !a.prefix.Contains(a.last) {
			a.last = a.prefix.Addr()
		}
		if a.usable(a.last) && !a.used[a.last] {
			a.used[a.last] = true
			return a.last, nil
		}
	}
	return netip.Addr{}, fmt.Errorf("no free address left in %s; its %d pods need a larger range", a.prefix, len(a.used))
}

func (a *addresses) usable(ip netip.Addr) bool {
	if !a.prefix.IsValid() {
		return false
	}
	first := a.prefix.Addr()
	return a.prefix.Contains(ip) && ip != first && ip != first.Next() && a.prefix.Contains(ip.Next())
}

func (a *addresses) give(ip netip.Addr) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.used, ip)
}

// reset changes the range. Addresses that are in use stay in use.
func (a *addresses) reset(prefix netip.Prefix) error {
	fresh, err := rangeOf(prefix)
	if err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.prefix, a.last = fresh.prefix, fresh.last
	return nil
}
