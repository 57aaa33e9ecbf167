package wasi

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"unicode/utf8"
)

// directory is an open directory. os.Root confines every path below it: no
// symbolic link, rename or ".." leads out.
type directory struct {
	mount *mount
	root  *os.Root               // nil: it holds mounted files and nothing else
	files map[string]mountedFile // single files mounted into it, by name
	list  *listing               // of the readdir under way

	borrowed bool // files belongs to the preopened directory
	lent     bool // and root: to a Preopens
}

// mountedFile is one file of the host. It is opened anew for each descriptor,
// through its directory, so that whoever can write there cannot lead it away
// with a link.
type mountedFile struct {
	mount *mount
	root  *os.Root
	base  string
}

func (*directory) kind() filetype { return typeDirectory }

func (d *directory) close() error {
	var errs []error
	if d.list != nil {
		errs = append(errs, d.list.close())
	}
	if !d.borrowed {
		for _, f := range d.files {
			errs = append(errs, f.root.Close())
		}
	}
	if d.root != nil && !d.lent {
		errs = append(errs, d.root.Close())
	}
	return errors.Join(errs...)
}

// self opens the directory as a file, for what one does to a file.
func (d *directory) self() (*os.File, error) {
	if d.root == nil {
		return nil, errNotSupported
	}
	return d.root.Open(".")
}

func (d *directory) sync() errno {
	f, err := d.self()
	if err != nil {
		return toErrno(err)
	}
	defer f.Close()
	return toErrno(f.Sync())
}

// place is a path below a directory, ready to act on.
type place struct {
	dir   *directory
	path  string // as the guest wrote it, without trailing slashes
	slash bool   // it ended in a slash, so it names a directory
	file  *mountedFile
}

// at checks a guest's path. Paths are relative UTF-8; an absolute one, like one
// that leads out, is not permitted.
func (d *directory) at(name string) (place, errno) {
	switch {
	case name == "":
		return place{}, errNoEntry
	case !utf8.ValidString(name):
		return place{}, errIllegalByte
	case strings.ContainsRune(name, 0):
		return place{}, errInvalid
	case name[0] == '/':
		return place{}, errNotPermitted
	}
	p := place{dir: d, path: strings.TrimRight(name, "/")}
	p.slash = p.path != name
	if f, ok := d.files[path.Clean(name)]; ok {
		p.file = &f
		if p.slash {
			return place{}, errNotDir
		}
	} else if d.root == nil && !itself(name) {
		return place{}, errNoEntry
	}
	return p, success
}

// split cuts a path into its parent and its last name. Unlike path.Split it
// resolves nothing: what ".." means is for the file system to say.
func split(name string) (parent, last string) {
	if i := strings.LastIndexByte(name, '/'); i >= 0 {
		return name[:i+1], name[i+1:]
	}
	return ".", name
}

// itself reports whether a path is nothing but dots and slashes that stay.
func itself(name string) bool {
	return strings.Trim(name, "./") == "" && !strings.Contains(name, "..")
}

// place finds the directory of a call and checks its path.
func (s *System) place(fd uint32, f frame, arg int) (place, errno) {
	d, e := s.directory(fd)
	if e != success {
		return place{}, e
	}
	name, e := f.path(arg)
	if e != success {
		return place{}, e
	}
	return d.at(name)
}

func (s *System) directory(fd uint32) (*directory, errno) {
	d, e := s.table.get(fd)
	if e != success {
		return nil, e
	}
	switch on := d.file.(type) {
	case *directory:
		return on, success
	case *regular:
		return nil, errNotDir
	}
	return nil, errBadFD
}

// changeable says whether the place may be created, removed or altered.
func (p place) changeable() errno {
	switch {
	case p.file != nil && p.file.mount.readOnly, p.file == nil && p.dir.mount.readOnly:
		return errReadOnly
	case p.dir.root == nil && p.file == nil:
		return errReadOnly // nothing but mounted files lives there
	}
	return success
}

// entry is the place for calls on the name itself and not on what it leads to:
// a mounted file cannot be removed, renamed or replaced.
func (p place) entry() errno {
	if e := p.changeable(); e != success {
		return e
	}
	if p.file != nil {
		return errBusy
	}
	return success
}

// stat is the state of the place; follow looks through a last symbolic link.
func (p place) stat(follow bool) (fs.FileInfo, error) {
	if p.file != nil {
		return p.file.root.Stat(p.file.base)
	}
	if p.dir.root == nil {
		return emptyDirectory{}, nil
	}
	if follow || p.slash {
		info, err := p.dir.root.Stat(p.path)
		if err == nil && p.slash && !info.IsDir() {
			return nil, errNotDir
		}
		return info, err
	}
	return p.dir.root.Lstat(p.path)
}

// openMount opens what a Mount names. A file becomes a directory that holds
// just that file, since preview1 can preopen nothing else.
func openMount(m Mount) (*descriptor, error) {
	if !path.IsAbs(m.Guest) {
		return nil, errors.New("the guest's path is not absolute")
	}
	guest := path.Clean(m.Guest)
	info, err := os.Stat(m.Host)
	if err != nil {
		return nil, err
	}
	dir := &directory{mount: &mount{readOnly: m.ReadOnly, quota: m.Quota}}
	switch {
	case info.IsDir():
		if dir.root, err = os.OpenRoot(m.Host); err != nil {
			return nil, err
		}
	case info.Mode().IsRegular():
		parent, err := os.OpenRoot(filepath.Dir(m.Host))
		if err != nil {
			return nil, err
		}
		file := mountedFile{mount: dir.mount, root: parent, base: filepath.Base(m.Host)}
		dir.files = map[string]mountedFile{path.Base(guest): file}
		guest = path.Dir(guest)
	default:
		return nil, errors.New("neither a directory nor a regular file")
	}
	return preopened(dir, guest), nil
}

func preopened(dir *directory, guest string) *descriptor {
	d := &descriptor{file: dir, preopen: true, name: guest, rights: rightsOfPreopen, inherit: rightsBelowPreopen}
	if dir.mount.readOnly || dir.root == nil {
		d.rights &^= rightsToChange
		d.inherit &^= rightsToChange
	}
	return d
}
