package vnet

import (
	"context"
	"net"
	"net/netip"
	"sync"
)

// maxPeers is how many addresses one port of a pod may write to before the
// oldest knowledge of them is thrown away.
const maxPeers = 1024

// ListenPacket implements PacketOutside, with the same bounds as Dial.
func (e Egress) ListenPacket(ctx context.Context) (net.PacketConn, error) {
	var c net.ListenConfig
	conn, err := c.ListenPacket(ctx, "udp4", ":0")
	if err != nil {
		return nil, err
	}
	return &egressPackets{PacketConn: conn, peers: map[netip.AddrPort]bool{}}, nil
}

// egressPackets hears only from those whom it wrote to, as through a NAT.
type egressPackets struct {
	net.PacketConn

	mu    sync.Mutex              // guards what follows
	peers map[netip.AddrPort]bool // permitted, and written to
}

func (e *egressPackets) WriteTo(p []byte, addr net.Addr) (int, error) {
	to := addrPort(addr)
	if !e.knows(to) {
		if err := permitted(to.Addr()); err != nil {
			return 0, err
		}
		e.mu.Lock()
		if len(e.peers) >= maxPeers {
			clear(e.peers)
		}
		e.peers[to] = true
		e.mu.Unlock()
	}
	return e.PacketConn.WriteTo(p, addr)
}

func (e *egressPackets) ReadFrom(p []byte) (int, net.Addr, error) {
	for {
		n, from, err := e.PacketConn.ReadFrom(p)
		if err != nil || e.knows(addrPort(from)) {
			return n, from, err
		}
	}
}

func (e *egressPackets) knows(a netip.AddrPort) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.peers[a]
}
