package wasi

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestFileKeepsItsOwnPosition(t *testing.T) {
	g, dir := scratch(t)
	fd := g.mustOpen(rootFD, "f", openCreate, rightRead|rightWrite, 0)
	if n, e := g.write(fd, "0123456789"); n != 10 || e != success {
		t.Fatalf("write: got %d, %v", n, e)
	}
	at := g.room(8)
	g.ok("fd_tell", fd, at)
	if got := g.u64(at); got != 10 {
		t.Errorf("tell: got %d, want 10", got)
	}
	g.ok("fd_seek", fd, uint64(2), seekSet, at)
	if got, e := g.read(fd, 3); got != "234" || e != success {
		t.Errorf("read: got %q, %v", got, e)
	}
	g.ok("fd_seek", fd, ^uint64(0), seekCur, at) // -1
	if got, _ := g.read(fd, 100); got != "456789" {
		t.Errorf("read after seeking back: got %q", got)
	}
	if got, e := g.read(fd, 100); got != "" || e != success {
		t.Errorf("read at the end: got %q, %v", got, e)
	}
	g.ok("fd_seek", fd, ^uint64(3), seekEnd, at)
	if got := g.u64(at); got != 6 {
		t.Errorf("seek from the end: got %d, want 6", got)
	}
	g.want(errInvalid, "fd_seek", fd, ^uint64(100), seekSet, at)
	g.want(errInvalid, "fd_seek", fd, 0, 3, at)
	g.ok("fd_close", fd)
	g.want(errBadFD, "fd_close", fd)
	if b, _ := os.ReadFile(filepath.Join(dir, "f")); string(b) != "0123456789" {
		t.Errorf("on the host: got %q", b)
	}
}

func TestPositionedReadsAndWritesLeaveThePosition(t *testing.T) {
	g, _ := scratch(t)
	fd := g.mustOpen(rootFD, "f", openCreate, rightRead|rightWrite, 0)
	g.write(fd, "abcdef")
	a, b := g.put([]byte("XY")), g.put([]byte("Z"))
	iov, n := g.iovec([2]uint64{a, 2}, [2]uint64{b, 0}, [2]uint64{b, 1})
	out := g.room(8)
	g.ok("fd_pwrite", fd, iov, n, 1, out)
	if got := g.u32(out); got != 3 {
		t.Errorf("pwrite: got %d, want 3", got)
	}
	buf := g.room(8)
	iov, n = g.iovec([2]uint64{buf, 2}, [2]uint64{buf + 2, 6})
	g.ok("fd_pread", fd, iov, n, 0, out)
	if got := g.bytes(buf, g.u32(out)); got != "aXYZef" {
		t.Errorf("pread: got %q", got)
	}
	g.ok("fd_tell", fd, out)
	if got := g.u64(out); got != 6 {
		t.Errorf("the position moved to %d", got)
	}
	g.want(errInvalid, "fd_pread", fd, iov, n, 1<<63, out)
}

// "Note that this is implementing Linux semantics of pwrite where the offset
// is ignored if the file was opened in append mode." (wasmtime)
func TestAppendingIgnoresThePosition(t *testing.T) {
	g, dir := scratch(t)
	fill(t, dir, "f")
	fd := g.mustOpen(rootFD, "f", 0, rightRead|rightWrite, flagAppend)
	g.write(fd, "1")
	p := g.put([]byte("2"))
	iov, n := g.iovec([2]uint64{p, 1})
	out := g.room(8)
	g.ok("fd_pwrite", fd, iov, n, 0, out)
	if b, _ := os.ReadFile(filepath.Join(dir, "f")); string(b) != "f12" {
		t.Errorf("got %q, want f12", b)
	}
	g.ok("fd_fdstat_set_flags", fd, 0)
	g.ok("fd_pwrite", fd, iov, n, 0, out)
	if b, _ := os.ReadFile(filepath.Join(dir, "f")); string(b) != "212" {
		t.Errorf("after append was turned off: got %q, want 212", b)
	}
}

func TestRightsDecideWhetherAFileIsReadOrWritten(t *testing.T) {
	g, dir := scratch(t)
	fill(t, dir, "f", "d/")
	none := g.mustOpen(rootFD, "f", 0, 0, 0)
	if _, e := g.read(none, 1); e != errBadFD {
		t.Errorf("read without the right: got %v, want badf", e)
	}
	reader := g.mustOpen(rootFD, "f", 0, rightRead, 0)
	if _, e := g.write(reader, "x"); e != errBadFD {
		t.Errorf("write without the right: got %v, want badf", e)
	}
	stat := g.room(fdstatSize)
	g.ok("fd_fdstat_get", reader, stat)
	if got := rights(g.u64(stat + 8)); got&rightRead == 0 || got&rightWrite != 0 {
		t.Errorf("rights of a reader: got %b", got)
	}
	g.want(errNotSupported, "fd_fdstat_set_rights", reader, 0, 0)
	g.want(errBadFD, "fd_fdstat_set_rights", 99, 0, 0)
	g.ok("fd_fdstat_get", rootFD, stat)
	if got := rights(g.u64(stat + 8)); got != rightsOfPreopen {
		t.Errorf("rights of a preopened directory: got %b, want %b", got, rightsOfPreopen)
	}
	dirFD := g.mustOpen(rootFD, "d", openDirectory, rightReaddir, 0)
	g.ok("fd_fdstat_get", dirFD, stat)
	if got := rights(g.u64(stat + 8)); got&(rightSeek|rightSetSize|rightPathSetSize) != 0 {
		t.Errorf("rights of a directory: got %b", got)
	}
}

func TestDirectoriesAreNotFiles(t *testing.T) {
	g, dir := scratch(t)
	fill(t, dir, "d/")
	fd := g.mustOpen(rootFD, "d", 0, 0, 0)
	buf := g.room(64)
	iov, n := g.iovec([2]uint64{buf, 16})
	out := g.room(8)
	for name, args := range map[string][]uint64{
		"fd_read":              {fd, iov, n, out},
		"fd_write":             {fd, iov, n, out},
		"fd_pread":             {fd, iov, n, 0, out},
		"fd_pwrite":            {fd, iov, n, 0, out},
		"fd_seek":              {fd, 0, seekCur, out},
		"fd_tell":              {fd, out},
		"fd_allocate":          {fd, 0, 0},
		"fd_advise":            {fd, 0, 0, 0},
		"fd_filestat_set_size": {fd, 0},
		"fd_fdstat_set_flags":  {fd, uint64(flagAppend)},
		"fd_prestat_get":       {fd, out},
	} {
		g.want(errBadFD, name, args...)
	}
	g.ok("fd_sync", fd)
	g.ok("fd_datasync", fd)
	if _, e := g.open(rootFD, "d", openDirectory, rightRead|rightWrite, 0); e != errIsDir {
		t.Errorf("open for writing: got %v, want isdir", e)
	}
	if _, e := g.open(rootFD, "d", openCreate, rightRead, 0); e != errIsDir {
		t.Errorf("create over it: got %v, want isdir", e)
	}
}

func TestOpenFlagsMeanWhatTheySay(t *testing.T) {
	g, dir := scratch(t)
	fill(t, dir, "f")
	for _, row := range []struct {
		name   string
		path   string
		oflags uint32
		rights rights
		flags  fdflags
		want   errno
	}{
		{name: "a missing file", path: "no", want: errNoEntry},
		{name: "create", path: "new", oflags: openCreate},
		{name: "exclusive over a file", path: "f", oflags: openCreate | openExclusive, want: errExist},
		{name: "exclusive", path: "new2", oflags: openCreate | openExclusive},
		{name: "directory over a file", path: "f", oflags: openDirectory, want: errNotDir},
		{name: "directory and create", path: "f", oflags: openDirectory | openCreate, want: errInvalid},
		{name: "unknown open flag", path: "f", oflags: 16, want: errInvalid},
		{name: "unknown descriptor flag", path: "f", flags: 32, want: errInvalid},
		{name: "synchronous", path: "f", flags: flagSync, want: errNotSupported},
		{name: "non-blocking", path: "f", rights: rightRead, flags: flagNonblock},
		{name: "truncate", path: "f", oflags: openTruncate},
	} {
		t.Run(row.name, func(t *testing.T) {
			if _, e := g.open(rootFD, row.path, row.oflags, row.rights, row.flags); e != row.want {
				t.Errorf("got %v, want %v", e, row.want)
			}
		})
	}
	if info, err := os.Stat(filepath.Join(dir, "f")); err != nil || info.Size() != 0 {
		t.Errorf("after truncation: got %v, %v", info, err)
	}
	p, n := g.text("x")
	g.want(errNotDir, "path_open", g.mustOpen(rootFD, "f", 0, 0, 0), 0, p, n, 0, 0, 0, 0, g.room(4))
	g.want(errBadFD, "path_open", 0, 0, p, n, 0, 0, 0, 0, g.room(4))
}

func TestFilesGrowAndShrink(t *testing.T) {
	g, dir := scratch(t)
	fd := g.mustOpen(rootFD, "f", openCreate, rightRead|rightWrite, 0)
	g.write(fd, "abc")
	g.ok("fd_filestat_set_size", fd, 5)
	if b, _ := os.ReadFile(filepath.Join(dir, "f")); string(b) != "abc\x00\x00" {
		t.Errorf("grown: got %q", b)
	}
	g.ok("fd_filestat_set_size", fd, 1)
	if b, _ := os.ReadFile(filepath.Join(dir, "f")); string(b) != "a" {
		t.Errorf("shrunk: got %q", b)
	}
	g.want(errFileTooBig, "fd_filestat_set_size", fd, 1<<63)
	g.want(errNotSupported, "fd_allocate", fd, 0, 10)
	g.ok("fd_advise", fd, 0, 10, 5)
	g.want(errInvalid, "fd_advise", fd, 0, 10, 6)
}

func TestRenumberMovesAndCloses(t *testing.T) {
	g, dir := scratch(t)
	fill(t, dir, "a", "b")
	a := g.mustOpen(rootFD, "a", 0, rightRead, 0)
	b := g.mustOpen(rootFD, "b", 0, rightRead, 0)
	g.ok("fd_renumber", a, b)
	if got, _ := g.read(b, 10); got != "a" {
		t.Errorf("read at the new number: got %q, want a", got)
	}
	g.want(errBadFD, "fd_tell", a, g.room(8))
	g.want(errBadFD, "fd_renumber", a, b)
	g.want(errBadFD, "fd_renumber", b, 77)
	g.ok("fd_renumber", b, b)
	if again := g.mustOpen(rootFD, "b", 0, rightRead, 0); again != a {
		t.Errorf("the freed number was not reused: got %d, want %d", again, a)
	}
	g.ok("fd_renumber", b, rootFD) // a preopened directory may be replaced
	g.want(errBadFD, "fd_prestat_get", rootFD, g.room(8))
}

func TestDescriptorsAreBounded(t *testing.T) {
	g, dir := scratch(t)
	fill(t, dir, "f")
	p, n := g.text("f")
	out := g.room(4)
	opened := 0
	for ; opened < maxFDs; opened++ {
		if e := g.call("path_open", rootFD, 0, p, n, 0, 0, 0, 0, out); e != success {
			if e != errTooManyFiles {
				t.Fatalf("got %v, want mfile", e)
			}
			break
		}
	}
	if want := maxFDs - 4; opened != want {
		t.Errorf("opened %d, want %d", opened, want)
	}
	g.ok("fd_close", 100)
	g.ok("path_open", rootFD, 0, p, n, 0, 0, 0, 0, out)
	if got := g.u32(out); got != 100 {
		t.Errorf("got descriptor %d, want the freed one, 100", got)
	}
}

func TestStandardStreamsAreNotForSeeking(t *testing.T) {
	var out strings.Builder
	g := newGuest(t, Config{Stdin: strings.NewReader("hello"), Stdout: &out})
	if got, e := g.read(0, 3); got != "hel" || e != success {
		t.Errorf("stdin: got %q, %v", got, e)
	}
	if got, e := g.read(0, 10); got != "lo" || e != success {
		t.Errorf("stdin: got %q, %v", got, e)
	}
	if got, e := g.read(0, 10); got != "" || e != success {
		t.Errorf("stdin at the end: got %q, %v", got, e)
	}
	if _, e := g.read(1, 1); e != errBadFD {
		t.Errorf("reading stdout: got %v, want badf", e)
	}
	if n, e := g.write(1, "out"); n != 3 || e != success || out.String() != "out" {
		t.Errorf("stdout: got %d, %v, %q", n, e, &out)
	}
	if n, e := g.write(2, "nowhere"); n != 7 || e != success {
		t.Errorf("stderr that goes nowhere: got %d, %v", n, e)
	}
	if _, e := g.write(0, "x"); e != errBadFD {
		t.Errorf("writing stdin: got %v, want badf", e)
	}
	iov, n := g.iovec([2]uint64{g.room(8), 8})
	at := g.room(8)
	g.want(errIllegalSeek, "fd_seek", 0, 0, 0, at)
	g.want(errIllegalSeek, "fd_tell", 1, at)
	g.want(errIllegalSeek, "fd_pread", 0, iov, n, 0, at)
	g.want(errIllegalSeek, "fd_pwrite", 1, iov, n, 0, at)
	stat := g.room(filestatSize)
	g.ok("fd_filestat_get", 0, stat)
}
