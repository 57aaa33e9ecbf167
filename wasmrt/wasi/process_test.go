package wasi

import (
	"strings"
	"testing"
)

func TestArgumentsAndEnvironmentAreZeroTerminated(t *testing.T) {
	g := newGuest(t, Config{Args: []string{"prog", "", "zwei"}, Env: []string{"A=1", "EMPTY="}})
	for _, row := range []struct{ name, want string }{
		{"args", "prog\x00\x00zwei\x00"}, {"environ", "A=1\x00EMPTY=\x00"},
	} {
		count, size := g.room(4), g.room(4)
		g.ok(row.name+"_sizes_get", count, size)
		n := g.u32(size)
		vector, buffer := g.room(uint32(g.u32(count))*4), g.room(uint32(n))
		g.ok(row.name+"_get", vector, buffer)
		if got := g.bytes(buffer, n); got != row.want {
			t.Errorf("%s: got %q, want %q", row.name, got, row.want)
		}
		if got := g.u32(vector); got != buffer {
			t.Errorf("%s: the first pointer is %d, want %d", row.name, got, buffer)
		}
		g.want(errFault, row.name+"_get", vector, guestPages<<16-4)
		g.want(errFault, row.name+"_get", guestPages<<16-2, buffer)
		g.want(errFault, row.name+"_sizes_get", guestPages<<16-2, size)
	}
}

func TestListenersAreAnnouncedInTheEnvironment(t *testing.T) {
	g := newGuest(t, Config{Env: []string{"A=1"}, Listeners: []Listener{
		{Name: "http", Listener: newPipeListener()}, {Listener: newPipeListener()},
	}, Mounts: []Mount{{Guest: "/data", Host: t.TempDir()}}})
	if got, want := strings.Join(g.system.env, " "), "A=1 LISTEN_FDS=2 LISTEN_FDNAMES=http:unknown"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	// Libraries look through the preopened descriptors until the first badf.
	if got := g.preopens(t); got != "/data" {
		t.Errorf("preopened directories: got %q, want /data", got)
	}
	stat := g.room(fdstatSize)
	g.ok("fd_fdstat_get", 3, stat)
	if kind, flags := g.bytes(stat, 1)[0], g.u32(stat)>>16; filetype(kind) != typeSocketStream || fdflags(flags) != flagNonblock {
		t.Errorf("listener: got type %d, flags %d", kind, flags)
	}
	g.want(errNotDir, "fd_prestat_dir_name", 3, stat, 0)
}

func TestWhatCannotBeSaidToAGuestIsRefused(t *testing.T) {
	for name, cfg := range map[string]Config{
		"a zero byte in an argument":   {Args: []string{"a\x00b"}},
		"a zero byte in a variable":    {Env: []string{"A=a\x00b"}},
		"a variable without a value":   {Env: []string{"A"}},
		"a colon in a listener's name": {Listeners: []Listener{{Name: "a:b", Listener: newPipeListener()}}},
	} {
		if s, err := New(cfg); err == nil {
			s.Close()
			t.Errorf("%s was taken", name)
		}
	}
}

func TestExitCarriesTheCode(t *testing.T) {
	g := newGuest(t, Config{})
	if got := g.exits("proc_exit", 42); got != 42 || !g.system.Exited() {
		t.Errorf("got %d, exited %v; want 42, true", got, g.system.Exited())
	}
	g.want(errNotSupported, "proc_raise", 9)
	g.ok("sched_yield")
}

func TestClocksTellTheTime(t *testing.T) {
	g := newGuest(t, Config{})
	out := g.room(8)
	for clock := range uint64(2) {
		g.ok("clock_res_get", clock, out)
		if g.u64(out) != 1 {
			t.Errorf("clock %d: got resolution %d, want 1", clock, g.u64(out))
		}
		g.ok("clock_time_get", clock, 0, out)
		before := g.u64(out)
		g.ok("clock_time_get", clock, 0, out)
		if after := g.u64(out); before == 0 || after < before {
			t.Errorf("clock %d: got %d, then %d", clock, before, after)
		}
	}
	for clock, want := range map[uint64]errno{2: errBadFD, 3: errBadFD, 4: errInvalid} {
		g.want(want, "clock_res_get", clock, out)
		g.want(want, "clock_time_get", clock, 0, out)
	}
}

func TestRandomFillsTheBuffer(t *testing.T) {
	g := newGuest(t, Config{})
	const n = 1<<20 + 3
	buf := g.room(n)
	g.ok("random_get", buf, n)
	if got := g.bytes(buf+n-16, 16); got == strings.Repeat("\x00", 16) {
		t.Error("the end of the buffer is zero")
	}
	g.ok("random_get", buf, 0)
	g.want(errFault, "random_get", guestPages<<16-4, 5)
	g.want(errFault, "random_get", 1<<32-1, 1<<32-1)
}
