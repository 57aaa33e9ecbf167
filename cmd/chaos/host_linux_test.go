package chaos

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// host is what stands for a machine: an operating-system thread that, as root,
// has network and mounts of its own. What is started on it inherits them, and
// dies with it. Nothing of it has a name outside, so nothing can be left over.
type host struct {
	jobs   chan func()
	done   chan struct{}
	netns  *os.File // nil: the network of the test
	mounts bool     // of its own
}

// newHost starts the thread. isolated asks for network and mounts of its own.
func newHost(isolated bool) (*host, error) {
	h := &host{jobs: make(chan func()), done: make(chan struct{})}
	started := make(chan error)
	go func() {
		// Never unlocked: the thread ends with this function, and what it
		// started gets its parent-death signal.
		runtime.LockOSThread()
		defer close(h.done)
		err := h.enter(isolated)
		started <- err
		if err != nil {
			return
		}
		for job := range h.jobs {
			job()
		}
	}()
	return h, <-started
}

func (h *host) enter(isolated bool) error {
	if !isolated {
		return nil
	}
	if err := unix.Unshare(unix.CLONE_NEWNET | unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("a network and mounts of its own: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("mounts of its own: %w", err)
	}
	h.mounts = true
	var err error
	h.netns, err = os.Open("/proc/thread-self/ns/net")
	return err
}

// on runs f on the thread.
func (h *host) on(f func() error) error {
	err := make(chan error, 1)
	h.jobs <- func() { err <- f() }
	return <-err
}

// close ends the thread, and with it all that was started there.
func (h *host) close() {
	close(h.jobs)
	<-h.done
	if h.netns != nil {
		_ = h.netns.Close()
	}
}

// start starts a command on the host.
func (h *host) start(c *exec.Cmd) error {
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return h.on(c.Start)
}

// dial connects as a client that runs on the host does: cutting the host off
// does not cut it off from the node there.
func (h *host) dial(ctx context.Context, network, address string) (net.Conn, error) {
	if h.netns == nil {
		return (&net.Dialer{}).DialContext(ctx, network, address)
	}
	type dialed struct {
		conn net.Conn
		err  error
	}
	result := make(chan dialed, 1)
	go func() {
		runtime.LockOSThread() // for good: the thread is in another network now
		if err := unix.Setns(int(h.netns.Fd()), unix.CLONE_NEWNET); err != nil {
			result <- dialed{err: fmt.Errorf("enter the host's network: %w", err)}
			return
		}
		conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
		result <- dialed{conn, err}
	}()
	r := <-result
	return r.conn, r.err
}

// isolation says why hosts cannot have network and mounts of their own; nil: they can.
func isolation() error {
	if os.Geteuid() != 0 {
		return errors.New("needs root")
	}
	if _, err := os.Stat("/dev/net/tun"); err != nil {
		return errors.New("needs /dev/net/tun")
	}
	h, err := newHost(true)
	if err != nil {
		return err
	}
	defer h.close()
	tun, err := newTun(h, "127.0.0.2")
	if err != nil {
		return err
	}
	return tun.Close()
}
