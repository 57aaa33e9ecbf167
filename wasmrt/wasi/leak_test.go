package wasi

import (
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"testing/synctest"
	"time"
)

// openFiles counts the process's descriptors.
func openFiles(t testing.TB) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skip("this system does not list a process's descriptors")
	}
	return len(entries)
}

func TestCloseFreesDescriptorsOfEveryKind(t *testing.T) {
	host := t.TempDir()
	fill(t, host, "dir/", "dir/a", "file")
	before := openFiles(t)
	for range 5 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		g := newGuest(t, Config{
			Network: hostNetwork{}, Listeners: []Listener{{Listener: l}},
			Mounts: []Mount{{Guest: "/", Host: host}, {Guest: "/etc/file", Host: filepath.Join(host, "file")}},
		}, "sock_open", "sock_bind", "sock_listen", "sock_connect")
		const root = 4
		g.mustOpen(root, "file", 0, rightRead, 0)
		dir := g.mustOpen(root, "dir", openDirectory, 0, 0)
		g.readdir(t, dir, 64, 0)
		bound := g.openSocket("sock_open", familyV4, socketStream)
		g.ok("sock_bind", bound, g.addressArg(localhost, false), 0)
		listening := g.openSocket("sock_open", familyV4, socketStream)
		g.ok("sock_listen", listening, 1)
		udp := g.openSocket("sock_open", familyV4, socketDatagram)
		g.ok("sock_bind", udp, g.addressArg(localhost, false), 0)
		port := uint64(addrOf(l.Addr()).Port())
		client := g.openSocket("sock_open", familyV4, socketStream)
		g.ok("sock_connect", client, g.addressArg(localhost, false), port)
		late := g.openSocket("sock_open", familyV4, socketStream)
		g.ok("fd_fdstat_set_flags", late, uint64(flagNonblock))
		g.call("sock_connect", late, g.addressArg(localhost, false), port)
		g.poll(subscribe(1, eventFdRead, 3)) // a connection is accepted ahead and never taken
		g.poll(subscribe(1, eventFdRead, client), subscribe(2, eventFdRead, udp), timer(3, clockMonotonic, 1, false))
		g.system.Close()
	}
	for range 100 {
		if openFiles(t) <= before {
			return
		}
		runtime.Gosched()
		runtime.GC()
	}
	if after := openFiles(t); after > before {
		t.Errorf("got %d descriptors, want %d", after, before)
	}
}

// A bubble ends only when every goroutine in it has: a leak fails the test.
func TestCloseEndsEveryGoroutine(t *testing.T) {
	for name, leave := range map[string]func(g *guest){
		"a listener polled":     func(g *guest) { g.poll(subscribe(1, eventFdRead, 3), timer(2, clockMonotonic, 1, false)) },
		"standard input polled": func(g *guest) { g.poll(subscribe(1, eventFdRead, 0), timer(2, clockMonotonic, 1, false)) },
		"a connection polled": func(g *guest) {
			g.ok("fd_fdstat_set_flags", 3, 0)
			out := g.room(4)
			g.ok("sock_accept", 3, 0, out)
			fd := g.u32(out)
			g.poll(subscribe(1, eventFdRead, fd), timer(2, clockMonotonic, 1, false))
			g.write(fd, "nobody reads this")
		},
		"terminated": func(g *guest) { g.system.Terminate() },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r, _ := io.Pipe()
				l := newPipeListener()
				g := newGuest(t, Config{Stdin: r, Listeners: []Listener{{Listener: l}}})
				go l.dial(t.Context())
				synctest.Wait()
				leave(g)
				g.system.Close()
				time.Sleep(2 * linger) // in which what was written may still arrive
			})
		})
	}
}
