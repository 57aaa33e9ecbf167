package wasi

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestNoPathLeadsOut(t *testing.T) {
	outside := t.TempDir()
	fill(t, outside, "secret", "dir/", "dir/inner")
	g, dir := scratch(t)
	fill(t, dir, "sub/", "sub/file", "file")
	for name, target := range map[string]string{
		"absolute": outside, "up": "../" + filepath.Base(outside), "deep": "sub/../../" + filepath.Base(outside),
		"proc": "/proc/self/root", "chain": "up", "self": ".",
	} {
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	ways := []string{
		"/", "/etc/passwd", "..", "../" + filepath.Base(outside) + "/secret", "sub/../../" + filepath.Base(outside),
		"absolute/secret", "up/secret", "deep/secret", "chain/secret", "proc/etc/passwd", "self/up/secret",
		"self/../../" + filepath.Base(outside) + "/secret", "sub/../up/dir", "./../.", "sub/../..", "up/..", "absolute/dir/inner",
	}
	stat := g.room(filestatSize)
	for _, way := range ways {
		p, n := g.text(way)
		for name, e := range map[string]errno{
			"open":      g.call("path_open", rootFD, lookupFollow, p, n, 0, uint64(rightRead), 0, 0, stat),
			"create":    g.call("path_open", rootFD, lookupFollow, p, n, openCreate, uint64(rightWrite), 0, 0, stat),
			"opendir":   g.call("path_open", rootFD, lookupFollow, p, n, openDirectory, 0, 0, 0, stat),
			"stat":      g.call("path_filestat_get", rootFD, lookupFollow, p, n, stat),
			"times":     g.call("path_filestat_set_times", rootFD, lookupFollow, p, n, 0, 0, setMtimeNow),
			"mkdir":     g.onPath("path_create_directory", rootFD, way+"/made"),
			"unlink":    g.onPath("path_unlink_file", rootFD, way+"/secret"),
			"rmdir":     g.onPath("path_remove_directory", rootFD, way+"/dir"),
			"rename in": g.both("path_rename", way+"/secret", "stolen"),
			"rename to": g.both("path_rename", "file", way+"/planted"),
			"link in":   g.link(way+"/secret", "stolen"),
			"link to":   g.link("file", way+"/planted"),
		} {
			if e == success {
				t.Errorf("%s of %q succeeded", name, way)
			}
		}
	}
	entries, _ := os.ReadDir(outside)
	if len(entries) != 2 {
		t.Errorf("outside changed: %v", entries)
	}
	if _, e := g.open(rootFD, "up/secret", 0, rightRead, 0); e != errNotPermitted {
		t.Errorf("got %v, want perm", e)
	}
	if _, e := g.open(rootFD, "/file", 0, rightRead, 0); e != errNotPermitted {
		t.Errorf("an absolute path: got %v, want perm", e)
	}
}

// both calls a function on two paths below the root.
func (g *guest) both(name, from, to string) errno {
	a, an := g.text(from)
	b, bn := g.text(to)
	return g.call(name, rootFD, a, an, rootFD, b, bn)
}

func (g *guest) link(from, to string) errno {
	a, an := g.text(from)
	b, bn := g.text(to)
	return g.call("path_link", rootFD, 0, a, an, rootFD, b, bn)
}

// A directory that is moved away while it is open does not take its holder
// along to what lies above the new place.
func TestAnOpenDirectoryStaysConfinedWhenItMoves(t *testing.T) {
	g, dir := scratch(t)
	fill(t, dir, "a/", "a/b/", "secret")
	fd := g.mustOpen(rootFD, "a/b", openDirectory, 0, 0)
	elsewhere := t.TempDir()
	fill(t, elsewhere, "other")
	if err := os.Rename(filepath.Join(dir, "a/b"), filepath.Join(elsewhere, "b")); err != nil {
		t.Fatal(err)
	}
	for _, way := range []string{"../other", "../../secret", ".."} {
		if _, e := g.open(fd, way, 0, rightRead, 0); e != errNotPermitted {
			t.Errorf("open %q: got %v, want perm", way, e)
		}
	}
	g.mustOpen(fd, "new", openCreate, rightWrite, 0)
	if _, err := os.Stat(filepath.Join(elsewhere, "b/new")); err != nil {
		t.Error(err)
	}
}

func TestPathsAreCheckedBeforeTheHostSeesThem(t *testing.T) {
	g, dir := scratch(t)
	fill(t, dir, "dir/", "dir/nested/", "dir/nested/file")
	for _, row := range []struct {
		path string
		want errno
	}{
		{"dir/.//nested/../../dir/nested/../nested///./file", success},
		{"dir/nested/", success}, {"dir/nested///", success}, {".", success}, {"./", success},
		{"dir/nested/file/", errNotDir}, {"dir/nested/file///", errNotDir}, {"dir/nested/file/x", errNotDir},
		{"", errNoEntry}, {"missing/file", errNoEntry}, {"missing/", errNoEntry},
		{"dir/nested/file\x00", errInvalid}, {"\xff", errIllegalByte},
		{strings.Repeat("a/", 2100), errNameTooLong}, {strings.Repeat("n", 300), errNameTooLong},
	} {
		if _, e := g.open(rootFD, row.path, 0, 0, 0); e != row.want {
			t.Errorf("open %.40q: got %v, want %v", row.path, e, row.want)
		}
	}
	g.want(errFault, "path_open", rootFD, 0, guestPages<<16-2, 10, 0, 0, 0, 0, 64)
	g.want(errFault, "path_open", rootFD, 0, 1<<32-1, 1<<10, 0, 0, 0, 0, 64)
}

func TestSymlinksAreFollowedOnlyWhenAsked(t *testing.T) {
	g, dir := scratch(t)
	fill(t, dir, "file", "dir/", "dir/in")
	link := func(target, name string) errno {
		a, an := g.text(target)
		b, bn := g.text(name)
		return g.call("path_symlink", a, an, rootFD, b, bn)
	}
	for target, name := range map[string]string{"file": "to-file", "dir": "to-dir", "nowhere": "dangling", "loop": "loop"} {
		if e := link(target, name); e != success {
			t.Fatalf("symlink %s: %v", name, e)
		}
	}
	if e := link("/etc", "abs"); e != errNotPermitted {
		t.Errorf("an absolute target: got %v, want perm", e)
	}
	if e := link("", "empty"); e != errNoEntry {
		t.Errorf("an empty target: got %v, want noent", e)
	}
	if e := link("x", "file"); e != errExist {
		t.Errorf("over a file: got %v, want exist", e)
	}
	for name, want := range map[string]errno{"new/": errNoEntry, "dir/": errExist, "file/": errNotDir} {
		if e := link("x", name); e != want {
			t.Errorf("symlink %q: got %v, want %v", name, e, want)
		}
	}
	follow := func(name string, flags uint64, oflags uint32) errno {
		p, n := g.text(name)
		return g.call("path_open", rootFD, flags, p, n, uint64(oflags), uint64(rightRead), 0, 0, g.room(4))
	}
	for _, row := range []struct {
		name   string
		flags  uint64
		oflags uint32
		want   errno
	}{
		{"to-file", lookupFollow, 0, success}, {"to-file", 0, 0, errLoop},
		{"to-dir", lookupFollow, openDirectory, success}, {"to-dir", 0, openDirectory, errLoop},
		{"to-dir/", 0, openDirectory, success}, {"to-dir/in", 0, 0, success},
		{"dangling", lookupFollow, 0, errNoEntry}, {"dangling", 0, 0, errLoop},
		{"loop", lookupFollow, 0, errLoop}, {"loop", 0, 0, errLoop},
		{"dangling", 0, openCreate | openExclusive, errLoop},
	} {
		if e := follow(row.name, row.flags, row.oflags); e != row.want {
			t.Errorf("open %s, flags %d, oflags %d: got %v, want %v", row.name, row.flags, row.oflags, e, row.want)
		}
	}
	stat := g.room(filestatSize)
	for name, want := range map[string][2]filetype{"to-file": {typeSymlink, typeRegular}, "to-dir": {typeSymlink, typeDirectory}} {
		p, n := g.text(name)
		for flag := range uint64(2) {
			g.ok("path_filestat_get", rootFD, flag, p, n, stat)
			if got := filetype(g.bytes(stat+16, 1)[0]); got != want[flag] {
				t.Errorf("stat %s, follow %d: got type %d, want %d", name, flag, got, want[flag])
			}
		}
	}
	g.readlink(t, "to-file", 100, "file")
	g.readlink(t, "to-file", 2, "fi")
	p, n := g.text("file")
	g.want(errInvalid, "path_readlink", rootFD, p, n, g.room(8), 8, g.room(4))
}

func (g *guest) readlink(t *testing.T, name string, room uint64, want string) {
	t.Helper()
	p, n := g.text(name)
	buf, out := g.room(uint32(room)), g.room(4)
	g.ok("path_readlink", rootFD, p, n, buf, room, out)
	if got := g.bytes(buf, g.u32(out)); got != want {
		t.Errorf("readlink %s into %d bytes: got %q, want %q", name, room, got, want)
	}
}

func TestRemovingTellsFilesFromDirectories(t *testing.T) {
	g, dir := scratch(t)
	fill(t, dir, "dir/", "full/", "full/x", "file", "file2")
	g.wantPath(errIsDir, "path_unlink_file", rootFD, "dir")
	g.wantPath(errIsDir, "path_unlink_file", rootFD, "dir/")
	g.wantPath(errNotDir, "path_unlink_file", rootFD, "file/")
	g.wantPath(success, "path_unlink_file", rootFD, "file")
	g.wantPath(errNoEntry, "path_unlink_file", rootFD, "file")
	g.wantPath(errNotDir, "path_remove_directory", rootFD, "file2")
	g.wantPath(errNotDir, "path_remove_directory", rootFD, "file2/")
	g.wantPath(errNotEmpty, "path_remove_directory", rootFD, "full")
	g.wantPath(errInvalid, "path_remove_directory", rootFD, ".")
	g.wantPath(errInvalid, "path_remove_directory", rootFD, "dir/..")
	g.wantPath(success, "path_remove_directory", rootFD, "dir/")
	g.wantPath(errNoEntry, "path_remove_directory", rootFD, "dir")
	g.wantPath(success, "path_create_directory", rootFD, "made/")
	g.wantPath(errExist, "path_create_directory", rootFD, "made")
	g.wantPath(errNoEntry, "path_create_directory", rootFD, "no/made")
	g.wantPath(errBadFD, "path_create_directory", 1, "x")
}

func TestRenameBehavesAsRename(t *testing.T) {
	for _, row := range []struct {
		name     string
		have     []string
		from, to string
		want     errno
	}{
		{"a directory to a new name", []string{"s/"}, "s", "t", success},
		{"a directory onto an empty one", []string{"s/", "t/"}, "s", "t", success},
		{"a directory onto a full one", []string{"s/", "t/", "t/x"}, "s", "t", errNotEmpty},
		{"a directory onto a file", []string{"s/", "t"}, "s", "t", errNotDir},
		{"a file to a new name", []string{"s"}, "s", "t", success},
		{"a file onto a file", []string{"s", "t"}, "s", "t", success},
		{"a file onto a directory", []string{"s", "t/"}, "s", "t", errIsDir},
		{"slashes at both ends", []string{"s/"}, "s/", "t/", success},
		{"a file with a slash", []string{"s"}, "s/", "t", errNotDir},
		{"a file to a name with a slash", []string{"s"}, "s", "t/", errNotDir},
		{"nothing", nil, "s", "t", errNoEntry},
		{"into a subdirectory of itself", []string{"s/"}, "s", "s/t", errInvalid},
		{"the root", []string{"s/"}, ".", "t", errInvalid},
		{"to the parent", []string{"s/", "s/t/"}, "s/t/..", "u", errInvalid},
	} {
		t.Run(row.name, func(t *testing.T) {
			g, dir := scratch(t)
			fill(t, dir, row.have...)
			if e := g.both("path_rename", row.from, row.to); e != row.want {
				t.Errorf("got %v, want %v", e, row.want)
			}
		})
		t.Run(row.name+", between two handles", func(t *testing.T) {
			g, dir := scratch(t)
			fill(t, dir, row.have...)
			second := g.mustOpen(rootFD, ".", openDirectory, 0, 0)
			a, an := g.text(row.from)
			b, bn := g.text(row.to)
			if e := g.call("path_rename", rootFD, a, an, second, b, bn); e != row.want {
				t.Errorf("got %v, want %v", e, row.want)
			}
		})
	}
}

func TestHardLinksShareTheFile(t *testing.T) {
	g, dir := scratch(t)
	fill(t, dir, "file", "sub/", "taken")
	if e := g.link("file", "link"); e != success {
		t.Fatal(e)
	}
	sub := g.mustOpen(rootFD, "sub", openDirectory, 0, 0)
	a, an := g.text("file")
	b, bn := g.text("link")
	g.ok("path_link", rootFD, 0, a, an, sub, b, bn)
	stat := g.room(filestatSize)
	g.ok("path_filestat_get", sub, 0, b, bn, stat)
	if got := g.u64(stat + 24); got != 3 {
		t.Errorf("got %d links, want 3", got)
	}
	g.want(errInvalid, "path_link", rootFD, lookupFollow, a, an, rootFD, b, bn)
	for _, row := range []struct {
		from, to string
		want     errno
	}{
		{"file", "taken", errExist}, {"file", "file", errExist}, {"file", "sub", errExist},
		{"sub", "dirlink", errNotPermitted}, {"file", "new/", errNoEntry}, {"no", "new", errNoEntry},
	} {
		if e := g.link(row.from, row.to); e != row.want {
			t.Errorf("link %s to %s: got %v, want %v", row.from, row.to, e, row.want)
		}
	}
}

func TestReadOnlyMountsDoNotChange(t *testing.T) {
	dir := t.TempDir()
	fill(t, dir, "file", "sub/")
	other := t.TempDir()
	g := newGuest(t, Config{Mounts: []Mount{{Guest: "/ro", Host: dir, ReadOnly: true}, {Guest: "/rw", Host: other}}})
	const rw = 4
	for _, sub := range []uint64{rootFD, g.mustOpen(rootFD, ".", openDirectory, 0, 0)} {
		for _, e := range []errno{
			g.onPath("path_create_directory", sub, "d"),
			g.onPath("path_unlink_file", sub, "file"),
			g.onPath("path_remove_directory", sub, "sub"),
		} {
			if e != errReadOnly {
				t.Errorf("got %v, want rofs", e)
			}
		}
		for _, oflags := range []uint32{0, openCreate, openTruncate} {
			if _, e := g.open(sub, "file", oflags, rightRead|rightWrite, 0); e != errReadOnly {
				t.Errorf("open for writing: got %v, want rofs", e)
			}
		}
		p, n := g.text("file")
		g.want(errReadOnly, "path_rename", sub, p, n, rw, p, n)
		g.want(errReadOnly, "path_rename", rw, p, n, sub, p, n)
		g.want(errReadOnly, "path_link", sub, 0, p, n, rw, p, n)
		g.want(errReadOnly, "path_symlink", p, n, sub, p, n)
		g.want(errReadOnly, "path_filestat_set_times", sub, 0, p, n, 0, 0, setMtimeNow)
		g.want(errReadOnly, "fd_filestat_set_times", sub, 0, 0, setMtimeNow)
		fd := g.mustOpen(sub, "file", 0, rightRead, 0)
		g.want(errReadOnly, "fd_filestat_set_times", fd, 0, 0, setMtimeNow)
		g.want(errInvalid, "fd_filestat_set_size", fd, 0)
		if got, e := g.read(fd, 10); got != "file" || e != success {
			t.Errorf("read: got %q, %v", got, e)
		}
	}
}

func TestSingleFilesAppearInADirectoryOfTheirOwn(t *testing.T) {
	host := t.TempDir()
	fill(t, host, "a", "b", "not-mounted")
	dir := t.TempDir()
	fill(t, dir, "beside", "covered")
	g := newGuest(t, Config{Mounts: []Mount{
		{Guest: "/etc/one", Host: filepath.Join(host, "a"), ReadOnly: true},
		{Guest: "/etc/two", Host: filepath.Join(host, "b")},
		{Guest: "/data", Host: dir},
		{Guest: "/data/covered", Host: filepath.Join(host, "a"), ReadOnly: true},
	}})
	const etc, data = 3, 4
	if got := g.preopens(t); got != "/etc /data" {
		t.Errorf("preopened: got %q", got)
	}
	if got := strings.Join(g.list(t, etc), " "); got != ". .. one two" {
		t.Errorf("list: got %q", got)
	}
	if got := strings.Join(g.list(t, data), " "); got != ". .. covered beside" {
		t.Errorf("list: got %q", got)
	}
	again := g.mustOpen(etc, ".", openDirectory, 0, 0)
	if got := strings.Join(g.list(t, again), " "); got != ". .. one two" {
		t.Errorf("list of a second handle: got %q", got)
	}
	if got, _ := g.read(g.mustOpen(again, "./one", 0, rightRead, 0), 10); got != "a" {
		t.Errorf("got %q, want a", got)
	}
	if got, _ := g.read(g.mustOpen(data, "covered", 0, rightRead, 0), 10); got != "a" {
		t.Errorf("a covered name: got %q, want a", got)
	}
	two := g.mustOpen(etc, "two", openTruncate, rightWrite, 0)
	if _, e := g.write(two, "written"); e != success {
		t.Error(e)
	}
	if b, _ := os.ReadFile(filepath.Join(host, "b")); string(b) != "written" {
		t.Errorf("on the host: got %q", b)
	}
	for _, e := range []errno{
		g.onPath("path_unlink_file", etc, "two"),
		g.onPath("path_unlink_file", data, "covered"),
	} {
		if e == success {
			t.Error("a mounted file was removed")
		}
	}
	for _, way := range []string{"three", "../a", "not-mounted", "one/x", "sub/"} {
		if _, e := g.open(etc, way, openCreate, rightWrite, 0); e == success {
			t.Errorf("open %q succeeded", way)
		}
	}
	if _, e := g.open(etc, "one", 0, rightWrite, 0); e != errReadOnly {
		t.Errorf("write a read-only file: got %v, want rofs", e)
	}
}

// preopens is what a guest's library finds at the start.
func (g *guest) preopens(t *testing.T) string {
	t.Helper()
	var names []string
	stat := g.room(8)
	for fd := uint64(3); g.call("fd_prestat_get", fd, stat) == success; fd++ {
		if g.bytes(stat, 1) != "\x00" {
			continue
		}
		n := g.u32(stat + 4)
		p := g.room(uint32(n) + 1)
		g.ok("fd_prestat_dir_name", fd, p, n)
		g.want(errNameTooLong, "fd_prestat_dir_name", fd, p, n-1)
		names = append(names, g.bytes(p, n))
	}
	return strings.Join(names, " ")
}

// A host file that a guest can replace (its directory is mounted too) must not
// become a way to any file of the host.
func TestAMountedFileCannotBeReplacedByALinkThatLeadsOut(t *testing.T) {
	outside := t.TempDir()
	fill(t, outside, "secret")
	host := t.TempDir()
	fill(t, host, "conf")
	g := newGuest(t, Config{Mounts: []Mount{{Guest: "/etc/conf", Host: filepath.Join(host, "conf")}}})
	if err := os.Remove(filepath.Join(host, "conf")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(outside, "secret"), filepath.Join(host, "conf")); err != nil {
		t.Fatal(err)
	}
	if _, e := g.open(rootFD, "conf", 0, rightRead, 0); e != errNotPermitted {
		t.Errorf("got %v, want perm", e)
	}
}

func TestMountsThatMakeNoSenseAreRefused(t *testing.T) {
	dir := t.TempDir()
	fill(t, dir, "file")
	file := filepath.Join(dir, "file")
	for name, mounts := range map[string][]Mount{
		"a relative guest path":      {{Guest: "data", Host: dir}},
		"a missing host path":        {{Guest: "/data", Host: filepath.Join(dir, "no")}},
		"the same directory twice":   {{Guest: "/data", Host: dir}, {Guest: "/data/", Host: dir}},
		"the same file twice":        {{Guest: "/data/f", Host: file}, {Guest: "/data/f", Host: file}},
		"a device":                   {{Guest: "/null", Host: os.DevNull}},
		"good ones before a bad one": {{Guest: "/a", Host: dir}, {Guest: "/b/f", Host: file}, {Guest: "/c", Host: "/no/such"}},
	} {
		t.Run(name, func(t *testing.T) {
			if s, err := New(Config{Mounts: mounts}); err == nil {
				s.Close()
				t.Error("it was taken")
			}
		})
	}
}
