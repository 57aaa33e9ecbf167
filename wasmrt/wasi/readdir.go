package wasi

import (
	"encoding/binary"
	"errors"
	"io"
	"io/fs"
	"os"
	"slices"
)

const (
	direntSize   = 24
	listingBatch = 128 // entries held at a time, however large the directory
)

// listing is a directory being read: a window of entries that moves forward.
// An entry's cookie is the number of entries before it plus one, "." and ".."
// included, so that cookie 0 starts and any cookie can be returned to.
type listing struct {
	handle *os.File // nil: only mounted files
	extra  []fs.DirEntry
	hidden map[string]mountedFile
	first  uint64 // cookie-order position of window[0], counted after ".."
	window []fs.DirEntry
	over   bool
}

func (d *directory) open() (*listing, error) {
	l := &listing{hidden: d.files}
	for name, f := range d.files {
		if info, err := f.root.Stat(f.base); err == nil {
			l.extra = append(l.extra, renamedEntry{fs.FileInfoToDirEntry(info), name})
		}
	}
	slices.SortFunc(l.extra, func(a, b fs.DirEntry) int {
		if a.Name() < b.Name() {
			return -1
		}
		return 1
	})
	l.window = l.extra
	if d.root == nil {
		l.over = true
		return l, nil
	}
	f, err := d.root.Open(".")
	l.handle = f
	return l, err
}

// renamedEntry is a mounted file under its name in the guest.
type renamedEntry struct {
	fs.DirEntry
	name string
}

func (e renamedEntry) Name() string { return e.name }

func (l *listing) close() error {
	if l.handle == nil {
		return nil
	}
	return l.handle.Close()
}

// at is entry n, or nil past the end. Going back before the window fails; the
// caller starts anew.
func (l *listing) at(n uint64) (fs.DirEntry, error) {
	for n >= l.first+uint64(len(l.window)) {
		if l.over {
			return nil, nil
		}
		entries, err := l.handle.ReadDir(listingBatch)
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, err
		}
		l.over = len(entries) == 0
		l.first += uint64(len(l.window))
		l.window = slices.DeleteFunc(entries, func(e fs.DirEntry) bool {
			_, covered := l.hidden[e.Name()]
			return covered
		})
	}
	return l.window[n-l.first], nil
}

// fdReaddir fills the buffer with entries from the cookie on. The last one may
// be cut short: the guest sees a full buffer and comes again with a cookie. The
// buffer is filled however large it is, because one that is not full is the end
// of the directory.
func fdReaddir(s *System, f frame) errno {
	d, e := s.directory(f.fd(0))
	if e != success {
		if e == errNotDir {
			return errBadFD // as in wasmtime, for this call
		}
		return e
	}
	size := f.u32(2)
	buf, ok := f.mem.view(f.u32(1), size)
	if !ok {
		return errFault
	}
	left, e := d.fill(s, buf, f.u64(3))
	if e != success {
		return e
	}
	return f.mem.putU32(f.u32(4), size-uint32(len(left)))
}

func (d *directory) fill(s *System, buf []byte, cookie uint64) ([]byte, errno) {
	if d.list != nil && (cookie == 0 || max(cookie, 2)-2 < d.list.first) {
		d.list.close()
		d.list = nil
	}
	if d.list == nil {
		var err error
		if d.list, err = d.open(); err != nil {
			d.list = nil
			return nil, toErrno(err)
		}
	}
	for ; len(buf) > 0; cookie++ {
		if cookie%listingBatch == 0 {
			s.enter() // a large buffer takes long
		}
		var name string
		kind := typeDirectory
		switch cookie {
		case 0:
			name = "."
		case 1:
			name = ".."
		default:
			entry, err := d.list.at(cookie - 2)
			if err != nil {
				return nil, toErrno(err)
			}
			if entry == nil {
				return buf, success
			}
			name, kind = entry.Name(), filetypeOf(entry.Type())
		}
		buf = putDirent(buf, cookie+1, d.inode(name), kind, name)
	}
	return buf, success
}

// inode of an entry; ".." is shown as the directory itself, because what lies
// above is none of the guest's business.
func (d *directory) inode(name string) uint64 {
	if name == ".." {
		name = "."
	}
	p, e := d.at(name)
	if e != success {
		return 0
	}
	info, err := p.stat(false)
	if err != nil {
		return 0
	}
	return filestatOf(info).ino
}

func putDirent(buf []byte, next, inode uint64, kind filetype, name string) []byte {
	var head [direntSize]byte
	binary.LittleEndian.PutUint64(head[:], next)
	binary.LittleEndian.PutUint64(head[8:], inode)
	binary.LittleEndian.PutUint32(head[16:], uint32(len(name)))
	head[20] = byte(kind)
	buf = buf[copy(buf, head[:]):]
	return buf[copy(buf, name):]
}
