package wasmrt

import (
	"fmt"
	"unicode/utf8"
)

// decoder reads the WebAssembly binary format. The first thing wrong stops it:
// every read after that gives zeroes, and err says what and where.
// Source: WebAssembly core specification 2.0, section 5.
type decoder struct {
	b    []byte
	pos  int
	base int // of b in the module
	err  error
}

func (d *decoder) fail(at int, format string, args ...any) {
	if d.err == nil {
		d.err = &MalformedError{Offset: d.base + at, Reason: fmt.Sprintf(format, args...)}
	}
	d.pos = len(d.b)
}

func (d *decoder) done() bool { return d.pos >= len(d.b) }

func (d *decoder) byte() byte {
	if d.done() {
		d.fail(d.pos, "unexpected end")
		return 0
	}
	d.pos++
	return d.b[d.pos-1]
}

// u32 is an unsigned LEB128 of at most 32 bits.
func (d *decoder) u32() uint32 {
	start, v := d.pos, uint64(0)
	for shift := 0; shift < 35; shift += 7 {
		c := d.byte()
		v |= uint64(c&0x7f) << shift
		if c&0x80 == 0 {
			if v > 1<<32-1 {
				break
			}
			return uint32(v)
		}
	}
	d.fail(start, "a number does not fit 32 bits")
	return 0
}

// skip passes over a signed or unsigned LEB128 of at most 64 bits.
func (d *decoder) skipNumber() {
	start := d.pos
	for range 10 {
		if d.byte()&0x80 == 0 {
			return
		}
	}
	d.fail(start, "a number does not fit 64 bits")
}

// count is the length of a vector whose elements take at least one byte each,
// so that it can be trusted as an upper bound for what to hold.
func (d *decoder) count(what string) int {
	start := d.pos
	n := d.u32()
	if uint64(n) > uint64(len(d.b)-d.pos) {
		d.fail(start, "%d %s announced, but only %d bytes follow", n, what, len(d.b)-d.pos)
		return 0
	}
	return int(n)
}

func (d *decoder) take(n int) []byte {
	if n > len(d.b)-d.pos {
		d.fail(d.pos, "unexpected end")
		return nil
	}
	d.pos += n
	return d.b[d.pos-n : d.pos]
}

func (d *decoder) name() string {
	start := d.pos
	b := d.take(d.count("bytes of a name"))
	if !utf8.Valid(b) {
		d.fail(start, "a name is not UTF-8")
	}
	return string(b)
}

// section is a decoder of the n bytes that follow.
func (d *decoder) section(n int) decoder {
	base := d.base + d.pos
	return decoder{b: d.take(n), base: base, err: d.err}
}
