package wasi

// Flags of sock_recv and sock_shutdown, as preview1 numbers them.
const (
	recvPeek      = 1
	recvWaitAll   = 2
	recvTruncated = 1 // of the flags that come back
	shutdownRead  = 1
	shutdownSend  = 2
)

// sockAccept takes the next connection of a listener. The new descriptor has
// the flags that the guest asks for, of which only nonblock is allowed.
func sockAccept(s *System, f frame) errno {
	flags := fdflags(f.u32(1))
	if flags&^flagNonblock != 0 {
		return errInvalid
	}
	fd, e := s.accept(f.fd(0), flags)
	if e != success {
		return e
	}
	return f.mem.putU32(f.u32(2), fd)
}

func (s *System) accept(fd uint32, flags fdflags) (uint32, errno) {
	d, e := s.table.get(fd)
	if e != success {
		return 0, e
	}
	l, ok := d.file.(*listening)
	if !ok {
		return 0, misused(d)
	}
	if e := s.table.room(); e != success {
		return 0, e
	}
	for {
		c, e := l.take()
		if e == errAgain && d.blocking() && !s.await(l, Read, d.patience[Read]) {
			continue
		}
		if e != success {
			return 0, e
		}
		d := &descriptor{file: newConnection(c), flags: flags, rights: rightsOfSocket &^ rightAccept}
		fd, e := s.table.add(d)
		if e != success { // others took what there was room for
			d.close()
		}
		return fd, e
	}
}

// misused is the answer to a socket call on a descriptor of another kind.
func misused(d *descriptor) errno {
	switch d.file.(type) {
	case *connection, *datagrams:
		return errInvalid
	case *listening, *unborn, *dialing:
		return errNotConnected
	}
	return errNotSocket
}

func sockRecv(s *System, f frame) errno {
	d, e := s.table.get(f.fd(0))
	if e != success {
		return e
	}
	bufs, e := f.mem.vectors(s.vectors[:0], f.u32(1), f.u32(2))
	if e != success {
		return e
	}
	s.vectors = bufs[:0]
	n, flags, e := s.receive(d, bufs, f.u32(3))
	if e != success {
		return e
	}
	if e := f.mem.putU32(f.u32(4), n); e != success {
		return e
	}
	return f.mem.putU16(f.u32(5), flags)
}

// receive reads from a socket that has a peer.
func (s *System) receive(d *descriptor, bufs [][]byte, flags uint32) (uint32, uint16, errno) {
	if flags&^(recvPeek|recvWaitAll) != 0 {
		return 0, 0, errNotSupported
	}
	switch on := d.file.(type) {
	case *connection:
		move := on.read
		if flags&recvPeek != 0 {
			move = on.peek
			bufs = bufs[:min(len(bufs), 1)]
		}
		t := transfer{d: d, on: on, dir: Read, all: flags&recvWaitAll != 0, move: move}
		n, e := t.run(s, bufs)
		return n, 0, e
	case *datagrams:
		n, cut, _, e := s.receiveDatagram(d, on, bufs, flags&recvPeek != 0)
		return n, cut, e
	}
	return 0, 0, misused(d)
}

func sockSend(s *System, f frame) errno {
	d, e := s.table.get(f.fd(0))
	if e != success {
		return e
	}
	if f.u32(3) != 0 {
		return errNotSupported // preview1 defines no send flag
	}
	bufs, e := f.mem.vectors(s.vectors[:0], f.u32(1), f.u32(2))
	if e != success {
		return e
	}
	s.vectors = bufs[:0]
	var n uint32
	switch on := d.file.(type) {
	case *connection:
		t := transfer{d: d, on: on, dir: Write, all: true, move: on.write}
		n, e = t.run(s, bufs)
	case *datagrams:
		n, e = on.send(bufs, on.peer)
	default:
		e = misused(d)
	}
	if e != success {
		return e
	}
	return f.mem.putU32(f.u32(4), n)
}

func sockShutdown(s *System, f frame) errno {
	how := f.u32(1)
	if how == 0 || how&^(shutdownRead|shutdownSend) != 0 {
		return errInvalid
	}
	d, e := s.table.get(f.fd(0))
	if e != success {
		return e
	}
	c, ok := d.file.(*connection)
	if !ok {
		return misused(d)
	}
	return c.shutdown(how&shutdownRead != 0, how&shutdownSend != 0)
}

// transfer moves the bytes of one call between a stream and the guest.
type transfer struct {
	d    *descriptor
	on   Pollable
	dir  Direction
	all  bool // wait for every byte and not just the first
	move func([]byte) (int, errno)
}

// run waits for the first byte if the descriptor blocks. What has moved is
// reported even if an error stopped the rest; the error comes again. A read of
// nothing is the end.
func (t transfer) run(s *System, bufs [][]byte) (uint32, errno) {
	total := 0
	for i := 0; i < len(bufs); {
		n, e := t.move(bufs[i])
		if e == errAgain && t.d.blocking() && (total == 0 || t.all) && !s.await(t.on, t.dir, t.d.patience[t.dir]) {
			continue
		}
		if e != success {
			if total > 0 {
				e = success
			}
			return uint32(total), e
		}
		total += n
		if n == len(bufs[i]) {
			i++
			continue
		}
		if n == 0 && t.dir == Read || !t.all {
			break
		}
		bufs[i] = bufs[i][n:]
	}
	return uint32(total), success
}
