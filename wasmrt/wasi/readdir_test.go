package wasi

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

type dirent struct {
	next, ino uint64
	kind      filetype
	name      string
}

// readdir is one fd_readdir; an entry that is cut short is left out.
func (g *guest) readdir(t *testing.T, fd, room, cookie uint64) (list []dirent, used uint64) {
	t.Helper()
	keep := g.next
	buf, out := g.room(uint32(room)), g.room(4)
	g.ok("fd_readdir", fd, buf, room, cookie, out)
	used = g.u32(out)
	b := []byte(g.bytes(buf, used))
	for len(b) >= direntSize {
		n := int(binary.LittleEndian.Uint32(b[16:]))
		if len(b) < direntSize+n {
			break
		}
		list = append(list, dirent{
			next: binary.LittleEndian.Uint64(b), ino: binary.LittleEndian.Uint64(b[8:]),
			kind: filetype(b[20]), name: string(b[direntSize : direntSize+n]),
		})
		b = b[direntSize+n:]
	}
	g.next = keep
	return list, used
}

func (g *guest) list(t *testing.T, fd uint64) (names []string) {
	t.Helper()
	list, _ := g.readdir(t, fd, 64<<10, 0)
	for _, e := range list {
		names = append(names, e.name)
	}
	return names
}

func TestReaddirShowsEveryEntryOnceWhateverTheBuffer(t *testing.T) {
	g, dir := scratch(t)
	want := []string{".", ".."}
	for n := range 3*listingBatch + 7 {
		name := fmt.Sprintf("file-%03d", n)
		fill(t, dir, name)
		want = append(want, name)
	}
	for _, room := range []uint64{40, 64, 100, 4096, 64 << 10} {
		var got []string
		for cookie := uint64(0); ; {
			list, used := g.readdir(t, rootFD, room, cookie)
			for _, e := range list {
				got = append(got, e.name)
				cookie = e.next
			}
			if used < room {
				break
			}
		}
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("with %d bytes: got %d entries, want %d", room, len(got), len(want))
		}
	}
}

func TestReaddirCookiesCanBeReturnedTo(t *testing.T) {
	g, dir := scratch(t)
	for n := range 2 * listingBatch {
		fill(t, dir, fmt.Sprint(n))
	}
	all, _ := g.readdir(t, rootFD, 64<<10, 0)
	for _, at := range []int{0, 1, 2, 5, len(all) - 1, 3, 0} {
		cookie := uint64(0)
		if at > 0 {
			cookie = all[at-1].next
		}
		some, _ := g.readdir(t, rootFD, 64<<10, cookie)
		if !slices.Equal(some, all[at:]) {
			t.Errorf("from entry %d: got %d entries, want %d", at, len(some), len(all)-at)
		}
	}
	if past, _ := g.readdir(t, rootFD, 1000, uint64(len(all)+100)); len(past) != 0 {
		t.Errorf("past the end: got %v", past)
	}
	if past, _ := g.readdir(t, rootFD, 1000, 1<<63); len(past) != 0 {
		t.Errorf("far past the end: got %v", past)
	}
}

func TestReaddirTellsInodesAndTypes(t *testing.T) {
	g, dir := scratch(t)
	fill(t, dir, "dir/", "file")
	if err := os.Symlink("file", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	stat := g.room(filestatSize)
	list, _ := g.readdir(t, rootFD, 4096, 0)
	kinds := map[string]filetype{".": typeDirectory, "..": typeDirectory, "dir": typeDirectory, "file": typeRegular, "link": typeSymlink}
	for _, e := range list {
		if e.kind != kinds[e.name] {
			t.Errorf("%s: got type %d, want %d", e.name, e.kind, kinds[e.name])
		}
		if e.name == ".." {
			continue
		}
		p, n := g.text(e.name)
		g.ok("path_filestat_get", rootFD, 0, p, n, stat)
		if got := g.u64(stat + 8); got != e.ino {
			t.Errorf("%s: got inode %d, want %d", e.name, e.ino, got)
		}
	}
	if len(list) != len(kinds) {
		t.Errorf("got %d entries, want %d", len(list), len(kinds))
	}
	g.want(errBadFD, "fd_readdir", g.mustOpen(rootFD, "file", 0, 0, 0), g.room(64), 64, 0, stat)
	g.want(errFault, "fd_readdir", rootFD, guestPages<<16-8, 64, 0, stat)
}
