package vnet

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"time"
)

// PacketRouter is a Router that also knows where datagrams for virtual addresses
// go. Without one, they go nowhere.
type PacketRouter interface {
	// RoutePacket is Route for datagrams; done, if any, is called when the pod
	// has not been written to for a while.
	RoutePacket(to netip.AddrPort) (pod netip.AddrPort, done func(), ok bool, err error)
}

const (
	routeIdle = 2 * time.Minute // after which a pod is picked anew, as conntrack forgets UDP
	maxRoutes = 256             // virtual addresses that one port writes to
)

// packetRoutes are the virtual addresses that a port writes to. Datagrams to one
// of them go to one pod, and what that pod answers seems to come from there.
type packetRoutes struct {
	mu   sync.Mutex // guards what follows
	to   map[netip.AddrPort]*packetRoute
	from map[netip.AddrPort]netip.AddrPort // pod to virtual address
}

type packetRoute struct {
	pod  netip.AddrPort
	done func()
	used time.Time
}

// follow replaces a virtual address by a pod's.
func (r *packetRoutes) follow(router Router, to netip.AddrPort) (netip.AddrPort, error) {
	pr, ok := router.(PacketRouter)
	if !ok {
		return to, nil
	}
	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	if have := r.to[to]; have != nil {
		if now.Sub(have.used) < routeIdle {
			have.used = now
			return have.pod, nil
		}
		r.drop(to)
	}
	pod, done, virtual, err := pr.RoutePacket(to)
	if err != nil {
		return to, ErrRefused
	}
	if !virtual {
		return to, nil
	}
	if len(r.to) >= maxRoutes {
		r.dropOldest()
	}
	if r.to == nil {
		r.to, r.from = map[netip.AddrPort]*packetRoute{}, map[netip.AddrPort]netip.AddrPort{}
	}
	r.to[to] = &packetRoute{pod: pod, done: done, used: now}
	r.from[pod] = to
	return pod, nil
}

// back is who seems to have sent what a pod sent.
func (r *packetRoutes) back(pod netip.AddrPort) netip.AddrPort {
	r.mu.Lock()
	defer r.mu.Unlock()
	if virtual, ok := r.from[pod]; ok {
		return virtual
	}
	return pod
}

func (r *packetRoutes) drop(to netip.AddrPort) {
	route := r.to[to]
	delete(r.to, to)
	if r.from[route.pod] == to {
		delete(r.from, route.pod)
	}
	if route.done != nil {
		route.done()
	}
}

func (r *packetRoutes) dropOldest() {
	var oldest netip.AddrPort
	for to, route := range r.to {
		if !oldest.IsValid() || route.used.Before(r.to[oldest].used) {
			oldest = to
		}
	}
	r.drop(oldest)
}

func (r *packetRoutes) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for to := range r.to {
		r.drop(to)
	}
}

// PacketOutside is an Outside that carries datagrams too.
type PacketOutside interface {
	// ListenPacket opens a port for one port of a pod. It sends to what pods may
	// reach, and hears only from those whom it has sent to.
	ListenPacket(ctx context.Context) (net.PacketConn, error)
}

// packetExit is a port's way outside, opened with the first datagram.
type packetExit struct {
	mu     sync.Mutex // guards what follows
	conn   net.PacketConn
	closed bool
	work   sync.WaitGroup
}

func (e *packetExit) send(c *PacketConn, p []byte, to netip.AddrPort) error {
	outside, ok := c.stack.net.cfg.Outside.(PacketOutside)
	if !ok {
		return ErrUnroutable
	}
	conn, err := e.open(c, outside)
	if err != nil {
		return err
	}
	_, err = conn.WriteTo(p, net.UDPAddrFromAddrPort(to))
	return err
}

func (e *packetExit) open(c *PacketConn, outside PacketOutside) (net.PacketConn, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return nil, net.ErrClosed
	}
	if e.conn != nil {
		return e.conn, nil
	}
	conn, err := outside.ListenPacket(context.Background())
	if err != nil {
		return nil, err
	}
	e.conn = conn
	e.work.Go(func() {
		buf := make([]byte, maxDatagram)
		for {
			n, from, err := conn.ReadFrom(buf)
			if err != nil {
				return // closed, or broken: then nothing more is heard, as on a bad line
			}
			c.deliver(buf[:n], addrPort(from))
		}
	})
	return conn, nil
}

func (e *packetExit) close() {
	e.mu.Lock()
	e.closed = true
	conn := e.conn
	e.mu.Unlock()
	if conn != nil {
		_ = conn.Close()
		e.work.Wait()
	}
}
