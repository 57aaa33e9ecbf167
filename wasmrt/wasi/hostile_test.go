package wasi

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// A guest swaps a directory and a link that leads out, as fast as it can, while
// another that shares the volume opens, creates, links and renames through it.
func TestNoRaceOfLinksLeadsOut(t *testing.T) {
	base := t.TempDir()
	fill(t, base, "volume/", "volume/dir/", "volume/dir/f", "outside/", "outside/f")
	if err := os.WriteFile(filepath.Join(base, "outside", "f"), []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg := Config{Mounts: []Mount{{Guest: "/", Host: filepath.Join(base, "volume")}}}
	swapper, victim := newGuest(t, cfg), newGuest(t, cfg)
	const rounds = 400
	var both sync.WaitGroup
	both.Go(func() {
		dir, n := swapper.text("dir")
		away, m := swapper.text("away")
		out, k := swapper.text("../outside")
		for range rounds {
			swapper.call("path_rename", rootFD, dir, n, rootFD, away, m)
			swapper.call("path_symlink", out, k, rootFD, dir, n)
			swapper.call("path_unlink_file", rootFD, dir, n)
			swapper.call("path_rename", rootFD, away, m, rootFD, dir, n)
		}
	})
	both.Go(func() {
		name, n := victim.text("dir/f")
		made, m := victim.text("dir/made")
		kept, k := victim.text("kept")
		fd, buf := victim.room(4), victim.room(16)
		iov, one := victim.iovec([2]uint64{buf, 16})
		got := victim.room(4)
		for range rounds {
			if victim.call("path_open", rootFD, lookupFollow, name, n, 0, uint64(rightRead), 0, 0, fd) == success {
				victim.call("fd_read", victim.u32(fd), iov, one, got)
				if text := victim.bytes(buf, victim.u32(got)); strings.Contains(text, "secret") {
					t.Error("the guest read a file outside of its directory")
				}
				victim.call("fd_close", victim.u32(fd))
			}
			if victim.call("path_open", rootFD, lookupFollow, made, m, openCreate, uint64(rightWrite), 0, 0, fd) == success {
				victim.call("fd_close", victim.u32(fd))
			}
			victim.call("path_link", rootFD, 0, name, n, rootFD, kept, k)
			victim.call("path_rename", rootFD, kept, k, rootFD, made, m)
			victim.call("path_unlink_file", rootFD, made, m)
			victim.call("path_create_directory", rootFD, made, m)
			victim.call("path_remove_directory", rootFD, made, m)
		}
	})
	both.Wait()
	entries, err := os.ReadDir(filepath.Join(base, "outside"))
	if err != nil || len(entries) != 1 || entries[0].Name() != "f" {
		t.Errorf("got %v, %v outside, want the one file that was there", entries, err)
	}
}

func TestNamesThatAreNoNamesAreRefused(t *testing.T) {
	g, dir := scratch(t)
	long := strings.Repeat("n", 255)
	for _, tt := range []struct {
		name string
		want errno
	}{
		{long, success},
		{long + "n", errNameTooLong},
		{strings.Repeat("./", maxPath/2-1) + "x", success},
		{strings.Repeat("./", maxPath/2) + "x", errNameTooLong},
		{"/etc", errNotPermitted},
		{"../x", errNotPermitted},
		{"a/../../x", errNoEntry}, // "a" comes first
		{long + "/../../x", errNotPermitted},
		{"x\x00y", errInvalid},
		{"\xff", errIllegalByte},
		{"", errNoEntry},
	} {
		g.wantPath(tt.want, "path_create_directory", rootFD, tt.name)
	}
	if _, err := os.Stat(filepath.Join(filepath.Dir(dir), "x")); err == nil {
		t.Error("a directory was made outside")
	}
}

func TestLinksThatLeadInCirclesEnd(t *testing.T) {
	g, dir := scratch(t)
	for from, to := range map[string]string{"a": "b", "b": "a", "deep": strings.Repeat("deep/", 500)} {
		if err := os.Symlink(to, filepath.Join(dir, from)); err != nil {
			t.Skip("no symbolic links here")
		}
	}
	for _, name := range []string{"a", "b/x", "deep", "deep/x"} {
		p, n := g.text(name)
		if e := g.call("path_open", rootFD, lookupFollow, p, n, 0, uint64(rightRead), 0, 0, g.room(4)); e != errLoop && e != errNameTooLong {
			t.Errorf("open %q: got %v, want loop or nametoolong", name, e)
		}
	}
}

func TestALargeBufferHoldsALargeDirectory(t *testing.T) {
	g, dir := scratch(t)
	const files = 7000
	name := strings.Repeat("n", 150)
	for i := range files {
		f, err := os.Create(filepath.Join(dir, fmt.Sprintf("%s%d", name, i)))
		if err != nil {
			t.Fatal(err)
		}
		f.Close()
	}
	const size = 2 << 20 // more than one read or write moves
	buf, used := g.room(size), g.room(4)
	g.ok("fd_readdir", rootFD, buf, size, 0, used)
	n := g.u32(used)
	seen := 0
	for b := []byte(g.bytes(buf, n)); len(b) > direntSize; seen++ {
		b = b[direntSize+binary.LittleEndian.Uint32(b[16:]):]
	}
	if n == size || seen != files+2 {
		t.Errorf("got %d entries in %d bytes, want %d and room left, which says that this is all", seen, n, files+2)
	}
}

func TestADirectoryIsNotReadToItsEndForADeadGuest(t *testing.T) {
	g, _ := scratch(t)
	g.system.Interrupt()
	if code := g.exits("fd_readdir", rootFD, g.room(100), 100, 0, g.room(4)); code != InterruptedCode {
		t.Errorf("got exit code %d, want %d", code, InterruptedCode)
	}
}

func TestWhatIsTooMuchForOneCallIsRefusedOrShort(t *testing.T) {
	g, _ := scratch(t)
	fd := g.mustOpen(rootFD, "f", openCreate, readWrite, 0)
	out := g.room(4)
	g.want(errInvalid, "fd_write", fd, 0, maxVectors+1, out)
	g.want(errInvalid, "fd_read", fd, 0, 1<<32-1, out)
	g.want(errInvalid, "poll_oneoff", 0, 0, 1_000_000, out)
	g.want(errInvalid, "poll_oneoff", 0, 0, maxSubscriptions+1, out)
	g.want(errFault, "poll_oneoff", 0, 1<<31, maxSubscriptions, out)
	g.want(errFault, "fd_write", fd, 1<<32-8, 1, out)
	overlapping, n := g.iovec([2]uint64{0, 2 << 20}, [2]uint64{0, 2 << 20})
	g.ok("fd_write", fd, overlapping, n, out)
	if got := g.u32(out); got != maxTransfer {
		t.Errorf("got %d bytes written in one call, want %d", got, maxTransfer)
	}
	wrong, n := g.iovec([2]uint64{1 << 31, 1 << 31})
	g.want(errFault, "fd_read", fd, wrong, n, out)
}

// Every subscription that one poll may have, all on one descriptor.
func TestAPollOfAllSubscriptionsAnswersEach(t *testing.T) {
	g, _ := scratch(t)
	const n = 16384 // as many as the guest's memory holds with their events
	subs, events, out := g.room(n*subscriptionSize), g.room(n*eventSize), g.room(4)
	one := make([]byte, subscriptionSize)
	one[8], one[16] = eventFdWrite, 1
	for i := range uint64(n) {
		binary.LittleEndian.PutUint64(one, i)
		g.mod.Memory().Write(uint32(subs+i*subscriptionSize), one)
	}
	g.ok("poll_oneoff", subs, events, n, out)
	if got := g.u32(out); got != n {
		t.Errorf("got %d events, want %d", got, n)
	}
}
