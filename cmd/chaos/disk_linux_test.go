package chaos

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// disk is the data directory of an isolated host: a file system of its own, in
// memory, that can be full, and whose syncs can be slow.
type disk struct {
	h     *host
	dir   string
	delay atomic.Int64 // of each sync, in nanoseconds
	fd    int          // where the kernel tells of syncs
	done  chan struct{}
	wg    sync.WaitGroup
}

const diskMiB = 1024

// newDisk mounts the file system, and has the kernel ask before each sync of what
// the host starts from now on.
func newDisk(h *host, dir string) (*disk, error) {
	d := &disk{h: h, dir: dir, done: make(chan struct{})}
	err := h.on(func() error {
		if err := unix.Mount("chaos", dir, "tmpfs", 0, fmt.Sprintf("mode=0700,size=%dm", diskMiB)); err != nil {
			return fmt.Errorf("tmpfs on %s: %w", dir, err)
		}
		var err error
		d.fd, err = interceptSyncs()
		return err
	})
	if err != nil {
		return nil, err
	}
	d.wg.Go(d.answer)
	return d, nil
}

// fill leaves no room: the file system gets as small as it can.
func (d *disk) fill() error {
	return d.h.on(func() error {
		var err error
		for range 50 { // what is in it may grow meanwhile
			var s unix.Statfs_t
			if err := unix.Statfs(d.dir, &s); err != nil {
				return err
			}
			used := (s.Blocks - s.Bfree) * uint64(s.Bsize)
			if err = unix.Mount("chaos", d.dir, "tmpfs", unix.MS_REMOUNT, fmt.Sprintf("size=%d", used)); err == nil {
				return nil
			}
		}
		return fmt.Errorf("shrink %s: %w", d.dir, err)
	})
}

// heal gives the room back and makes syncs quick.
func (d *disk) heal() error {
	d.delay.Store(0)
	return d.h.on(func() error {
		return unix.Mount("chaos", d.dir, "tmpfs", unix.MS_REMOUNT, fmt.Sprintf("size=%dm", diskMiB))
	})
}

// close lets syncs fail from now on: whoever makes them is dead.
func (d *disk) close() {
	close(d.done)
	d.wg.Wait()
	_ = unix.Close(d.fd)
}

// Of linux/seccomp.h.
type (
	seccompNotif struct {
		id    uint64
		pid   uint32
		flags uint32
		data  [64]byte
	}
	seccompResp struct {
		id    uint64
		val   int64
		err   int32
		flags uint32
	}
)

// interceptSyncs has the kernel report fsync and fdatasync of this thread and of
// what it starts, and wait for an answer each time.
func interceptSyncs() (int, error) {
	load := func(nr uint32) []unix.SockFilter {
		return []unix.SockFilter{
			{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jt: 0, Jf: 1, K: nr},
			{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_USER_NOTIF},
		}
	}
	filter := []unix.SockFilter{{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 0}} // the number of the call
	filter = append(filter, load(unix.SYS_FSYNC)...)
	filter = append(filter, load(unix.SYS_FDATASYNC)...)
	filter = append(filter, unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW})
	prog := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	fd, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_NEW_LISTENER|unix.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV, uintptr(unsafe.Pointer(&prog)))
	if errno != 0 {
		return 0, fmt.Errorf("seccomp: %w", errno)
	}
	return int(fd), nil
}

// answer lets each sync go on after the delay.
func (d *disk) answer() {
	for {
		select {
		case <-d.done:
			return
		default:
		}
		poll := []unix.PollFd{{Fd: int32(d.fd), Events: unix.POLLIN}}
		if n, err := unix.Poll(poll, 200); err != nil && !errors.Is(err, unix.EINTR) {
			return
		} else if n < 1 || poll[0].Revents&unix.POLLIN == 0 {
			continue
		}
		var req seccompNotif
		if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(d.fd), unix.SECCOMP_IOCTL_NOTIF_RECV, uintptr(unsafe.Pointer(&req))); errno != 0 {
			continue // who asked is dead
		}
		reply := func() {
			resp := seccompResp{id: req.id, flags: unix.SECCOMP_USER_NOTIF_FLAG_CONTINUE}
			_, _, _ = unix.Syscall(unix.SYS_IOCTL, uintptr(d.fd), unix.SECCOMP_IOCTL_NOTIF_SEND, uintptr(unsafe.Pointer(&resp)))
		}
		delay := time.Duration(d.delay.Load())
		if delay == 0 {
			reply()
			continue
		}
		d.wg.Go(func() {
			select {
			case <-d.done:
			case <-time.After(delay):
			}
			reply()
		})
	}
}
