package wasi

import (
	"bytes"
	"context"
	"net"
	"net/netip"
)

// PacketNetwork is a Network that also has datagrams.
type PacketNetwork interface {
	ListenPacket(ctx context.Context, network, addr string) (net.PacketConn, error)
}

// PacketReader is a net.PacketConn that tells of its readiness without a
// goroutine, and hands datagrams over whole.
type PacketReader interface {
	Pollable
	// TryReadPacket returns the next datagram, which is the caller's from then
	// on, or an error that is syscall.EAGAIN if there is none.
	TryReadPacket() (data []byte, from netip.AddrPort, err error)
}

// datagrams is a bound datagram socket.
type datagrams struct {
	net.PacketConn
	own    PacketReader   // nil: next reads ahead
	peer   netip.AddrPort // set by connect: the only one to send to and hear from
	next   ahead[datagram]
	buffer []byte    // what next reads into
	held   *datagram // received and not taken yet
}

type datagram struct {
	data []byte
	from netip.AddrPort
}

func newDatagrams(c net.PacketConn) *datagrams {
	d := &datagrams{PacketConn: c}
	d.own, _ = c.(PacketReader)
	d.next.run = d.receive
	return d
}

func (*datagrams) kind() filetype { return typeSocketDatagram }

func (d *datagrams) close() error {
	err := d.PacketConn.Close()
	d.next.stop()
	return err
}

// receive is the blocking read, on ahead's goroutine.
func (d *datagrams) receive() (datagram, error) {
	if d.buffer == nil {
		d.buffer = make([]byte, maxDatagram)
	}
	n, from, err := d.ReadFrom(d.buffer)
	if err != nil {
		return datagram{}, err
	}
	return datagram{data: bytes.Clone(d.buffer[:n]), from: addrOf(from)}, nil
}

// take is the next datagram, or errAgain.
func (d *datagrams) take() (datagram, error) {
	if d.own == nil {
		return d.next.take()
	}
	data, from, err := d.own.TryReadPacket()
	return datagram{data, from}, err
}

// look has the next datagram that is for the guest in hand, or says why not.
func (d *datagrams) look() errno {
	for d.held == nil {
		g, err := d.take()
		if err != nil {
			return toErrno(err)
		}
		if !d.peer.IsValid() || g.from == d.peer {
			d.held = &g
		}
	}
	return success
}

func (d *datagrams) Poll(dir Direction, wake func()) (bool, func()) {
	if dir == Write || d.held != nil {
		return true, nil // a datagram is sent or lost, and never waits
	}
	if d.own != nil {
		return d.own.Poll(dir, wake)
	}
	return d.next.Poll(dir, wake)
}

// receiveDatagram takes one datagram; what does not fit is lost, and says so.
func (s *System) receiveDatagram(row *descriptor, d *datagrams, bufs [][]byte, peek bool) (uint32, uint16, netip.AddrPort, errno) {
	for {
		e := d.look()
		if e == success {
			break
		}
		if e == errAgain && row.blocking() && !s.await(d, Read, row.patience[Read]) {
			continue
		}
		return 0, 0, netip.AddrPort{}, e
	}
	g := *d.held
	if !peek {
		d.held = nil
	}
	n := 0
	for _, b := range bufs {
		n += copy(b, g.data[n:])
	}
	var flags uint16
	if n < len(g.data) {
		flags = recvTruncated
	}
	return uint32(n), flags, g.from, success
}

// send sends the buffers as one datagram.
func (d *datagrams) send(bufs [][]byte, to netip.AddrPort) (uint32, errno) {
	if !to.IsValid() {
		return 0, errDestAddr
	}
	var message []byte
	if len(bufs) == 1 {
		message = bufs[0]
	} else {
		for _, b := range bufs {
			message = append(message, b...)
		}
	}
	if len(message) > maxDatagram {
		return 0, errMessageSize
	}
	n, err := d.WriteTo(message, net.UDPAddrFromAddrPort(to))
	return uint32(n), toErrno(err)
}

// addrOf is the address and port of what a net package handed out.
func addrOf(a net.Addr) netip.AddrPort {
	if with, ok := a.(interface{ AddrPort() netip.AddrPort }); ok {
		p := with.AddrPort()
		return netip.AddrPortFrom(p.Addr().Unmap(), p.Port())
	}
	if a == nil {
		return netip.AddrPort{}
	}
	p, _ := netip.ParseAddrPort(a.String()) // not an address: the zero one
	return netip.AddrPortFrom(p.Addr().Unmap(), p.Port())
}
