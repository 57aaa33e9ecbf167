package wasi

import "encoding/binary"

const fdstatSize = 24

func fdFdstatGet(s *System, f frame) errno {
	d, e := s.table.get(f.fd(0))
	if e != success {
		return e
	}
	b, ok := f.mem.view(f.u32(1), fdstatSize)
	if !ok {
		return errFault
	}
	clear(b)
	b[0] = byte(d.kind())
	binary.LittleEndian.PutUint16(b[2:], uint16(d.flags))
	binary.LittleEndian.PutUint64(b[8:], uint64(d.rights))
	binary.LittleEndian.PutUint64(b[16:], uint64(d.inherit))
	return success
}

// fdFdstatSetFlags turns appending and waiting on and off. The flags that ask
// for synchronous writes cannot be changed, as in wasmtime.
func fdFdstatSetFlags(s *System, f frame) errno {
	flags := fdflags(f.u32(1))
	if f.u32(1) > uint32(allFlags) || flags&(flagDsync|flagRsync|flagSync) != 0 {
		return errInvalid
	}
	d, e := s.table.get(f.fd(0))
	if e != success {
		return e
	}
	if _, ok := d.file.(*directory); ok {
		return errBadFD
	}
	d.flags = flags
	return success
}

// fdFdstatSetRights is not supported, as in wasmtime: rights were withdrawn
// from the standard.
func fdFdstatSetRights(s *System, f frame) errno {
	if _, e := s.table.get(f.fd(0)); e != success {
		return e
	}
	return errNotSupported
}

// preopenSocket is the tag of a preopened descriptor that is no directory.
// Guests' libraries look for directories only and stop at the first badf, so a
// listener must answer with success and any other tag for them to go on.
const preopenSocket = 1

func fdPrestatGet(s *System, f frame) errno {
	d, e := s.table.get(f.fd(0))
	if e != success {
		return e
	}
	if !d.preopen {
		return errBadFD
	}
	b, ok := f.mem.view(f.u32(1), 8)
	if !ok {
		return errFault
	}
	clear(b)
	if d.kind() != typeDirectory {
		b[0] = preopenSocket
		return success
	}
	binary.LittleEndian.PutUint32(b[4:], uint32(len(d.name)))
	return success
}

func fdPrestatDirName(s *System, f frame) errno {
	d, e := s.table.get(f.fd(0))
	if e != success {
		return e
	}
	if !d.preopen || d.kind() != typeDirectory {
		return errNotDir
	}
	if uint32(len(d.name)) > f.u32(2) {
		return errNameTooLong
	}
	b, ok := f.mem.view(f.u32(1), uint32(len(d.name)))
	if !ok {
		return errFault
	}
	copy(b, d.name)
	return success
}
