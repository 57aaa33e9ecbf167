package gossip

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"time"

	"github.com/hashicorp/memberlist"
	"github.com/prometheus/client_golang/prometheus"
)

// DefaultPort is the port for both UDP packets and TCP streams.
const DefaultPort = 7946

// Config says who this member is and how it reaches the others.
type Config struct {
	// Name is the member's name, unique in the cluster: a DNS subdomain
	// (RFC 1123), as Kubernetes wants node names.
	Name string
	// Bind is where packets and streams arrive. Zero: 0.0.0.0:7946. Port 0
	// with an address lets the kernel choose. Not used with Transport.
	Bind netip.AddrPort
	// Advertise is the address that others are told. Zero: Bind's. It must be
	// set when Bind names no single address. Port 0 stands for the bound port.
	Advertise netip.AddrPort
	// Transport replaces the sockets; gossiptest has one in memory. What it
	// carries is sealed. Run shuts it down.
	Transport memberlist.NodeAwareTransport
	// Keys seal everything that is sent; 32 bytes each, at most MaxKeys. The
	// first seals, all of them open. There is no way to run without.
	Keys [][]byte
	// Meta is what the others learn about this member; SetMeta changes it.
	Meta Meta
	// Pace is how fast trouble is noticed. Zero fields are those of LAN.
	Pace Pace
	// MaxMembers bounds what peers can make this member remember. Zero: 5000.
	MaxMembers int
	// Log gets events at Info and refusals at Warn. Nil: slog.Default().
	Log *slog.Logger
	// Metrics gets copepod_gossip_members and copepod_gossip_refused_total
	// while Run runs. Nil: none.
	Metrics prometheus.Registerer
}

// Pace is how often a member probes, gossips and tries again. A zero field
// takes the value of LAN.
type Pace struct {
	// ProbeInterval is the time between two probes of this member, each of
	// one other; a probe without an answer after it makes the other Suspect.
	ProbeInterval time.Duration
	// ProbeTimeout is the round trip after which a probe also goes through
	// other members and over a stream.
	ProbeTimeout time.Duration
	// IndirectProbes is the number of members asked to probe in our stead.
	IndirectProbes int
	// SuspicionMult times log10(members), at least 1, times ProbeInterval is
	// how long a Suspect has to answer before it is Failed.
	SuspicionMult int
	// GossipInterval is the time between two rounds of news, GossipNodes the
	// members that hear each round.
	GossipInterval time.Duration
	GossipNodes    int
	// RetransmitMult times log10(members) is how often a piece of news is sent.
	RetransmitMult int
	// SyncInterval is the time between two exchanges of the whole state with
	// one member; it grows with the logarithm of the cluster beyond 32 members.
	SyncInterval time.Duration
	// RejoinInterval is the time between two attempts to reach a member that
	// Failed: this is what heals a long partition.
	RejoinInterval time.Duration
	// StreamTimeout bounds every stream from dial to close.
	StreamTimeout time.Duration
	// Forget is how long a Failed or Left member is remembered.
	Forget time.Duration
}

// LAN is for machines within a few milliseconds of each other: a dead member is
// Suspect in about a second and Failed about two seconds later.
func LAN() Pace {
	return Pace{
		ProbeInterval: 500 * time.Millisecond, ProbeTimeout: 200 * time.Millisecond,
		IndirectProbes: 3, SuspicionMult: 4,
		GossipInterval: 100 * time.Millisecond, GossipNodes: 3, RetransmitMult: 4,
		SyncInterval: 10 * time.Second, RejoinInterval: 5 * time.Second,
		StreamTimeout: 5 * time.Second, Forget: 24 * time.Hour,
	}
}

// WAN is for machines in several places: slower to suspect, gentler on links.
func WAN() Pace {
	return Pace{
		ProbeInterval: 3 * time.Second, ProbeTimeout: 1500 * time.Millisecond,
		IndirectProbes: 3, SuspicionMult: 6,
		GossipInterval: 500 * time.Millisecond, GossipNodes: 4, RetransmitMult: 4,
		SyncInterval: 30 * time.Second, RejoinInterval: 30 * time.Second,
		StreamTimeout: 20 * time.Second, Forget: 24 * time.Hour,
	}
}

// Loopback is for several members on one machine, where the network never
// loses anything but the processor is shared.
func Loopback() Pace {
	return Pace{
		ProbeInterval: 500 * time.Millisecond, ProbeTimeout: 250 * time.Millisecond,
		IndirectProbes: 1, SuspicionMult: 3,
		GossipInterval: 50 * time.Millisecond, GossipNodes: 3, RetransmitMult: 4,
		SyncInterval: 10 * time.Second, RejoinInterval: 2 * time.Second,
		StreamTimeout: 2 * time.Second, Forget: time.Hour,
	}
}

// filled returns p with LAN's values for the fields that are zero.
func (p Pace) filled() Pace {
	d := LAN()
	return Pace{
		ProbeInterval:  cmp.Or(p.ProbeInterval, d.ProbeInterval),
		ProbeTimeout:   cmp.Or(p.ProbeTimeout, d.ProbeTimeout),
		IndirectProbes: cmp.Or(p.IndirectProbes, d.IndirectProbes),
		SuspicionMult:  cmp.Or(p.SuspicionMult, d.SuspicionMult),
		GossipInterval: cmp.Or(p.GossipInterval, d.GossipInterval),
		GossipNodes:    cmp.Or(p.GossipNodes, d.GossipNodes),
		RetransmitMult: cmp.Or(p.RetransmitMult, d.RetransmitMult),
		SyncInterval:   cmp.Or(p.SyncInterval, d.SyncInterval),
		RejoinInterval: cmp.Or(p.RejoinInterval, d.RejoinInterval),
		StreamTimeout:  cmp.Or(p.StreamTimeout, d.StreamTimeout),
		Forget:         cmp.Or(p.Forget, d.Forget),
	}
}

func (p Pace) validate() error {
	for name, d := range map[string]time.Duration{
		"ProbeInterval": p.ProbeInterval, "ProbeTimeout": p.ProbeTimeout,
		"GossipInterval": p.GossipInterval, "SyncInterval": p.SyncInterval,
		"RejoinInterval": p.RejoinInterval, "StreamTimeout": p.StreamTimeout, "Forget": p.Forget,
	} {
		if d < time.Millisecond {
			return fmt.Errorf("field Pace.%s is %v: give at least a millisecond", name, d)
		}
	}
	for name, n := range map[string]int{
		"IndirectProbes": p.IndirectProbes, "SuspicionMult": p.SuspicionMult,
		"GossipNodes": p.GossipNodes, "RetransmitMult": p.RetransmitMult,
	} {
		if n < 1 || n > 64 {
			return fmt.Errorf("field Pace.%s is %d: give 1 to 64", name, n)
		}
	}
	if p.ProbeTimeout >= p.ProbeInterval {
		return fmt.Errorf("field Pace.ProbeTimeout is %v: give less than ProbeInterval, %v", p.ProbeTimeout, p.ProbeInterval)
	}
	return nil
}

// filled returns cfg with defaults, or the first thing that is wrong with it.
func (cfg Config) filled() (Config, error) {
	if err := checkName(cfg.Name); err != nil {
		return cfg, fmt.Errorf("field Name %w", err)
	}
	if _, err := cfg.Meta.Encode(); err != nil {
		return cfg, err
	}
	cfg.Pace = cfg.Pace.filled()
	if err := cfg.Pace.validate(); err != nil {
		return cfg, err
	}
	cfg.MaxMembers = cmp.Or(cfg.MaxMembers, 5000)
	if cfg.MaxMembers < 1 {
		return cfg, fmt.Errorf("field MaxMembers is %d: give at least 1", cfg.MaxMembers)
	}
	cfg.Log = cmp.Or(cfg.Log, slog.Default()).With("part", "gossip", "member", cfg.Name)
	if cfg.Transport != nil {
		return cfg, nil
	}
	if !cfg.Bind.IsValid() {
		cfg.Bind = netip.AddrPortFrom(netip.IPv4Unspecified(), cmp.Or(cfg.Bind.Port(), DefaultPort))
	}
	if !cfg.Advertise.IsValid() {
		cfg.Advertise = netip.AddrPortFrom(cfg.Bind.Addr(), cfg.Advertise.Port())
	}
	if !reachable(cfg.Advertise.Addr()) {
		return cfg, fmt.Errorf("field Advertise is %v: give the address under which other members reach this one", cfg.Advertise.Addr())
	}
	return cfg, nil
}

// reachable says whether a packet to a can arrive at one member.
func reachable(a netip.Addr) bool {
	return a.IsValid() && !a.IsUnspecified() && !a.IsMulticast() && a.Zone() == ""
}

// maxName is the length of a DNS subdomain, RFC 1123.
const maxName = 253

// checkName holds a member's name to an RFC 1123 subdomain: peers choose the
// names that end up in our logs and metrics.
func checkName(name string) error {
	if name == "" {
		return errors.New("is empty")
	}
	if len(name) > maxName {
		return fmt.Errorf("has %d bytes: give at most %d", len(name), maxName)
	}
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' ||
			strings.ContainsFunc(label, func(r rune) bool {
				return r != '-' && (r < '0' || r > '9') && (r < 'a' || r > 'z')
			}) {
			return fmt.Errorf("%q is no RFC 1123 subdomain: use lower case letters, digits, '-' and '.'", name)
		}
	}
	return nil
}
