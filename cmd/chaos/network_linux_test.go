package chaos

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// network is the switch between isolated hosts: it moves their packets, or
// loses, delays and refuses them, each direction of each pair by itself.
type network struct {
	ports map[netip.Addr]*port
	wg    sync.WaitGroup

	mu    sync.Mutex // guards links
	links map[direction]quality
}

type direction struct{ from, to netip.Addr }

// quality is how a direction serves. Zero is perfect.
type quality struct {
	cut    bool
	loss   float64       // of one
	delay  time.Duration // of each packet
	jitter time.Duration // more of it, by chance
}

// port is where a host is plugged in.
type port struct {
	addr  netip.Addr
	tun   *os.File
	queue map[netip.Addr]chan packet // by sender
}

type packet struct {
	due  time.Time
	data []byte
}

const (
	mtu     = 1500
	backlog = 4096 // packets on their way in one direction, as much as a long pipe holds
)

func newNetwork() *network {
	return &network{ports: map[netip.Addr]*port{}, links: map[direction]quality{}}
}

// plug gives a host its address; all are plugged in before run.
func (n *network) plug(h *host, addr netip.Addr) error {
	tun, err := newTun(h, addr.String())
	if err != nil {
		return err
	}
	n.ports[addr] = &port{addr: addr, tun: tun, queue: map[netip.Addr]chan packet{}}
	return nil
}

// run moves packets until close.
func (n *network) run(ctx context.Context) {
	for _, p := range n.ports {
		for _, from := range n.ports {
			q := make(chan packet, backlog)
			p.queue[from.addr] = q
			n.wg.Go(func() { p.deliver(ctx, q) })
		}
	}
	for _, p := range n.ports {
		n.wg.Go(func() { n.receive(p) })
	}
}

// close unplugs all.
func (n *network) close() {
	for _, p := range n.ports {
		_ = p.tun.Close()
	}
	n.wg.Wait()
}

// receive takes what a host sends until it is unplugged.
func (n *network) receive(from *port) {
	buf := make([]byte, 1<<16)
	for {
		size, err := from.tun.Read(buf)
		if err != nil {
			return
		}
		if size < 20 || buf[0]>>4 != 4 {
			continue // not IPv4
		}
		to, ok := n.ports[netip.AddrFrom4([4]byte(buf[16:20]))]
		if !ok {
			continue
		}
		n.mu.Lock()
		q := n.links[direction{from.addr, to.addr}]
		n.mu.Unlock()
		if q.cut || q.loss > 0 && rand.Float64() < q.loss {
			continue
		}
		due := time.Now().Add(q.delay)
		if q.jitter > 0 {
			due = due.Add(rand.N(q.jitter))
		}
		select {
		case to.queue[from.addr] <- packet{due, append([]byte(nil), buf[:size]...)}:
		default: // a full queue loses, as everywhere
		}
	}
}

// deliver hands over in order of sending, each packet when it is due.
func (p *port) deliver(ctx context.Context, q chan packet) {
	for {
		select {
		case <-ctx.Done():
			return
		case pkt := <-q:
			if wait := time.Until(pkt.due); wait > 0 {
				select {
				case <-ctx.Done():
					return
				case <-time.After(wait):
				}
			}
			if _, err := p.tun.Write(pkt.data); errors.Is(err, os.ErrClosed) {
				return
			}
		}
	}
}

func (n *network) set(from, to netip.Addr, q quality) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.links[direction{from, to}] = q
}

// heal makes every direction perfect.
func (n *network) heal() {
	n.mu.Lock()
	defer n.mu.Unlock()
	clear(n.links)
}

// newTun gives the host one interface with the address, and its loopback.
func newTun(h *host, addr string) (*os.File, error) {
	var tun *os.File
	err := h.on(func() error {
		fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
		if err != nil {
			return fmt.Errorf("/dev/net/tun: %w", err)
		}
		ifr, err := unix.NewIfreq("wire")
		if err != nil {
			return errors.Join(err, unix.Close(fd))
		}
		ifr.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
		if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, ifr); err != nil {
			return errors.Join(fmt.Errorf("interface: %w", err), unix.Close(fd))
		}
		tun = os.NewFile(uintptr(fd), "tun") // not before it is an interface: the poller would see an error
		s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer func() { _ = unix.Close(s) }()
		ip := netip.MustParseAddr(addr).As4()
		return errors.Join(
			setIfreq(s, "wire", unix.SIOCSIFADDR, func(r *unix.Ifreq) error { return r.SetInet4Addr(ip[:]) }),
			setIfreq(s, "wire", unix.SIOCSIFNETMASK, func(r *unix.Ifreq) error { return r.SetInet4Addr([]byte{255, 255, 255, 0}) }),
			setIfreq(s, "wire", unix.SIOCSIFMTU, func(r *unix.Ifreq) error { r.SetUint32(mtu); return nil }),
			setIfreq(s, "wire", unix.SIOCSIFFLAGS, func(r *unix.Ifreq) error { r.SetUint16(unix.IFF_UP | unix.IFF_RUNNING); return nil }),
			setIfreq(s, "lo", unix.SIOCSIFFLAGS, func(r *unix.Ifreq) error { r.SetUint16(unix.IFF_UP | unix.IFF_RUNNING); return nil }),
		)
	})
	if err != nil && tun != nil {
		_ = tun.Close()
	}
	return tun, err
}

func setIfreq(socket int, name string, request uint, fill func(*unix.Ifreq) error) error {
	ifr, err := unix.NewIfreq(name)
	if err != nil {
		return err
	}
	if err := fill(ifr); err != nil {
		return err
	}
	if err := unix.IoctlIfreq(socket, request, ifr); err != nil {
		return fmt.Errorf("interface %s: %w", name, err)
	}
	return nil
}
