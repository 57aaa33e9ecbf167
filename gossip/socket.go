package gossip

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
)

// socket is UDP and TCP on one port. Addresses are numbers: resolving names is
// Join's affair, so no peer can make this member ask a name server.
type socket struct {
	udp       *net.UDPConn
	tcp       *net.TCPListener
	bound     netip.AddrPort
	advertise netip.AddrPort

	packets chan *memberlist.Packet
	streams chan net.Conn
	done    chan struct{}
	loops   sync.WaitGroup
}

// listen binds and starts. An advertised port of 0 becomes the bound one.
func listen(bind, advertise netip.AddrPort) (*socket, error) {
	s := &socket{
		packets: make(chan *memberlist.Packet), streams: make(chan net.Conn), done: make(chan struct{}),
	}
	attempts := 1
	if bind.Port() == 0 {
		attempts = 10 // the kernel picks a TCP port that may be taken for UDP
	}
	var err error
	for range attempts {
		if err = s.bind(bind); err == nil {
			break
		}
	}
	if err != nil {
		return nil, err
	}
	s.advertise = advertise
	if advertise.Port() == 0 {
		s.advertise = netip.AddrPortFrom(advertise.Addr(), s.bound.Port())
	}
	_ = s.udp.SetReadBuffer(1 << 20) // the kernel may grant less, and that will do
	s.loops.Go(s.readPackets)
	s.loops.Go(s.acceptStreams)
	return s, nil
}

func (s *socket) bind(at netip.AddrPort) (err error) {
	if s.tcp, err = net.ListenTCP("tcp", net.TCPAddrFromAddrPort(at)); err != nil {
		return err
	}
	s.bound = s.tcp.Addr().(*net.TCPAddr).AddrPort()
	s.udp, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(at.Addr(), s.bound.Port())))
	if err != nil {
		_ = s.tcp.Close()
	}
	return err
}

func (s *socket) FinalAdvertiseAddr(string, int) (net.IP, int, error) {
	return s.advertise.Addr().AsSlice(), int(s.advertise.Port()), nil
}

func (s *socket) PacketCh() <-chan *memberlist.Packet { return s.packets }
func (s *socket) StreamCh() <-chan net.Conn           { return s.streams }

func (s *socket) WriteTo(b []byte, addr string) (time.Time, error) {
	to, err := netip.ParseAddrPort(addr)
	if err != nil {
		return time.Time{}, err
	}
	_, err = s.udp.WriteToUDPAddrPort(b, to)
	return time.Now(), err
}

func (s *socket) WriteToAddress(b []byte, to memberlist.Address) (time.Time, error) {
	return s.WriteTo(b, to.Addr)
}

// DialTimeout dials from the bound address, so that several members on one
// machine are told apart.
func (s *socket) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	if _, err := netip.ParseAddrPort(addr); err != nil {
		return nil, err
	}
	d := net.Dialer{Timeout: timeout}
	if a := s.bound.Addr(); !a.IsUnspecified() {
		d.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(a, 0))
	}
	return d.Dial("tcp", addr)
}

func (s *socket) DialAddressTimeout(to memberlist.Address, timeout time.Duration) (net.Conn, error) {
	return s.DialTimeout(to.Addr, timeout)
}

func (s *socket) Shutdown() error {
	close(s.done)
	err := errors.Join(s.tcp.Close(), s.udp.Close())
	s.loops.Wait()
	if err != nil {
		return fmt.Errorf("close sockets: %w", err)
	}
	return nil
}

func (s *socket) readPackets() {
	var pause backoff
	buf := make([]byte, maxPacket+1) // one more tells too large from large
	for {
		n, from, err := s.udp.ReadFromUDPAddrPort(buf)
		if err != nil {
			if !pause.after(err, s.done) {
				return
			}
			continue
		}
		pause = 0
		p := &memberlist.Packet{
			Buf: append([]byte(nil), buf[:n]...), From: net.UDPAddrFromAddrPort(from), Timestamp: time.Now(),
		}
		select {
		case s.packets <- p:
		case <-s.done:
			return
		}
	}
}

func (s *socket) acceptStreams() {
	var pause backoff
	for {
		conn, err := s.tcp.Accept()
		if err != nil {
			if !pause.after(err, s.done) {
				return
			}
			continue
		}
		pause = 0
		select {
		case s.streams <- conn:
		case <-s.done:
			_ = conn.Close()
			return
		}
	}
}

// backoff is the pause after errors in a row: none of them ends a listener,
// such as when the process is out of file descriptors.
type backoff time.Duration

func (b *backoff) after(err error, done <-chan struct{}) bool {
	if errors.Is(err, net.ErrClosed) {
		return false
	}
	*b = min(max(*b*2, backoff(5*time.Millisecond)), backoff(time.Second))
	select {
	case <-time.After(time.Duration(*b)):
		return true
	case <-done:
		return false
	}
}
