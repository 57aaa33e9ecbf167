package wasi

import (
	"encoding/binary"
	"io/fs"
	"math"
	"os"
	"time"
)

// filestat is preview1's filestat record: 64 bytes.
type filestat struct {
	dev, ino, links, size uint64
	kind                  filetype
	atim, mtim, ctim      int64 // nanoseconds since 1970
}

const filestatSize = 64

func (m memory) putFilestat(ptr uint32, st filestat) errno {
	b, ok := m.view(ptr, filestatSize)
	if !ok {
		return errFault
	}
	clear(b)
	binary.LittleEndian.PutUint64(b, st.dev)
	binary.LittleEndian.PutUint64(b[8:], st.ino)
	b[16] = byte(st.kind)
	binary.LittleEndian.PutUint64(b[24:], st.links)
	binary.LittleEndian.PutUint64(b[32:], st.size)
	binary.LittleEndian.PutUint64(b[40:], uint64(max(st.atim, 0)))
	binary.LittleEndian.PutUint64(b[48:], uint64(max(st.mtim, 0)))
	binary.LittleEndian.PutUint64(b[56:], uint64(max(st.ctim, 0)))
	return success
}

func filetypeOf(mode fs.FileMode) filetype {
	switch {
	case mode.IsRegular():
		return typeRegular
	case mode.IsDir():
		return typeDirectory
	case mode&fs.ModeSymlink != 0:
		return typeSymlink
	case mode&fs.ModeSocket != 0:
		return typeSocketStream
	case mode&fs.ModeCharDevice != 0:
		return typeCharacterDevice
	case mode&fs.ModeDevice != 0:
		return typeBlockDevice
	}
	return typeUnknown
}

// filestatOf is what every system knows; details adds what only some do.
func filestatOf(info fs.FileInfo) filestat {
	t := info.ModTime().UnixNano()
	st := filestat{links: 1, size: uint64(info.Size()), kind: filetypeOf(info.Mode()), atim: t, mtim: t, ctim: t}
	st.details(info)
	return st
}

// emptyDirectory stands for a directory that exists only in the guest's eyes,
// to hold the files that are mounted into it.
type emptyDirectory struct{}

func (emptyDirectory) Name() string       { return "." }
func (emptyDirectory) Size() int64        { return 0 }
func (emptyDirectory) Mode() fs.FileMode  { return fs.ModeDir | 0o555 }
func (emptyDirectory) ModTime() time.Time { return time.Unix(0, 0) }
func (emptyDirectory) IsDir() bool        { return true }
func (emptyDirectory) Sys() any           { return nil }

func fdFilestatGet(s *System, f frame) errno {
	d, e := s.table.get(f.fd(0))
	if e != success {
		return e
	}
	st := filestat{kind: d.kind()}
	switch on := d.file.(type) {
	case *regular:
		info, err := on.f.Stat()
		if err != nil {
			return toErrno(err)
		}
		st = filestatOf(info)
	case *directory:
		info, err := place{dir: on, path: "."}.stat(true)
		if err != nil {
			return toErrno(err)
		}
		st = filestatOf(info)
	}
	return f.mem.putFilestat(f.u32(1), st)
}

func pathFilestatGet(s *System, f frame) errno {
	p, e := s.place(f.fd(0), f, 2)
	if e != success {
		return e
	}
	info, err := p.stat(f.u32(1)&lookupFollow != 0)
	if err != nil {
		return toErrno(err)
	}
	return f.mem.putFilestat(f.u32(4), filestatOf(info))
}

func fdFilestatSetSize(s *System, f frame) errno {
	r, e := s.file(f.fd(0))
	if e != success {
		return e
	}
	return r.truncate(f.u64(1))
}

const (
	setAtime    = 1
	setAtimeNow = 2
	setMtime    = 4
	setMtimeNow = 8
)

// times are what fst_flags ask for; a zero time stays as it is.
type times struct{ access, modify time.Time }

func timesOf(atim, mtim uint64, flags uint32) (times, errno) {
	if flags > setAtime|setAtimeNow|setMtime|setMtimeNow {
		return times{}, errInvalid
	}
	now := time.Now()
	access, e := timeOf(atim, flags&setAtime != 0, flags&setAtimeNow != 0, now)
	if e != success {
		return times{}, e
	}
	modify, e := timeOf(mtim, flags&setMtime != 0, flags&setMtimeNow != 0, now)
	return times{access, modify}, e
}

func timeOf(at uint64, set, setNow bool, now time.Time) (time.Time, errno) {
	switch {
	case set && setNow:
		return time.Time{}, errInvalid
	case set && at > math.MaxInt64:
		return time.Time{}, errOverflow
	case set:
		return time.Unix(0, int64(at)), success
	case setNow:
		return now, success
	}
	return time.Time{}, success
}

func fdFilestatSetTimes(s *System, f frame) errno {
	t, e := timesOf(f.u64(1), f.u64(2), f.u32(3))
	if e != success {
		return e
	}
	d, e := s.table.get(f.fd(0))
	if e != success {
		return e
	}
	switch on := d.file.(type) {
	case *regular:
		if on.mount.readOnly {
			return errReadOnly
		}
		return toErrno(setTimes(on.f, t))
	case *directory:
		if e := (place{dir: on}).changeable(); e != success {
			return e
		}
		return toErrno(on.root.Chtimes(".", t.access, t.modify))
	}
	return errBadFD
}

func pathFilestatSetTimes(s *System, f frame) errno {
	t, e := timesOf(f.u64(4), f.u64(5), f.u32(6))
	if e != success {
		return e
	}
	p, e := s.place(f.fd(0), f, 2)
	if e != success {
		return e
	}
	if e := p.changeable(); e != success {
		return e
	}
	if p.file != nil {
		return toErrno(p.file.root.Chtimes(p.file.base, t.access, t.modify))
	}
	if f.u32(1)&lookupFollow == 0 && !p.slash {
		if info, err := p.dir.root.Lstat(p.path); err == nil && info.Mode()&os.ModeSymlink != 0 {
			return toErrno(setLinkTimes(p, t))
		}
	}
	return toErrno(p.dir.root.Chtimes(p.path, t.access, t.modify))
}
