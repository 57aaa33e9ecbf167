package wasi

import (
	"errors"
	"io"
	"sync/atomic"
)

// inlet is a guest's standard input: any io.Reader, read ahead.
type inlet struct {
	source io.Reader
	buffer []byte // what ahead reads into; grows with what comes, since most of it waits for nothing
	wants  int    // how large buffer should be next
	rest   []byte // what the guest has not taken yet
	next   ahead[[]byte]
	ended  atomic.Bool // Terminate said so
	over   bool        // the reader said so

	terminal bool
}

func newInlet(r io.Reader) *inlet {
	in := &inlet{}
	in.init(r)
	return in
}

func (in *inlet) init(r io.Reader) {
	in.source, in.over, in.wants = r, r == nil, firstBuffer
	if r != nil {
		in.next.run = in.fill
	}
}

func (in *inlet) kind() filetype { return kindOfStream(in.terminal) }

// kindOfStream is what isatty(3) goes by: a character device is a terminal, and
// a stream of which no more is known is none, as in wasmtime.
func kindOfStream(terminal bool) filetype {
	if terminal {
		return typeCharacterDevice
	}
	return typeUnknown
}

func (in *inlet) close() error { return nil }

// fill is the blocking read, on ahead's goroutine.
func (in *inlet) fill() ([]byte, error) {
	if len(in.buffer) < in.wants {
		in.buffer = make([]byte, in.wants)
	}
	for range 100 { // as bufio: a reader that keeps giving nothing is broken
		n, err := in.source.Read(in.buffer)
		if n == len(in.buffer) {
			in.wants = min(2*n, streamBuffer)
		}
		if n > 0 {
			return in.buffer[:n], nil
		}
		if err != nil {
			return nil, err
		}
	}
	return nil, io.ErrNoProgress
}

func (in *inlet) read(p []byte) (int, errno) {
	if in.ended.Load() || in.over || len(p) == 0 {
		return 0, success
	}
	if len(in.rest) == 0 {
		b, err := in.next.take()
		switch {
		case in.ended.Load():
			return 0, success
		case errors.Is(err, io.EOF):
			in.over = true
			return 0, success
		case err != nil:
			return 0, toErrno(err)
		}
		in.rest = b
	}
	n := copy(p, in.rest)
	in.rest = in.rest[n:]
	return n, success
}

func (in *inlet) write([]byte) (int, errno) { return 0, errBadFD }

func (in *inlet) Poll(dir Direction, wake func()) (bool, func()) {
	if in.over || len(in.rest) > 0 || in.ended.Load() {
		return true, nil
	}
	return in.next.Poll(dir, wake)
}

// end makes the guest see the end of its input from now on.
func (in *inlet) end() {
	in.ended.Store(true)
	in.next.stop()
}

// release lets go of the reader, so that a blocked Read returns.
func (in *inlet) release() {
	in.end()
	if c, ok := in.source.(io.Closer); ok {
		c.Close()
	}
}

// outlet is standard output or error: any io.Writer, straight from the guest's
// memory. A nil writer takes everything and keeps nothing.
type outlet struct {
	sink     io.Writer
	terminal bool
}

func (o *outlet) kind() filetype { return kindOfStream(o.terminal) }
func (*outlet) close() error     { return nil }

func (*outlet) read([]byte) (int, errno) { return 0, errBadFD }

func (o *outlet) write(p []byte) (int, errno) {
	if o.sink == nil {
		return len(p), success
	}
	n, err := o.sink.Write(p)
	if n > 0 {
		return n, success
	}
	return 0, toErrno(err)
}

func (*outlet) Poll(Direction, func()) (bool, func()) { return true, nil }
