// Package gossiptest is a network in memory for members of package gossip: a
// value that loses, delays and cuts, in one process and without a socket. It
// knows names, addresses, packets and streams; it has never heard of what they
// carry.
//
//	net := gossiptest.New(1)
//	a, b := net.Transport("a"), net.Transport("b")
//	net.Drop(0.1)
//	net.Cut("a", "b")
//	net.Heal()
//
// What happens to the n-th packet from one member to another depends on the
// seed, the two names and n alone. Which packet is the n-th depends on the
// members, so a run repeats as far as they do; inside testing/synctest that is
// nearly all of it.
package gossiptest

import (
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
)

// Port is that of every member; each has an IP address of its own.
const Port = 7946

// Network joins transports. Its zero value is not usable; see New.
type Network struct {
	seed uint64

	mu          sync.Mutex // guards what follows
	byName      map[string]*Transport
	byAddr      map[netip.AddrPort]*Transport
	links       map[link]*rand.Rand
	cut         map[link]bool
	loss        float64
	least, most time.Duration
	pipes       map[*pipe]struct{}
	stats       Stats
}

// link is one direction between two members, by name.
type link struct{ from, to string }

// Stats counts what members sent since New.
type Stats struct {
	Packets int // handed to the network
	Bytes   int // in them
	Lost    int // of them, to Drop, Cut, or a full inbox
	Streams int // opened
}

// New returns a network that delivers everything at once.
func New(seed uint64) *Network {
	return &Network{
		seed: seed, byName: map[string]*Transport{}, byAddr: map[netip.AddrPort]*Transport{},
		links: map[link]*rand.Rand{}, cut: map[link]bool{}, pipes: map[*pipe]struct{}{},
	}
}

// Transport attaches a member and returns its end. A name that was attached
// before is moved to the new transport, under a new address, like a machine that
// starts again elsewhere.
func (n *Network) Transport(name string) *Transport {
	n.mu.Lock()
	defer n.mu.Unlock()
	i := len(n.byAddr) + 1
	t := &Transport{
		net: n, name: name,
		addr:    netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), Port),
		packets: make(chan *memberlist.Packet, inbox), streams: make(chan net.Conn), done: make(chan struct{}),
	}
	n.byName[name], n.byAddr[t.addr] = t, t
	return t
}

// Drop loses that share of all packets, 0 to 1. Streams repeat what is lost, as
// TCP does, so they are not touched.
func (n *Network) Drop(share float64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.loss = share
}

// Delay makes each packet and the opening of each stream take between least and
// most, so packets may overtake each other.
func (n *Network) Delay(least, most time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.least, n.most = least, max(least, most)
}

// Cut stops everything between a and b, and breaks their streams.
func (n *Network) Cut(a, b string) {
	n.CutOneWay(a, b)
	n.CutOneWay(b, a)
}

// CutOneWay stops packets from one to the other, and all streams between them.
func (n *Network) CutOneWay(from, to string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.cut[link{from, to}] = true
	for p := range n.pipes {
		if p.between == (link{from, to}) || p.between == (link{to, from}) {
			p.sever()
		}
	}
}

// Isolate cuts name from all others that are attached now. To the others it
// looks like power loss.
func (n *Network) Isolate(name string) {
	for _, other := range n.names() {
		if other != name {
			n.Cut(name, other)
		}
	}
}

// Split cuts each group from the members of all others.
func (n *Network) Split(groups ...[]string) {
	for i, group := range groups {
		for _, other := range groups[i+1:] {
			for _, a := range group {
				for _, b := range other {
					n.Cut(a, b)
				}
			}
		}
	}
}

// Heal undoes every cut. Drop and Delay stay as they are.
func (n *Network) Heal() {
	n.mu.Lock()
	defer n.mu.Unlock()
	clear(n.cut)
}

// Stats returns what was sent so far.
func (n *Network) Stats() Stats {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.stats
}

// Inject delivers b to the member called name as a packet from an address
// outside the network, as a stranger would send it.
func (n *Network) Inject(name string, from netip.AddrPort, b []byte) error {
	n.mu.Lock()
	t := n.byName[name]
	n.mu.Unlock()
	if t == nil {
		return fmt.Errorf("gossiptest: no member %s", name)
	}
	t.receive(b, net.UDPAddrFromAddrPort(from))
	return nil
}

// Connect opens a stream to the member called name from an address outside the
// network.
func (n *Network) Connect(name string, from netip.AddrPort) (net.Conn, error) {
	n.mu.Lock()
	t := n.byName[name]
	n.mu.Unlock()
	if t == nil {
		return nil, fmt.Errorf("gossiptest: no member %s", name)
	}
	return n.pipe(link{from.String(), name}, from, t, time.Second)
}

func (n *Network) names() (all []string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for name := range n.byName {
		all = append(all, name)
	}
	return all
}

// route decides over one packet or the opening of one stream.
func (n *Network) route(from *Transport, to netip.AddrPort, size int, lossy bool) (t *Transport, after time.Duration, ok bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if lossy {
		n.stats.Packets++
		n.stats.Bytes += size
	} else {
		n.stats.Streams++
	}
	t = n.byAddr[to]
	if t == nil {
		return nil, 0, false
	}
	l := link{from.name, t.name}
	dice := n.links[l]
	if dice == nil {
		h := fnv.New64a()
		_, _ = fmt.Fprintf(h, "%s>%s", l.from, l.to)
		dice = rand.New(rand.NewPCG(n.seed, h.Sum64()))
		n.links[l] = dice
	}
	lost := dice.Float64() < n.loss
	if spread := n.most - n.least; spread > 0 {
		after = time.Duration(dice.Int64N(int64(spread)))
	}
	blocked := n.cut[l] || (!lossy && n.cut[link{l.to, l.from}])
	if blocked || (lossy && lost) {
		n.stats.Lost++
		return nil, 0, false
	}
	return t, n.least + after, true
}
