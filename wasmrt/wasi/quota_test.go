package wasi

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// bounded is a guest with a directory at / that may hold so much.
func bounded(t *testing.T, most Usage) (*guest, *Quota) {
	t.Helper()
	dir := t.TempDir()
	q, err := NewQuota(dir, most)
	if err != nil {
		t.Fatal(err)
	}
	return newGuest(t, Config{Mounts: []Mount{{Guest: "/", Host: dir, Quota: q}}}), q
}

func wantUsed(t *testing.T, q *Quota, want Usage) {
	t.Helper()
	if got := q.Used(); got != want {
		t.Errorf("got %+v used, want %+v", got, want)
	}
}

const readWrite = rightRead | rightWrite

func (g *guest) wantWrite(fd uint64, s string, n uint64, e errno) {
	g.t.Helper()
	if got, err := g.write(fd, s); err != e || e == success && got != n {
		g.t.Errorf("write of %d bytes: got %d, %v, want %d, %v", len(s), got, err, n, e)
	}
}

func TestAWritePastTheQuotaIsShortAndThenThereIsNoSpace(t *testing.T) {
	g, q := bounded(t, Usage{Bytes: 10})
	fd := g.mustOpen(rootFD, "a", openCreate, readWrite, 0)
	g.wantWrite(fd, "123456", 6, success)
	g.wantWrite(fd, "789012", 4, success)
	g.wantWrite(fd, "3", 0, errNoSpace)
	g.wantWrite(fd, "", 0, success)
	wantUsed(t, q, Usage{10, 1})
	other := g.mustOpen(rootFD, "b", openCreate, readWrite, flagAppend)
	g.wantWrite(other, "x", 0, errNoSpace)
	g.want(success, "fd_seek", fd, 0, seekSet, g.room(8))
	g.wantWrite(fd, "overwritten", 10, success) // nothing grows but the last byte
	g.want(success, "fd_filestat_set_size", fd, 4)
	g.wantWrite(other, "1234567", 6, success)
	wantUsed(t, q, Usage{10, 2})
}

func TestAHoleIsCountedLikeBytes(t *testing.T) {
	g, q := bounded(t, Usage{Bytes: 100})
	fd := g.mustOpen(rootFD, "a", openCreate, readWrite, 0)
	p, n := g.text("abc")
	iov, one := g.iovec([2]uint64{p, n})
	out := g.room(4)
	g.want(success, "fd_pwrite", fd, iov, one, 98, out)
	if got := g.u32(out); got != 2 {
		t.Errorf("got %d bytes written before the bound, want 2", got)
	}
	wantUsed(t, q, Usage{100, 1})
	g.want(errNoSpace, "fd_pwrite", fd, iov, one, 100, out)
	g.want(errNoSpace, "fd_pwrite", fd, iov, one, 1<<40, out)
	g.want(errFileTooBig, "fd_pwrite", fd, iov, one, 1<<63-2, out)
	g.want(errNoSpace, "fd_filestat_set_size", fd, 101)
	g.want(errFileTooBig, "fd_filestat_set_size", fd, 1<<63)
	g.want(success, "fd_filestat_set_size", fd, 0)
	g.want(success, "fd_filestat_set_size", fd, 100)
	wantUsed(t, q, Usage{100, 1})
}

func TestNamesAreCountedHoweverTheyAreMade(t *testing.T) {
	g, q := bounded(t, Usage{Bytes: 100, Names: 4})
	g.wantPath(success, "path_create_directory", rootFD, "d")
	fd := g.mustOpen(rootFD, "d/f", openCreate, readWrite, 0)
	g.wantWrite(fd, "12345", 5, success)
	g.want(success, "fd_close", fd)
	link := func(name string) errno {
		from, n := g.text("d/f")
		to, m := g.text(name)
		return g.call("path_link", rootFD, 0, from, n, rootFD, to, m)
	}
	symlink := func(name string) errno {
		target, n := g.text("d/f")
		at, m := g.text(name)
		return g.call("path_symlink", target, n, rootFD, at, m)
	}
	if e := link("hard"); e != success {
		t.Errorf("link: %v", e)
	}
	if e := symlink("soft"); e != success {
		t.Errorf("symlink: %v", e)
	}
	wantUsed(t, q, Usage{5 + 3, 4})
	if e := link("hard 2"); e != errNoSpace {
		t.Errorf("link when full: got %v, want %v", e, errNoSpace)
	}
	if e := symlink("soft 2"); e != errNoSpace {
		t.Errorf("symlink when full: got %v, want %v", e, errNoSpace)
	}
	if _, e := g.open(rootFD, "new", openCreate, readWrite, 0); e != errNoSpace {
		t.Errorf("create when full: got %v, want %v", e, errNoSpace)
	}
	g.wantPath(errNoSpace, "path_create_directory", rootFD, "e")
	g.wantPath(errExist, "path_create_directory", rootFD, "d")
	again := g.mustOpen(rootFD, "d/f", openCreate, readWrite, 0)
	g.want(success, "fd_close", again)
	if _, e := g.open(rootFD, "d/f", openCreate|openExclusive, readWrite, 0); e != errExist {
		t.Errorf("exclusive create of what is there: got %v, want %v", e, errExist)
	}

	g.wantPath(success, "path_unlink_file", rootFD, "d/f") // "hard" still leads there
	wantUsed(t, q, Usage{5 + 3, 3})
	g.wantPath(success, "path_unlink_file", rootFD, "soft")
	g.wantPath(success, "path_unlink_file", rootFD, "hard")
	g.wantPath(success, "path_remove_directory", rootFD, "d")
	wantUsed(t, q, Usage{})
}

func TestAnUnlinkedFileTakesItsRoomUntilItIsClosed(t *testing.T) {
	g, q := bounded(t, Usage{Bytes: 10})
	fd := g.mustOpen(rootFD, "a", openCreate, readWrite, 0)
	g.wantWrite(fd, "12345", 5, success)
	reader := g.mustOpen(rootFD, "a", 0, rightRead, 0)
	g.wantPath(success, "path_unlink_file", rootFD, "a")
	wantUsed(t, q, Usage{5, 0})
	g.wantWrite(fd, "6789", 4, success)
	g.want(success, "fd_close", fd)
	wantUsed(t, q, Usage{9, 0})
	again := g.mustOpen(rootFD, "a", openCreate, readWrite, 0) // another file of that name
	g.wantWrite(again, "xyz", 1, success)
	g.want(success, "fd_close", reader)
	wantUsed(t, q, Usage{1, 1})
}

func TestWhatARenameReplacesIsNoLongerCounted(t *testing.T) {
	g, q := bounded(t, Usage{Bytes: 10})
	for _, name := range []string{"a", "b"} {
		fd := g.mustOpen(rootFD, name, openCreate, readWrite, 0)
		g.wantWrite(fd, "1234", 4, success)
		g.want(success, "fd_close", fd)
	}
	held := g.mustOpen(rootFD, "b", 0, rightRead, 0)
	rename := func(from, to string) {
		t.Helper()
		a, n := g.text(from)
		b, m := g.text(to)
		g.want(success, "path_rename", rootFD, a, n, rootFD, b, m)
	}
	rename("a", "b")
	wantUsed(t, q, Usage{8, 1})
	g.want(success, "fd_close", held)
	wantUsed(t, q, Usage{4, 1})
	rename("b", "b")
	rename("b", "c")
	wantUsed(t, q, Usage{4, 1})
	g.wantPath(success, "path_create_directory", rootFD, "d")
	g.wantPath(success, "path_create_directory", rootFD, "e")
	rename("d", "e")
	wantUsed(t, q, Usage{4, 2})
}

func TestOpeningWithTruncateGivesTheBytesBack(t *testing.T) {
	g, q := bounded(t, Usage{Bytes: 5})
	fd := g.mustOpen(rootFD, "a", openCreate, readWrite, 0)
	g.wantWrite(fd, "12345", 5, success)
	again := g.mustOpen(rootFD, "a", openCreate|openTruncate, readWrite, 0)
	wantUsed(t, q, Usage{0, 1})
	g.wantWrite(again, "abc", 3, success)
	wantUsed(t, q, Usage{3, 1})
	g.wantWrite(fd, "x", 0, errNoSpace) // at its own offset, past a hole of two
}

func TestNothingMovesBetweenVolumes(t *testing.T) {
	base := t.TempDir()
	fill(t, base, "a/", "b/", "a/f")
	var mounts []Mount
	for _, name := range []string{"a", "b"} {
		q, err := NewQuota(filepath.Join(base, name), Usage{Bytes: 100})
		if err != nil {
			t.Fatal(err)
		}
		mounts = append(mounts, Mount{Guest: "/" + name, Host: filepath.Join(base, name), Quota: q})
	}
	g := newGuest(t, Config{Mounts: mounts})
	p, n := g.text("f")
	g.want(errCrossDevice, "path_rename", rootFD, p, n, rootFD+1, p, n)
	g.want(errCrossDevice, "path_link", rootFD, 0, p, n, rootFD+1, p, n)
}

func TestContainersOfAPodShareWhatTheVolumeHolds(t *testing.T) {
	dir := t.TempDir()
	q, err := NewQuota(dir, Usage{Bytes: 6000})
	if err != nil {
		t.Fatal(err)
	}
	var guests sync.WaitGroup
	for range 4 {
		g := newGuest(t, Config{Mounts: []Mount{{Guest: "/", Host: dir, Quota: q}}})
		own := g.mustOpen(rootFD, "log", openCreate, readWrite, flagAppend)
		p, n := g.text(strings.Repeat("x", 10))
		iov, one := g.iovec([2]uint64{p, n})
		out := g.room(4)
		guests.Go(func() {
			for range 200 {
				if e := g.call("fd_write", own, iov, one, out); e != success && e != errNoSpace {
					t.Errorf("write: %v", e)
				}
			}
			g.call("fd_close", own)
		})
	}
	guests.Wait()
	info, err := os.Stat(filepath.Join(dir, "log"))
	if err != nil || info.Size() != 6000 {
		t.Errorf("got %v, %v, want a file of exactly the 6000 bytes that are allowed", info, err)
	}
	wantUsed(t, q, Usage{6000, 1})
}

func TestWhatIsThereAlreadyIsCounted(t *testing.T) {
	dir := t.TempDir()
	fill(t, dir, "sub/", "sub/1234", "12")
	if err := os.Link(filepath.Join(dir, "12"), filepath.Join(dir, "sub", "link")); err != nil {
		t.Skip("no hard links here")
	}
	q, err := NewQuota(dir, Usage{Bytes: 100})
	if err != nil {
		t.Fatal(err)
	}
	wantUsed(t, q, Usage{int64(len("sub/1234") + len("12")), 4})

	file, err := NewQuota(filepath.Join(dir, "12"), Usage{Bytes: 4})
	if err != nil {
		t.Fatal(err)
	}
	g := newGuest(t, Config{Mounts: []Mount{{Guest: "/etc/words", Host: filepath.Join(dir, "12"), Quota: file}}})
	fd := g.mustOpen(rootFD, "words", 0, readWrite, flagAppend)
	g.wantWrite(fd, "345", 2, success)
}

func TestAVolumeWithMoreThanIsAllowedIsFull(t *testing.T) {
	dir := t.TempDir()
	fill(t, dir, "a", "b", "c")
	q, err := NewQuota(dir, Usage{Bytes: 100, Names: 2})
	if err != nil {
		t.Fatal(err)
	}
	wantUsed(t, q, Usage{100, 2})
	deep := filepath.Join(t.TempDir(), strings.Repeat("d/", maxScanDepth+2))
	if err := os.MkdirAll(deep, 0o755); err != nil {
		t.Fatal(err)
	}
	top := deep[:len(deep)-2*(maxScanDepth+2)]
	if q, err = NewQuota(top, Usage{Bytes: 100, Names: 1000}); err != nil {
		t.Fatal(err)
	}
	wantUsed(t, q, Usage{100, 1000})
}
