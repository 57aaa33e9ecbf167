package httpwasm

import (
	"fmt"
	"strings"

	"github.com/tetratelabs/wazero/api"
)

// frame is one call as the guest made it: its memory and its raw arguments.
type frame struct {
	name   string
	memory api.Memory
	stack  []uint64
}

// fail ends the guest in a trap.
func (c frame) fail(format string, args ...any) {
	panic(&Misuse{Function: c.name, Reason: fmt.Sprintf(format, args...)})
}

func (c frame) u32(i int) uint32 { return uint32(c.stack[i]) }

func (c frame) answer(v uint64) { c.stack[0] = v }

// bytes are the guest's own, at argument i, of the length in the one after it.
// They are good until the call ends.
func (c frame) bytes(i int) []byte {
	if c.memory == nil {
		c.fail("the module exports no memory")
	}
	b, ok := c.memory.Read(c.u32(i), c.u32(i+1))
	if !ok {
		c.fail("%d bytes at %d are not all in memory", c.u32(i+1), c.u32(i))
	}
	return b
}

// maxText bounds a name, a value, a URI or a log message.
const maxText = 64 << 10

func (c frame) text(i int) string {
	if c.u32(i+1) > maxText {
		c.fail("a text of %d bytes; %d are allowed", c.u32(i+1), maxText)
	}
	return string(c.bytes(i))
}

// put writes a text where arguments i and i+1 give it room, if it fits, and
// answers its length.
func (c frame) put(i int, text string) {
	if len(text) > 0 && uint64(len(text)) <= uint64(c.u32(i+1)) {
		copy(c.room(i, len(text)), text)
	}
	c.answer(uint64(len(text)))
}

// putAll writes texts, each with a zero behind it, and answers how many they are
// in the upper half and their length in the lower.
func (c frame) putAll(i int, list []string) {
	length := len(list)
	for _, text := range list {
		length += len(text)
	}
	if length > 0 && uint64(length) <= uint64(c.u32(i+1)) {
		b := c.room(i, length)
		for _, text := range list {
			n := copy(b, text)
			b[n] = 0
			b = b[n+1:]
		}
	}
	c.answer(uint64(len(list))<<32 | uint64(length))
}

// room is where the guest wants n bytes to be written.
func (c frame) room(i, n int) []byte {
	if c.memory == nil {
		c.fail("the module exports no memory")
	}
	b, ok := c.memory.Read(c.u32(i), uint32(n))
	if !ok {
		c.fail("%d bytes at %d are not all in memory", n, c.u32(i))
	}
	return b
}

// token reports whether a text is a name as RFC 9110 section 5.6.2 has it.
func token(text string) bool {
	return text != "" && strings.IndexFunc(text, func(r rune) bool {
		return r <= ' ' || r >= 0x7f || strings.ContainsRune(`"(),/:;<=>?@[\]{}`, r)
	}) < 0
}

// value reports whether a text can be the value of a header: no control bytes,
// which could end the line that it stands in.
func value(text string) bool {
	return strings.IndexFunc(text, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }) < 0
}
