package plane

import (
	"crypto/x509"
	"fmt"
	"net/netip"

	"copepod/gossip"
	"copepod/plane/auth/certs"
	"copepod/plane/detector"
	"copepod/plane/enroll"
	"copepod/plane/nodedial"
	"copepod/plane/peer"
)

// Gossip says who is there, and who fell silent. *gossip.Gossip is one. What it
// says is a hint: see package detector.
type Gossip interface {
	detector.Gossip
	Members() []gossip.Member
}

// openPeers makes this machine's end of the connections between planes.
func (p *Plane) openPeers() error {
	if p.cfg.Peers == nil {
		return nil
	}
	var err error
	p.member, err = p.rotator(func() (certs.Pair, error) {
		return p.ca.Issue(certs.Request{
			CommonName: certs.NodeUserPrefix + p.cfg.Name, Groups: []string{certs.NodesGroup, certs.PlanesGroup},
			Hosts: []string{p.cfg.Name}, Server: true, Client: true, Lifetime: certs.NodeLifetime,
		})
	})
	if err != nil {
		return err
	}
	p.peers, err = peer.New(peer.Config{
		Listener:             p.cfg.Peers,
		Member:               p.cfg.Name,
		CAs:                  p.ca.Pool(),
		GetCertificate:       p.member.GetCertificate,
		GetClientCertificate: p.member.GetClientCertificate,
		Authorize:            p.authorizePeer,
		Log:                  p.cfg.Log,
		Registerer:           p.cfg.Registerer,
	})
	return err
}

// authorizePeer says which plane a verified certificate belongs to.
func (p *Plane) authorizePeer(cert *x509.Certificate) (string, error) {
	name, plane, ok := certs.NodeOf(cert)
	if !ok || !plane {
		return "", fmt.Errorf("certificate %q is not that of a plane", cert.Subject)
	}
	return name, p.cfg.Revoked.Check(cert)
}

// peerAddress is where the other planes reach this one.
func (p *Plane) peerAddress() netip.AddrPort {
	return netip.AddrPortFrom(p.cfg.Advertise.Addr(), p.cfg.Ports.Peer)
}

// buildJoining builds what takes machines in.
func (p *Plane) buildJoining() error {
	var err error
	p.joining, err = enroll.NewServer(enroll.ServerConfig{
		Dir:        p.cfg.Dir,
		CA:         p.ca,
		Objects:    func() enroll.Objects { return client{p.api.Local()} },
		Fresh:      p.store.ReadIndex,
		Planes:     p.planes,
		Raft:       p.suffrage,
		Settings:   enroll.Settings{PodCIDR: p.cfg.Pods, ServiceCIDR: p.cfg.Services},
		Revoked:    p.cfg.Revoked,
		Version:    p.cfg.Version,
		Registerer: p.cfg.Registerer,
		Log:        p.cfg.Log,
	})
	return err
}

// planes are the machines that hold the plane now, as Raft has them. Where they
// listen besides is what they said when they joined, or as here.
func (p *Plane) planes() []enroll.Member {
	self := enroll.Member{Name: p.cfg.Name, Address: p.cfg.Advertise.Addr(), Ports: p.cfg.Ports}
	if p.peers == nil {
		return []enroll.Member{self}
	}
	members, err := p.store.Members()
	if err != nil {
		return []enroll.Member{self}
	}
	known := enroll.Known(p.api.Local().View())
	var all []enroll.Member
	for _, m := range members {
		at, err := netip.ParseAddrPort(m.Address)
		switch id, ok := known[m.ID]; {
		case m.ID == p.cfg.Name:
			all = append(all, self)
		case ok:
			all = append(all, id.Member())
		case err == nil:
			other := enroll.Member{Name: m.ID, Address: at.Addr(), Ports: p.cfg.Ports}
			other.Ports.Peer = at.Port()
			all = append(all, other)
		}
	}
	return all
}

// suffrage is what each member of the store is: "voter" or "nonvoter".
func (p *Plane) suffrage() map[string]string {
	members, err := p.store.Members()
	if err != nil {
		return nil
	}
	all := map[string]string{}
	for _, m := range members {
		all[m.ID] = "nonvoter"
		if m.Voter {
			all[m.ID] = "voter"
		}
	}
	return all
}

// others are the API servers of the other planes.
func (p *Plane) others() []netip.AddrPort {
	var all []netip.AddrPort
	for _, m := range p.planes() {
		if m.Name != p.cfg.Name {
			all = append(all, netip.AddrPortFrom(m.Address, m.Ports.API))
		}
	}
	return all
}

// buildDetector builds what finds out whether a silent node is dead.
func (p *Plane) buildDetector() error {
	nodes := client{p.api.Local()}
	dial := nodedial.New(nodedial.Config{Roots: p.ca.Pool(), Client: p.kubelet.Pair})
	cfg := detector.Config{
		Nodes: nodes, Ports: detector.NewPorts(dial, nodes, p.cfg.Log), Self: p.cfg.Name,
		Log: p.cfg.Log, Metrics: p.cfg.Registerer,
	}
	if p.cfg.Gossip != nil {
		cfg.Gossip = p.cfg.Gossip
	}
	var err error
	p.deaths, err = detector.New(cfg)
	return err
}
