package enroll

import (
	"net/netip"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/version"

	"copepod/plane/controllers/api"
)

// maxSkew is how far clocks may be apart: well under what certificates are
// backdated by.
const maxSkew = 2 * time.Minute

// maxMinors is how many minor versions machines of one cluster may be apart, for
// as long as an upgrade takes.
const maxMinors = 1

// checkMachine judges what a machine says about itself.
func (s *Server) checkMachine(theirs string, clock time.Time, name string, now time.Time) *Refusal {
	if refusal := checkVersion(s.cfg.Version, theirs); refusal != nil {
		return refusal
	}
	if skew := now.Sub(clock); skew.Abs() > maxSkew {
		return refuse(CodeClock, "the clocks are %s apart: here it is %s, on the joining machine %s; set them, best by NTP, and try again",
			skew.Abs().Round(time.Second), now.UTC().Format(time.RFC3339), clock.UTC().Format(time.RFC3339))
	}
	return checkName(name)
}

// checkVersion compares releases. One that is not a version, as in a build from
// source without one, goes with everything.
func checkVersion(ours, theirs string) *Refusal {
	if ours == "" || theirs == "" {
		return nil
	}
	a, err := version.ParseSemantic(ours)
	if err != nil {
		return nil
	}
	b, err := version.ParseSemantic(theirs)
	if err != nil {
		return refuse(CodeVersion, "version %.40q is not a version: install copepod %s on the joining machine", theirs, ours)
	}
	apart := int64(a.Minor()) - int64(b.Minor())
	if a.Major() == b.Major() && -maxMinors <= apart && apart <= maxMinors {
		return nil
	}
	return refuse(CodeVersion, "copepod %s on the joining machine is too far from %s in the cluster: install %s there (versions may differ by %d minor)",
		theirs, ours, ours, maxMinors)
}

// checkAddress compares what a machine says its address is with where its
// connection comes from. What is signed is the address, so a machine can only
// have its own.
func (s *Server) checkAddress(view api.View, name string, claimed, source netip.Addr) *Refusal {
	if !claimed.IsValid() || claimed.IsUnspecified() || claimed.IsMulticast() || claimed.Zone() != "" {
		return refuse(CodeAddress, "address %q is not one that others can reach: give one with --bind", claimed)
	}
	if claimed.Unmap() == source || claimed.IsLoopback() && source.IsLoopback() {
		return nil
	}
	if s.isMember(view, name, source) {
		servers := make([]string, 0, len(s.cfg.Planes()))
		for _, p := range s.cfg.Planes() {
			servers = append(servers, p.API())
		}
		r := refuse(CodeIndirect, "the connection came through the cluster's machine at %s, which hides the address of this one: join through a plane, such as %s", source, first(servers))
		r.Servers = servers
		return r
	}
	if claimed.IsLoopback() {
		return refuse(CodeAddress, "address %s is a loopback address, and the connection comes from %s: give this machine's address with --bind %s", claimed, source, source)
	}
	return refuse(CodeAddress, "address %s is not where the connection comes from, which is %s: give that one with --bind; a machine whose address is translated (NAT) on the way cannot join", claimed, source)
}

func first(all []string) string {
	if len(all) == 0 {
		return "the first machine"
	}
	return all[0]
}

// isMember tells whether an address is that of another machine of the cluster.
func (s *Server) isMember(view api.View, name string, a netip.Addr) bool {
	for _, p := range s.cfg.Planes() {
		if p.Name != name && p.Address == a {
			return true
		}
	}
	for obj := range view.List(api.Nodes, "") {
		node, ok := obj.(*corev1.Node)
		if !ok || node.Name == name {
			continue
		}
		for _, na := range node.Status.Addresses {
			if parsed, err := netip.ParseAddr(na.Address); err == nil && parsed.Unmap() == a {
				return true
			}
		}
	}
	return false
}
