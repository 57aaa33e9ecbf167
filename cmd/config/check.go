package config

import (
	"fmt"
	"net/netip"
	"slices"

	"k8s.io/apimachinery/pkg/api/resource"
)

// check says what is wrong with a value that has the right type.
func (c Config) check(given map[string]string) error {
	if _, err := ParsePortRange(c.Network.NodePorts); err != nil {
		return bad("network.node-ports", c.Network.NodePorts, given, err.Error())
	}
	if !slices.Contains([]string{"debug", "info", "warn", "error"}, c.Logs.Level) {
		return bad("logs.level", c.Logs.Level, given, "want debug, info, warn or error")
	}
	for _, q := range []struct{ name, value string }{{"node.cpu", c.Node.CPU}, {"node.memory", c.Node.Memory}} {
		if v, err := resource.ParseQuantity(q.value); q.value != "" && (err != nil || v.Sign() <= 0) {
			return bad(q.name, q.value, given, "want a quantity of Kubernetes, as 1500m or 8Gi")
		}
	}
	if c.Node.MaxPods < 1 {
		return bad("node.max-pods", fmt.Sprint(c.Node.MaxPods), given, "want at least 1")
	}
	if c.Advertise.IsValid() && c.Advertise.IsUnspecified() {
		return bad("advertise", c.Advertise.String(), given, "want an address that leads here from other machines")
	}
	if !slices.Contains([]string{"", "lan", "wan", "loopback"}, c.Gossip.Pace) {
		return bad("gossip.pace", c.Gossip.Pace, given, "want lan, wan or loopback")
	}
	if c.Plane.Voters < 1 || c.Plane.Voters > 7 || c.Plane.Voters%2 == 0 {
		return bad("plane.voters", fmt.Sprint(c.Plane.Voters), given, "want 1, 3, 5 or 7")
	}
	return c.checkRanges(given)
}

// checkRanges holds the networks of pods and of Services apart.
func (c Config) checkRanges(given map[string]string) error {
	ranges := []struct {
		name string
		p    netip.Prefix
	}{{"network.pod-cidr", c.Network.PodCIDR}, {"network.service-cidr", c.Network.ServiceCIDR}}
	for _, r := range ranges {
		if r.p != r.p.Masked() {
			return bad(r.name, r.p.String(), given, "has bits set beyond its length; the range is "+r.p.Masked().String())
		}
	}
	if c.Network.PodCIDR.Overlaps(c.Network.ServiceCIDR) {
		return bad("network.service-cidr", c.Network.ServiceCIDR.String(), given, "overlaps network.pod-cidr, "+c.Network.PodCIDR.String())
	}
	return nil
}
