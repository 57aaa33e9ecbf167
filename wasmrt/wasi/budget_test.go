package wasi

import (
	"net"
	"path/filepath"
	"strings"
	"testing"
)

// fillUp opens files until it gets no more, and returns how many.
func fillUp(t *testing.T, g *guest, root uint64) (n int) {
	t.Helper()
	for ; n < maxFDs; n++ {
		keep := g.next
		_, e := g.open(root, "file", 0, rightRead, 0)
		g.next = keep
		if e == errFileTable {
			return n
		}
		if e != success {
			t.Fatalf("open: got %v", e)
		}
	}
	return n
}

func TestAGreedyGuestLeavesDescriptorsForOthers(t *testing.T) {
	host := t.TempDir()
	fill(t, host, "file")
	budget := NewBudget(120)
	cfg := Config{Mounts: []Mount{{Guest: "/", Host: host}}, Descriptors: budget}
	greedy := newGuest(t, cfg)
	if n := fillUp(t, greedy, 3); n != 29 { // and its directory: half of 120, two for each
		t.Errorf("got %d files, want 29", n)
	}
	if used := budget.Used(); used != 60 {
		t.Errorf("got %d used, want 60", used)
	}
	other := newGuest(t, cfg)
	if n := fillUp(t, other, 3); n != 14 { // half of what is left
		t.Errorf("the next got %d files, want 14", n)
	}
	greedy.system.Close()
	if used := budget.Used(); used != 30 {
		t.Errorf("when the greedy one is gone: got %d used, want 30", used)
	}
	if n := fillUp(t, other, 3); n != 15 {
		t.Errorf("and then got %d files more, want 15", n)
	}
	other.ok("fd_renumber", 5, 6)
	other.ok("fd_close", 6)
	if used := budget.Used(); used != 56 {
		t.Errorf("two descriptors less: got %d used, want 56", used)
	}
	other.system.Close()
	if used := budget.Used(); used != 0 {
		t.Errorf("got %d used by nobody", used)
	}
}

func TestAConnectionThatDoesNotFitTheBudgetIsNotTaken(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	budget := NewBudget(8) // the listener, and one more
	g := newGuest(t, Config{Listeners: []Listener{{Listener: l}}, Descriptors: budget})
	g.ok("fd_fdstat_set_flags", 3, 0)
	for range 2 {
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	out := g.room(4)
	g.ok("sock_accept", 3, 0, out)
	g.want(errFileTable, "sock_accept", 3, 0, out)
	g.ok("fd_close", g.u32(out))
	g.ok("sock_accept", 3, 0, out) // it waited
}

func TestAGuestWhoseDirectoriesDoNotFitTheBudgetDoesNotBegin(t *testing.T) {
	host := t.TempDir()
	before := openFiles(t)
	mounts := []Mount{{Guest: "/a", Host: host}, {Guest: "/b", Host: host}}
	budget := NewBudget(6)
	if _, err := New(Config{Mounts: mounts, Descriptors: budget}); err == nil || !strings.Contains(err.Error(), "descriptor") {
		t.Errorf("got %v, want an error that names descriptors", err)
	}
	if _, err := OpenMounts(mounts, budget); err == nil {
		t.Error("mounts were opened past the budget")
	}
	if after := openFiles(t); budget.Used() != 0 || after > before {
		t.Errorf("got %d used and %d files open, want 0 and %d", budget.Used(), after, before)
	}
}

func TestGuestsThatShareHandlesShareNothingElse(t *testing.T) {
	host := t.TempDir()
	fill(t, host, "dir/", "file", "other")
	budget := NewBudget(1000)
	shared, err := OpenMounts([]Mount{
		{Guest: "/", Host: host}, {Guest: "/etc/file", Host: filepath.Join(host, "file"), ReadOnly: true},
	}, budget)
	if err != nil {
		t.Fatal(err)
	}
	used := budget.Used()
	cfg := Config{Preopens: shared, Descriptors: budget}
	a, b := newGuest(t, cfg), newGuest(t, cfg)
	const root, etc = 3, 4
	list := func(g *guest) int { return len(g.list(t, root)) }
	if x, y := list(a), list(b); x != y || x == 0 {
		t.Errorf("a and b list %d and %d entries", x, y)
	}
	file := a.mustOpen(root, "file", 0, rightRead|rightWrite, 0)
	if _, e := a.write(file, "text"); e != success {
		t.Error(e)
	}
	again := b.mustOpen(etc, "file", 0, rightRead, 0)
	if got, e := b.read(again, 10); got != "text" || e != success {
		t.Errorf("b read %q, %v, want it from the start", got, e)
	}
	a.ok("fd_close", root) // ends nothing of b's
	a.ok("fd_renumber", etc, file)
	if got := list(b); got == 0 {
		t.Error("b's directory is gone")
	}
	a.system.Close()
	b.mustOpen(root, "other", 0, rightRead, 0)
	b.system.Close()
	c := newGuest(t, cfg)
	if list(c) == 0 {
		t.Error("the next finds nothing")
	}
	c.system.Close()
	if got := budget.Used(); got != used {
		t.Errorf("got %d used, want %d", got, used)
	}
	if err := shared.Close(); err != nil || budget.Used() != 0 {
		t.Errorf("close: %v, %d used", err, budget.Used())
	}
}
