package cmd

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"

	"copepod/cmd/config"
)

// advertised is the address under which other machines reach this one.
func advertised(cfg config.Config) (netip.Addr, error) {
	switch {
	case cfg.Advertise.IsValid():
		return cfg.Advertise, nil
	case !cfg.Bind.IsUnspecified():
		return cfg.Bind, nil
	}
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return netip.Addr{}, fmt.Errorf("addresses of this machine: %w; give one with --advertise", err)
	}
	for _, a := range addrs {
		p, err := netip.ParsePrefix(a.String())
		if err == nil && p.Addr().IsGlobalUnicast() && p.Addr().Is4() == cfg.Bind.Is4() {
			return p.Addr(), nil
		}
	}
	return netip.Addr{}, errors.New("this machine has no address that others could reach; give one with --advertise, or another --bind")
}

// nodeName is the configured name, or the machine's, as the name of a Node. Nodes
// that share a machine by binding to further loopback addresses differ by those.
func nodeName(cfg config.Config) (string, error) {
	name := cfg.Node.Name
	if name == "" {
		host, err := os.Hostname()
		if err != nil {
			return "", fmt.Errorf("host name: %w; give one with --node-name", err)
		}
		name = strings.ToLower(host)
		if b := cfg.Bind.As16(); cfg.Bind.Is4() && cfg.Bind.IsLoopback() && cfg.Bind != netip.AddrFrom4([4]byte{127, 0, 0, 1}) {
			name = fmt.Sprintf("%s-%d", name, int(b[14])<<8|int(b[15]))
		}
	}
	if errs := validation.IsDNS1123Subdomain(name); len(errs) > 0 {
		return "", fmt.Errorf("node name %q: %s; give another with --node-name", name, errs[0])
	}
	return name, nil
}
