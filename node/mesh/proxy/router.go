package proxy

import (
	"net/netip"

	"copepod/node/mesh/table"
)

// Router answers the pod network's questions from the table.
type Router struct{ Table *table.Table }

// Route sends what is meant for a Service to one of its ready pods.
func (r Router) Route(to netip.AddrPort) (netip.AddrPort, func(), bool, error) {
	return r.RouteAgain(to, nil)
}

// RouteAgain is Route past the pods that were tried.
func (r Router) RouteAgain(to netip.AddrPort, tried []netip.AddrPort) (netip.AddrPort, func(), bool, error) {
	port, ok := r.Table.Virtual(to)
	if !ok {
		return to, nil, false, nil
	}
	pod, done, err := port.Pick(tried...)
	return pod, done, true, err
}

// Lookup resolves the names of Services.
func (r Router) Lookup(host string) ([]netip.Addr, bool) { return r.Table.Lookup(host) }
