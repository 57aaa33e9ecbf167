package wasi

import (
	"errors"
	"io"
	"math"
	"os"
)

// mount is what all descriptors below one mount share.
type mount struct {
	readOnly bool
	quota    *Quota // nil: none
}

// regular is an open file. Its position is kept here and not in the host's
// descriptor, so that reads and writes are each one system call at an offset.
type regular struct {
	f        *os.File
	mount    *mount
	stored   *stored // its part of the mount's quota; nil: none
	pos      uint64
	readable bool
	writable bool
}

func (*regular) kind() filetype { return typeRegular }

func (r *regular) close() error {
	if r.stored != nil {
		tree := &r.stored.quota.tree
		tree.Lock()
		defer tree.Unlock()
		return r.stored.leave(r.f)
	}
	return r.f.Close()
}

// Poll: a regular file is always ready, as poll(2) has it.
func (*regular) Poll(Direction, func()) (bool, func()) { return true, nil }

func (r *regular) readNext(bufs [][]byte) (uint32, errno) {
	n, e := r.readAt(bufs, r.pos)
	r.pos += uint64(n)
	return n, e
}

func (r *regular) readAt(bufs [][]byte, at uint64) (uint32, errno) {
	if !r.readable {
		return 0, errBadFD
	}
	if at > math.MaxInt64 {
		return 0, errInvalid
	}
	total := 0
	for _, b := range bufs {
		n, err := r.f.ReadAt(b, int64(at)+int64(total))
		total += n
		if errors.Is(err, io.EOF) || err != nil && total > 0 {
			break
		}
		if err != nil {
			return 0, toErrno(err)
		}
	}
	return uint32(total), success
}

func (r *regular) writeNext(bufs [][]byte, appends bool) (uint32, errno) {
	n, e := r.writeAt(bufs, r.pos, appends)
	if e != success {
		return n, e
	}
	if !appends {
		r.pos += uint64(n)
		return n, success
	}
	info, err := r.f.Stat()
	if err != nil {
		return n, toErrno(err)
	}
	r.pos = uint64(info.Size())
	return n, success
}

func (r *regular) writeAt(bufs [][]byte, at uint64, appends bool) (uint32, errno) {
	if !r.writable {
		return 0, errBadFD
	}
	if at > math.MaxInt64 {
		return 0, errInvalid
	}
	if r.stored != nil {
		return r.writeCounted(bufs, int64(at), appends)
	}
	n, err := r.put(bufs, int64(at), appends)
	return uint32(n), toErrno(err)
}

// writeCounted writes as much as the volume has room for.
func (r *regular) writeCounted(bufs [][]byte, at int64, appends bool) (uint32, errno) {
	s := r.stored
	s.mu.Lock()
	defer s.mu.Unlock()
	before := s.size
	if appends {
		at = before
	}
	bufs, e := s.reserve(bufs, at)
	if e != success {
		return 0, e
	}
	n, err := r.put(bufs, at, appends)
	s.wrote(before, at, n)
	return uint32(n), toErrno(err)
}

// put writes the buffers; an error after the first byte comes again with the
// next write.
func (r *regular) put(bufs [][]byte, at int64, appends bool) (total int, err error) {
	for _, b := range bufs {
		var n int
		if appends {
			n, err = appendTo(r.f, b)
		} else {
			n, err = r.f.WriteAt(b, at+int64(total))
		}
		total += n
		if err != nil && total > 0 {
			return total, nil
		}
		if err != nil {
			return 0, err
		}
	}
	return total, nil
}

func (r *regular) seek(offset int64, whence uint32) (uint64, errno) {
	var base uint64
	switch whence {
	case seekSet:
	case seekCur:
		base = r.pos
	case seekEnd:
		info, err := r.f.Stat()
		if err != nil {
			return 0, toErrno(err)
		}
		base = uint64(info.Size())
	default:
		return 0, errInvalid
	}
	pos := int64(base) + offset
	if pos < 0 { // before the start, or past what 63 bits hold
		return 0, errInvalid
	}
	r.pos = uint64(pos)
	return r.pos, success
}

func (r *regular) truncate(size uint64) errno {
	if !r.writable {
		return errInvalid
	}
	if size > math.MaxInt64 {
		return errFileTooBig
	}
	if r.stored != nil {
		return r.stored.truncate(r.f, int64(size))
	}
	return toErrno(r.f.Truncate(int64(size)))
}
