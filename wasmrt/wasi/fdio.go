package wasi

// What a descriptor leads to decides: a stream moves bytes as they come and
// may wait, a regular file has a position, anything else is not for reading.

func fdRead(s *System, f frame) errno {
	d, e := s.table.get(f.fd(0))
	if e != success {
		return e
	}
	bufs, e := f.mem.vectors(s.vectors[:0], f.u32(1), f.u32(2))
	if e != success {
		return e
	}
	s.vectors = bufs[:0]
	var n uint32
	switch on := d.file.(type) {
	case *regular:
		n, e = on.readNext(bufs)
	case stream:
		t := transfer{d: d, on: on, dir: Read, move: on.read}
		n, e = t.run(s, bufs)
	case *datagrams:
		n, _, _, e = s.receiveDatagram(d, on, bufs, false)
	case *listening, *unborn, *dialing:
		e = errNotConnected
	default:
		e = errBadFD
	}
	if e != success {
		return e
	}
	return f.mem.putU32(f.u32(3), n)
}

func fdWrite(s *System, f frame) errno {
	d, e := s.table.get(f.fd(0))
	if e != success {
		return e
	}
	bufs, e := f.mem.vectors(s.vectors[:0], f.u32(1), f.u32(2))
	if e != success {
		return e
	}
	s.vectors = bufs[:0]
	var n uint32
	switch on := d.file.(type) {
	case *regular:
		n, e = on.writeNext(bufs, d.flags&flagAppend != 0)
	case stream:
		t := transfer{d: d, on: on, dir: Write, all: true, move: on.write}
		n, e = t.run(s, bufs)
	case *datagrams:
		n, e = on.send(bufs, on.peer)
	case *listening, *unborn, *dialing:
		e = errNotConnected
	default:
		e = errBadFD
	}
	if e != success {
		return e
	}
	return f.mem.putU32(f.u32(3), n)
}

// positioned is a descriptor that can be read and written at an offset.
func (s *System) positioned(fd uint32) (*descriptor, *regular, errno) {
	d, e := s.table.get(fd)
	if e != success {
		return nil, nil, e
	}
	switch on := d.file.(type) {
	case *regular:
		return d, on, success
	case stream, *datagrams, *listening, *unborn, *dialing:
		return nil, nil, errIllegalSeek
	}
	return nil, nil, errBadFD
}

func fdPread(s *System, f frame) errno {
	_, r, e := s.positioned(f.fd(0))
	if e != success {
		return e
	}
	bufs, e := f.mem.vectors(s.vectors[:0], f.u32(1), f.u32(2))
	if e != success {
		return e
	}
	s.vectors = bufs[:0]
	n, e := r.readAt(bufs, f.u64(3))
	if e != success {
		return e
	}
	return f.mem.putU32(f.u32(4), n)
}

// fdPwrite ignores the offset on a descriptor that appends, as Linux does.
func fdPwrite(s *System, f frame) errno {
	d, r, e := s.positioned(f.fd(0))
	if e != success {
		return e
	}
	bufs, e := f.mem.vectors(s.vectors[:0], f.u32(1), f.u32(2))
	if e != success {
		return e
	}
	s.vectors = bufs[:0]
	n, e := r.writeAt(bufs, f.u64(3), d.flags&flagAppend != 0)
	if e != success {
		return e
	}
	return f.mem.putU32(f.u32(4), n)
}

const (
	seekSet = 0
	seekCur = 1
	seekEnd = 2
)

func fdSeek(s *System, f frame) errno {
	_, r, e := s.positioned(f.fd(0))
	if e != success {
		return e
	}
	pos, e := r.seek(int64(f.u64(1)), f.u32(2))
	if e != success {
		return e
	}
	return f.mem.putU64(f.u32(3), pos)
}

func fdTell(s *System, f frame) errno {
	_, r, e := s.positioned(f.fd(0))
	if e != success {
		return e
	}
	return f.mem.putU64(f.u32(1), r.pos)
}

func fdClose(s *System, f frame) errno {
	d, e := s.table.remove(f.fd(0))
	if e != success {
		return e
	}
	return toErrno(d.close())
}

func fdRenumber(s *System, f frame) errno { return s.table.renumber(f.fd(0), f.fd(1)) }

// file is a regular file's descriptor; any other answers badf, as in wasmtime.
func (s *System) file(fd uint32) (*regular, errno) {
	d, e := s.table.get(fd)
	if e != success {
		return nil, e
	}
	r, ok := d.file.(*regular)
	if !ok {
		return nil, errBadFD
	}
	return r, success
}

// fdAdvise takes the advice and leaves it to the host's own judgement.
func fdAdvise(s *System, f frame) errno {
	const lastAdvice = 5
	if f.u32(3) > lastAdvice {
		return errInvalid
	}
	_, e := s.file(f.fd(0))
	return e
}

// fdAllocate is not supported, as in wasmtime: few file systems can promise it.
func fdAllocate(s *System, f frame) errno {
	if _, e := s.file(f.fd(0)); e != success {
		return e
	}
	return errNotSupported
}

func fdDatasync(s *System, f frame) errno { return fdSync(s, f) }

func fdSync(s *System, f frame) errno {
	d, e := s.table.get(f.fd(0))
	if e != success {
		return e
	}
	switch on := d.file.(type) {
	case *regular:
		return toErrno(on.f.Sync())
	case *directory:
		return on.sync()
	}
	return errBadFD
}
