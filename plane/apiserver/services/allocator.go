// Package services gives Services their cluster addresses and node ports. It
// knows the two ranges and who holds what of them; it never learns how a
// Service is served, or where packets go.
//
// Every address and port that is taken is one stored record, made only when it
// is absent. Nothing is remembered in the process, so any number of servers may
// allocate at once. A Service without wishes starts its search at a place that
// its name decides: deleted and created again, it gets the same address back.
//
//	a, err := services.New(services.Config{Storage: getter})
//	done, err := a.Create(ctx, svc, false) // svc.Spec.ClusterIP is set
package services

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"net/netip"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apiserver/pkg/registry/generic"
)

// Config of an Allocator.
type Config struct {
	Storage generic.RESTOptionsGetter
	// Addresses is the range of cluster IPs; zero: 10.43.0.0/16.
	Addresses netip.Prefix
	// Ports is the range of node ports, both ends included; zero: 30000–32767.
	Ports PortRange
	Log   *slog.Logger
}

// PortRange is a range of ports with both its ends.
type PortRange struct{ First, Last int32 }

// Allocator implements the allocation that the services storage asks for.
type Allocator struct {
	addresses netip.Prefix
	ports     PortRange
	ips       *claims
	nodePorts *claims
	log       *slog.Logger
}

// errFull says that a range has nothing left.
var errFull = errors.New("range is full")

// New checks the ranges and opens the records.
func New(cfg Config) (*Allocator, error) {
	a := &Allocator{
		addresses: cmp.Or(cfg.Addresses, netip.MustParsePrefix("10.43.0.0/16")).Masked(),
		ports:     cmp.Or(cfg.Ports, PortRange{30000, 32767}),
		log:       cmp.Or(cfg.Log, slog.Default()),
	}
	if !a.addresses.Addr().Is4() || a.addresses.Bits() > 28 {
		return nil, fmt.Errorf("services: config: Addresses is %s: want an IPv4 range of /28 or wider", a.addresses)
	}
	if a.ports.First < 1 || a.ports.Last > 65535 || a.ports.First > a.ports.Last {
		return nil, fmt.Errorf("services: config: Ports is %d-%d: want a range within 1-65535", a.ports.First, a.ports.Last)
	}
	var err error
	if a.ips, err = newClaims(cfg.Storage, "serviceips"); err != nil {
		return nil, err
	}
	if a.nodePorts, err = newClaims(cfg.Storage, "servicenodeports"); err != nil {
		return nil, err
	}
	return a, nil
}

// First gives the address of the `kubernetes` Service.
func (a *Allocator) First() netip.Addr { return a.addresses.Addr().Next() }

// hosts is the number of usable addresses: all but the network's own and the
// broadcast address.
func (a *Allocator) hosts() int { return 1<<(32-a.addresses.Bits()) - 2 }

// address gives the i-th usable address, from 0.
func (a *Allocator) address(i int) netip.Addr {
	b := a.addresses.Addr().As4()
	n := uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])
	n += uint32(i) + 1
	return netip.AddrFrom4([4]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)})
}

// usable tells whether an address may be given to a service.
func (a *Allocator) usable(ip netip.Addr) bool {
	return a.addresses.Contains(ip) && ip != a.addresses.Addr() && ip != a.address(a.hosts())
}

// nextIP claims an address of our choice. The first addresses of the range are
// left to those who ask for one by number (KEP-3070), while others are free.
func (a *Allocator) nextIP(ctx context.Context, o owner, dryRun bool) (string, error) {
	n := a.hosts()
	return search(n, staticBand(n, 256), o.String(), func(i int) (string, bool, error) {
		ip := a.address(i).String()
		ok, err := a.ips.claim(ctx, ip, o, dryRun)
		return ip, ok, err
	})
}

// nextPort claims a port of our choice, with the same courtesy (KEP-3668). salt
// lets the ports of one service start apart.
func (a *Allocator) nextPort(ctx context.Context, o owner, salt int, used map[int32]bool, dryRun bool) (int32, error) {
	n := int(a.ports.Last-a.ports.First) + 1
	port, err := search(n, staticBand(n, 128), o.String()+"/"+strconv.Itoa(salt), func(i int) (string, bool, error) {
		port := a.ports.First + int32(i)
		if used[port] {
			return "", false, nil
		}
		name := strconv.Itoa(int(port))
		holder, taken, err := a.nodePorts.holder(ctx, name)
		if err != nil || (taken && holder.NamespacedName != o.NamespacedName) {
			return "", false, err
		}
		ok, err := a.nodePorts.claim(ctx, name, o, dryRun)
		return name, ok, err
	})
	if err != nil {
		return 0, err
	}
	number, err := strconv.Atoi(port)
	return int32(number), err
}

// search tries n places: from one that the seed decides, round the upper
// part of the range, then the lower part.
func search(n, band int, seed string, try func(i int) (string, bool, error)) (string, error) {
	h := fnv.New64a()
	h.Write([]byte(seed))
	upper := n - band
	start := int(h.Sum64() % uint64(upper))
	for i := range n {
		place := i - upper
		if i < upper {
			place = band + (start+i)%upper
		}
		got, ok, err := try(place)
		if err != nil || ok {
			return got, err
		}
	}
	return "", errFull
}

// staticBand is how many places of a range are left to explicit wishes:
// min(max(16, n/32), most), as in Kubernetes, and none of a small range.
func staticBand(n, most int) int {
	if n <= 16 {
		return 0
	}
	return min(max(16, n/32), most, n-1)
}

// Sweep releases what no service of the list uses: left over from a process
// that died between claim and write. Claims younger than a minute stay, their
// request may still be on its way.
func (a *Allocator) Sweep(ctx context.Context, services []*corev1.Service) error {
	uses := map[string]owner{}
	for _, svc := range services {
		for _, name := range held(svc) {
			uses[name] = ownerOfService(svc)
		}
	}
	keep := func(name string, o owner) bool {
		user, ok := uses[name]
		return ok && user.NamespacedName == o.NamespacedName
	}
	before := time.Now().Add(-time.Minute)
	return errors.Join(a.ips.sweep(ctx, before, keep), a.nodePorts.sweep(ctx, before, keep))
}
