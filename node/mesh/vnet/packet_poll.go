package vnet

import (
	"net"
	"net/netip"
	"syscall"

	"copepod/wasmrt/wasi"
)

var (
	_ net.PacketConn     = (*PacketConn)(nil)
	_ wasi.PacketReader  = (*PacketConn)(nil)
	_ wasi.PacketNetwork = (*Stack)(nil)
)

// Poll implements wasi.Pollable: sending never waits.
func (c *PacketConn) Poll(dir wasi.Direction, wake func()) (ready bool, cancel func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if dir == wasi.Write || c.closed || len(c.queue) > 0 {
		return true, nil
	}
	return false, c.ready.add(&c.mu, wake)
}

// TryReadPacket implements wasi.PacketReader.
func (c *PacketConn) TryReadPacket() ([]byte, netip.AddrPort, error) {
	got, ready, err := c.take()
	switch {
	case ready != nil:
		return nil, netip.AddrPort{}, syscall.EAGAIN
	case err != nil:
		return nil, netip.AddrPort{}, c.readError(err)
	}
	return got.data, got.from, nil
}
