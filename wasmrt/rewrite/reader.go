package rewrite

import (
	"fmt"
	"unicode/utf8"
)

// reader reads the WebAssembly binary format. The first thing wrong stops it:
// every read after that gives zeroes, and err says what and where.
// Source: WebAssembly core specification 2.0, section 5.
type reader struct {
	b    []byte
	pos  int
	base int // of b in the module
	err  error
}

func (r *reader) fail(at int, format string, args ...any) {
	if r.err == nil {
		r.err = &Error{Offset: r.base + at, Reason: fmt.Sprintf(format, args...)}
	}
	r.pos = len(r.b)
}

func (r *reader) refuse(at int, f feature) {
	if r.err == nil {
		r.err = &UnsupportedFeatureError{Offset: r.base + at, Feature: f.name, Advice: f.advice}
	}
	r.pos = len(r.b)
}

func (r *reader) done() bool { return r.pos >= len(r.b) }

func (r *reader) byte() byte {
	if r.pos >= len(r.b) {
		r.fail(r.pos, "unexpected end")
		return 0
	}
	r.pos++
	return r.b[r.pos-1]
}

// u32 is an unsigned LEB128 of at most 32 bits.
func (r *reader) u32() uint32 {
	if r.pos < len(r.b) && r.b[r.pos] < 0x80 {
		r.pos++
		return uint32(r.b[r.pos-1])
	}
	return r.longU32()
}

func (r *reader) longU32() uint32 {
	start, v := r.pos, uint32(0)
	for shift := 0; shift < 35; shift += 7 {
		c := r.byte()
		if shift == 28 && c > 0x0f {
			break
		}
		v |= uint32(c&0x7f) << shift
		if c < 0x80 {
			return v
		}
	}
	r.fail(start, "a number does not fit 32 bits")
	return 0
}

// signed is a signed LEB128 of at most the given bits: 32, 33 or 64.
func (r *reader) signed(bits int) int64 {
	start, v := r.pos, int64(0)
	for shift := 0; shift < bits; shift += 7 {
		c := r.byte()
		v |= int64(c&0x7f) << shift
		if c >= 0x80 {
			continue
		}
		if left := bits - shift; left < 7 {
			// The bits past the last must repeat the sign.
			if high := int8(c<<1) >> left; high != 0 && high != -1 {
				break
			}
		}
		if shift+7 < 64 && c&0x40 != 0 {
			v |= -1 << (shift + 7)
		}
		return v
	}
	r.fail(start, "a number does not fit %d bits", bits)
	return 0
}

// count is the length of a vector whose elements take at least size bytes each:
// what it says is there, so that as many may be allocated.
func (r *reader) count(what string, size, limit int) int {
	start := r.pos
	n := r.u32()
	switch {
	case r.err != nil:
		return 0
	case uint64(n) > uint64(limit):
		r.fail(start, "%d %s; %d are allowed", n, what, limit)
		return 0
	case uint64(n)*uint64(size) > uint64(len(r.b)-r.pos):
		r.fail(start, "%d %s announced, but only %d bytes follow", n, what, len(r.b)-r.pos)
		return 0
	}
	return int(n)
}

// index is a number below limit.
func (r *reader) index(what string, limit int) uint32 {
	start := r.pos
	n := r.u32()
	if uint64(n) >= uint64(limit) {
		r.fail(start, "%s %d of %d", what, n, limit)
		return 0
	}
	return n
}

func (r *reader) take(n int) []byte {
	if n > len(r.b)-r.pos {
		r.fail(r.pos, "unexpected end")
		return nil
	}
	r.pos += n
	return r.b[r.pos-n : r.pos]
}

func (r *reader) bytes(what string) []byte { return r.take(r.count(what, 1, len(r.b))) }

func (r *reader) name() string {
	start := r.pos
	b := r.bytes("bytes of a name")
	if !utf8.Valid(b) {
		r.fail(start, "a name is not UTF-8")
	}
	return string(b)
}

// sub is a reader of the n bytes that follow.
func (r *reader) sub(n int) reader {
	base := r.base + r.pos
	return reader{b: r.take(n), base: base, err: r.err}
}

// end fails unless everything was read.
func (r *reader) end(what string) {
	if !r.done() {
		r.fail(r.pos, "%d bytes too many in %s", len(r.b)-r.pos, what)
	}
}
