package wasi

import (
	"os"
	"strings"
)

// Flags of path_open and of every lookup, as preview1 numbers them.
const (
	lookupFollow = 1

	openCreate    = 1
	openDirectory = 2
	openExclusive = 4
	openTruncate  = 8
)

const (
	newFileMode = 0o666 // less the host's umask
	newDirMode  = 0o777
)

// pathOpen opens or creates. As in wasmtime, of the rights asked for only
// reading and writing count.
func pathOpen(s *System, f frame) errno {
	p, e := s.place(f.fd(0), f, 2)
	if e != success {
		return e
	}
	o := opening{
		follow: f.u32(1)&lookupFollow != 0,
		flags:  f.u32(4),
		read:   rights(f.u64(5))&rightRead != 0,
		write:  rights(f.u64(5))&rightWrite != 0,
	}
	flags := fdflags(f.u32(7))
	switch {
	case flags&^allFlags != 0 || o.flags > openCreate|openDirectory|openExclusive|openTruncate:
		return errInvalid
	case flags&(flagDsync|flagRsync|flagSync) != 0:
		return errNotSupported
	case o.flags&openDirectory != 0 && o.flags&^openDirectory != 0:
		return errInvalid
	}
	if e := s.table.room(); e != success {
		return e
	}
	d, e := o.open(p)
	if e != success {
		return e
	}
	d.flags = flags
	fd, e := s.table.add(d)
	if e != success {
		d.close()
		return e
	}
	return f.mem.putU32(f.u32(8), fd)
}

// opening is one path_open.
type opening struct {
	follow, read, write bool
	flags               uint32
}

func (o opening) changes() bool { return o.write || o.flags&(openCreate|openTruncate) != 0 }

func (o opening) mode() int {
	mode := os.O_RDONLY
	switch {
	case o.write || o.flags&openTruncate != 0:
		mode = os.O_RDWR
		if !o.read {
			mode = os.O_WRONLY
		}
	}
	if o.flags&openCreate != 0 {
		mode |= os.O_CREATE
	}
	if o.flags&openExclusive != 0 {
		mode |= os.O_EXCL
	}
	if o.flags&openTruncate != 0 {
		mode |= os.O_TRUNC
	}
	return mode | openWithoutWaiting
}

func (o opening) open(p place) (*descriptor, errno) {
	if o.changes() {
		if e := p.changeable(); e != success {
			return nil, e
		}
	}
	if p.file != nil {
		return o.finish(p.file.mount, p.file.root, p.file.base)
	}
	if p.dir.root == nil { // only "." is left, which changes nothing
		return o.directory(p)
	}
	if info, err := p.dir.root.Lstat(p.path); err == nil {
		switch {
		case info.Mode()&os.ModeSymlink != 0 && !o.follow && !p.slash:
			return nil, errLoop
		case info.IsDir() && o.flags&(openCreate|openTruncate|openExclusive) == 0 && !o.write:
			return o.directory(p)
		case p.slash && info.Mode().IsRegular():
			return nil, errNotDir
		}
	}
	name := p.path
	if p.slash {
		name += "/"
	}
	return o.finish(p.dir.mount, p.dir.root, name)
}

// finish opens a name and looks at what it turned out to be. Only files and
// directories are for guests: a device or a pipe of the host is not.
func (o opening) finish(m *mount, root *os.Root, name string) (*descriptor, errno) {
	q := m.quota
	var f *os.File
	var err error
	if q != nil {
		q.tree.Lock()
		defer q.tree.Unlock()
		f, err = q.openFile(root, name, o.mode())
	} else {
		f, err = root.OpenFile(name, o.mode(), newFileMode)
	}
	if err != nil {
		return nil, toErrno(err)
	}
	info, err := f.Stat()
	switch {
	case err != nil:
		f.Close()
		return nil, toErrno(err)
	case info.IsDir():
		f.Close()
		return o.directory(place{dir: &directory{mount: m, root: root}, path: name})
	case !info.Mode().IsRegular():
		f.Close()
		return nil, errNotPermitted
	case o.flags&openDirectory != 0:
		f.Close()
		return nil, errNotDir
	}
	r := &regular{f: f, mount: m, readable: o.read, writable: o.write}
	if q != nil {
		r.stored = q.enter(info)
		if o.flags&openTruncate != 0 {
			if e := r.stored.truncate(f, 0); e != success {
				r.stored.leave(f)
				return nil, e
			}
		}
	}
	return &descriptor{file: r, rights: r.rights(), inherit: r.rights()}, success
}

func (r *regular) rights() rights {
	all := rights(allRights)
	if !r.readable {
		all &^= rightRead | rightReaddir
	}
	if !r.writable {
		all &^= rightWrite
	}
	return all
}

func (o opening) directory(p place) (*descriptor, errno) {
	d := &directory{mount: p.dir.mount, borrowed: true}
	if itself(p.path) {
		d.files = p.dir.files
	}
	if p.dir.root != nil {
		var err error
		if d.root, err = p.dir.root.OpenRoot(p.path); err != nil {
			return nil, toErrno(err)
		}
	}
	all := rights(allRights &^ (rightSeek | rightSetSize | rightPathSetSize | rightWrite))
	if p.dir.mount.readOnly {
		all &^= rightsToChange
	}
	return &descriptor{file: d, rights: all, inherit: all}, success
}

func pathCreateDirectory(s *System, f frame) errno {
	p, e := s.place(f.fd(0), f, 1)
	if e != success {
		return e
	}
	if p.file != nil {
		return errExist
	}
	if e := p.entry(); e != success {
		return e
	}
	return p.dir.mount.quota.adding(p, 0, func() error { return p.dir.root.Mkdir(p.path, newDirMode) })
}

func pathRemoveDirectory(s *System, f frame) errno {
	p, e := s.place(f.fd(0), f, 1)
	if e != success {
		return e
	}
	if e := p.entry(); e != success {
		return e
	}
	if e := p.named(); e != success {
		return e
	}
	info, err := p.dir.root.Lstat(p.path)
	if err != nil {
		return toErrno(err)
	}
	if !info.IsDir() {
		return errNotDir
	}
	return p.remove()
}

// remove takes the name away.
func (p place) remove() errno {
	return p.dir.mount.quota.removing(p, func() error { return p.dir.root.Remove(p.path) })
}

func pathUnlinkFile(s *System, f frame) errno {
	p, e := s.place(f.fd(0), f, 1)
	if e != success {
		return e
	}
	if e := p.entry(); e != success {
		return e
	}
	info, err := p.dir.root.Lstat(p.path)
	switch {
	case err != nil:
		return toErrno(err)
	case info.IsDir():
		return errIsDir
	case p.slash:
		return errNotDir
	}
	return p.remove()
}

// named refuses a last component that names no entry of its own parent.
func (p place) named() errno {
	switch _, last := split(p.path); last {
	case ".", "..":
		return errInvalid
	}
	return success
}

// pathSymlink refuses an absolute target, which could only ever lead out.
func pathSymlink(s *System, f frame) errno {
	target, e := f.path(0)
	if e != success {
		return e
	}
	p, e := s.place(f.fd(2), f, 3)
	if e != success {
		return e
	}
	if e := p.entry(); e != success {
		return e
	}
	switch {
	case target == "":
		return errNoEntry
	case target[0] == '/':
		return errNotPermitted
	case strings.ContainsRune(target, 0):
		return errInvalid
	case p.slash:
		switch info, err := p.dir.root.Lstat(p.path); {
		case err != nil:
			return toErrno(err)
		case !info.IsDir():
			return errNotDir
		}
		return errExist
	}
	return p.dir.mount.quota.adding(p, int64(len(target)), func() error { return p.dir.root.Symlink(target, p.path) })
}

func pathReadlink(s *System, f frame) errno {
	p, e := s.place(f.fd(0), f, 1)
	if e != success {
		return e
	}
	if p.file != nil || p.dir.root == nil {
		return errInvalid
	}
	target, err := p.dir.root.Readlink(p.path)
	if err != nil {
		return toErrno(err)
	}
	n := min(uint32(len(target)), f.u32(4))
	b, ok := f.mem.view(f.u32(3), n)
	if !ok {
		return errFault
	}
	copy(b, target)
	return f.mem.putU32(f.u32(5), n)
}
