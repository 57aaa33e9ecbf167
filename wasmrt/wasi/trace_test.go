package wasi

import (
	"bytes"
	"net"
	"strings"
	"testing"
)

func TestEveryFunctionHasAShapeForItsTrace(t *testing.T) {
	check := func(name string, f function) {
		t.Helper()
		for _, s := range shapes[strings.TrimSuffix(name, "_v2")] {
			if argumentsOf(s) == len(f.params) {
				return
			}
		}
		t.Errorf("%s with %d arguments has no shape", name, len(f.params))
	}
	for name, f := range functions {
		check(name, f)
	}
	for name, forms := range dialects {
		for _, f := range forms {
			check(name, f)
		}
	}
}

func TestATraceShowsCallsAsStraceDoes(t *testing.T) {
	var trace bytes.Buffer
	dir := t.TempDir()
	g := newGuest(t, Config{Trace: &trace, Mounts: []Mount{{Guest: "/", Host: dir}}})
	lines := func(want ...string) {
		t.Helper()
		if got, all := trace.String(), strings.Join(want, "\n")+"\n"; got != all {
			t.Errorf("got trace\n%swant\n%s", got, all)
		}
		trace.Reset()
	}
	g.write(1, "hello, world\n")
	lines("fd_write(1, [13]) = 0 → 13")
	g.open(rootFD, "missing", 0, rightRead, 0)
	g.open(rootFD, "new\n", openCreate, rightRead, 0)
	lines(`path_open(3, 0x0, "missing", 0x0, 0x2, 0x2, 0x0) = 44 noent`,
		`path_open(3, 0x0, "new\n", 0x1, 0x2, 0x2, 0x0) = 0 → 4`)
	g.call("fd_seek", 4, 1<<64-1, seekEnd, 0)
	g.call("fd_write", 1, 1<<31, 4, 0)
	g.call("random_get", 1<<31, 16)
	g.call("sched_yield")
	lines("fd_seek(4, -1, 2) = 28 inval", "fd_write(1, (fault)) = 21 fault", "random_get([16]) = 21 fault", "sched_yield() = 0")
	p, n := g.text(strings.Repeat("a", maxShownText+1))
	g.call("path_unlink_file", rootFD, p, n)
	lines(`path_unlink_file(3, "` + strings.Repeat("a", maxShownText) + `"…) = 44 noent`)
	functions["fd_close"].host("fd_close").Call(g.ctx, g.mod, []uint64{99 | 5<<32, 0}) // as compiled guests leave it
	lines("fd_close(99) = 8 badf")
	g.exits("proc_exit", 3)
	lines("proc_exit(3) = ?")
}

func TestATraceShowsAddresses(t *testing.T) {
	var trace bytes.Buffer
	g := newGuest(t, Config{Trace: &trace, Network: hostNetwork{}}, "sock_open", "sock_bind", "sock_getlocaladdr/iii")
	out := g.room(4)
	g.call("sock_open", familyV4, socketDatagram, out)
	addr := g.addressArg(localhost, false)
	g.call("sock_bind", 3, addr, 0)
	g.call("sock_getlocaladdr", 3, addr, out)
	port := g.u32(out)
	want := "sock_open(1, 1) = 0 → 3\nsock_bind(3, 127.0.0.1, 0) = 0\nsock_getlocaladdr(3) = 0 → 127.0.0.1, "
	if got := trace.String(); !strings.HasPrefix(got, want) || port == 0 {
		t.Errorf("got trace\n%s, want it to begin with\n%s", got, want)
	}
}

// Whoever gets a trace may fail to take it; the guest does not notice.
func TestATraceThatNobodyTakesStopsNothing(t *testing.T) {
	_, w := net.Pipe()
	w.Close()
	g := newGuest(t, Config{Trace: w})
	g.want(success, "sched_yield")
}

func TestOnlyATerminalLooksLikeOne(t *testing.T) {
	g := newGuest(t, Config{Terminal: [3]bool{true, false, true}})
	for fd, want := range []filetype{typeCharacterDevice, typeUnknown, typeCharacterDevice} {
		buf := g.room(fdstatSize)
		g.want(success, "fd_fdstat_get", uint64(fd), buf)
		b := g.bytes(buf, fdstatSize)
		if filetype(b[0]) != want {
			t.Errorf("descriptor %d: got file type %d, want %d", fd, b[0], want)
		}
		if granted := rights(b[8]); granted&(rightSeek|rightTell) != 0 {
			t.Errorf("descriptor %d may be sought in, so isatty(3) does not take it for a terminal", fd)
		}
	}
}
