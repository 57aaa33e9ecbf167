package cmd

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"slices"
	"sync"
	"syscall"
	"time"

	"copepod/node/mesh/vnet"
)

// apiWay leads pods to the API. The Service `kubernetes` has the planes' machines
// behind it, not pods, and pods reach no machine; but the API's own port of this
// machine they may reach, and it leads to a plane. Everything else goes to other
// nodes.
type apiWay struct {
	vnet.Remote
	planes func() []netip.AddrPort
	own    netip.AddrPort // of the API on this machine
}

// apiDial bounds the wait for the API's port.
const apiDial = 3 * time.Second

// Dial implements vnet.Remote. Only what a Service led here can ask for a plane's
// address: dials of pods to addresses outside the cluster never come this way.
func (a apiWay) Dial(ctx context.Context, from, to netip.AddrPort, conn vnet.Conn) error {
	if to != a.own && !slices.Contains(a.planes(), to) {
		return a.Remote.Dial(ctx, from, to, conn)
	}
	d := net.Dialer{Timeout: apiDial}
	api, err := d.DialContext(ctx, "tcp", a.own.String())
	if err != nil {
		return errors.Join(syscall.ECONNREFUSED, err)
	}
	go splice(conn, api.(*net.TCPConn)) // ends with either end: pods and the API hang up when they stop
	return nil
}

// splice carries both directions until both are done.
func splice(pod vnet.Conn, api *net.TCPConn) {
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, err := io.Copy(api, pod); err != nil || api.CloseWrite() != nil {
			_ = api.Close()
		}
	})
	wg.Go(func() {
		if _, err := io.Copy(pod, api); err != nil {
			pod.Reset()
		} else if pod.CloseWrite() != nil {
			_ = api.Close()
		}
	})
	wg.Wait()
	_, _ = pod.Close(), api.Close()
}
