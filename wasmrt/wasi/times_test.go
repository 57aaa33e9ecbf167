package wasi

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"
)

func TestTimesAreSetToTheNanosecond(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("times of open files are set on Linux alone")
	}
	g, dir := scratch(t)
	fill(t, dir, "file", "sub/")
	if err := os.Symlink("file", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	fd := g.mustOpen(rootFD, "file", 0, rightRead|rightWrite, 0)
	stat := g.room(filestatSize)
	const atime, mtime = 1_000_000_007, 1_600_000_000_123_456_789
	g.ok("fd_filestat_set_times", fd, atime, mtime, setAtime|setMtime)
	g.ok("fd_filestat_get", fd, stat)
	if got := g.u64(stat + 40); got != atime {
		t.Errorf("atime: got %d, want %d", got, atime)
	}
	if got := g.u64(stat + 48); got != mtime {
		t.Errorf("mtime: got %d, want %d", got, mtime)
	}
	g.ok("fd_filestat_set_times", fd, 0, 5, setMtime)
	g.ok("fd_filestat_get", fd, stat)
	if a, m := g.u64(stat+40), g.u64(stat+48); a != atime || m != 5 {
		t.Errorf("only mtime: got %d, %d, want %d, 5", a, m, atime)
	}
	p, n := g.text("link")
	g.ok("path_filestat_set_times", rootFD, 0, p, n, 0, 77, setMtime)
	g.ok("path_filestat_get", rootFD, 0, p, n, stat)
	if got := g.u64(stat + 48); got != 77 {
		t.Errorf("the link's own mtime: got %d, want 77", got)
	}
	g.ok("path_filestat_set_times", rootFD, lookupFollow, p, n, 0, 88, setMtime)
	g.ok("fd_filestat_get", fd, stat)
	if got := g.u64(stat + 48); got != 88 {
		t.Errorf("mtime through the link: got %d, want 88", got)
	}
	before := time.Now().Add(-time.Minute).UnixNano()
	g.ok("fd_filestat_set_times", rootFD, 0, 0, setMtimeNow|setAtimeNow)
	g.ok("fd_filestat_get", rootFD, stat)
	if got := int64(g.u64(stat + 48)); got < before {
		t.Errorf("now: got %d, want at least %d", got, before)
	}
	for _, flags := range []uint64{setAtime | setAtimeNow, setMtime | setMtimeNow, 16} {
		g.want(errInvalid, "fd_filestat_set_times", fd, 0, 0, flags)
		g.want(errInvalid, "path_filestat_set_times", rootFD, 0, p, n, 0, 0, flags)
	}
	g.want(errOverflow, "fd_filestat_set_times", fd, 1<<63, 0, setAtime)
	g.want(errBadFD, "fd_filestat_set_times", 1, 0, 0, setAtime)
}
