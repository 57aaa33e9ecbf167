package wasi

import (
	"encoding/binary"
	"math"

	"github.com/tetratelabs/wazero/api"
)

// memory is the guest's linear memory during one call. Views into it are the
// guest's own bytes: nothing is copied on the way in or out, and nothing may
// keep a view after the call, because memory.grow and exit may move it.
type memory []byte

func memoryOf(mod api.Module) memory {
	m := mod.Memory()
	n := m.Size()
	if n == 0 { // none, or exactly 4 GiB, which 32 bits cannot say
		n = math.MaxUint32
	}
	b, _ := m.Read(0, n)
	return b
}

// view is n bytes at ptr; false when any of them lies outside.
func (m memory) view(ptr, n uint32) ([]byte, bool) {
	end := uint64(ptr) + uint64(n)
	if end > uint64(len(m)) {
		return nil, false
	}
	return m[ptr:end:end], true
}

func (m memory) text(ptr, n uint32) (string, errno) {
	if n > maxPath {
		return "", errNameTooLong
	}
	b, ok := m.view(ptr, n)
	if !ok {
		return "", errFault
	}
	return string(b), success
}

func (m memory) u32(ptr uint32) (uint32, bool) {
	b, ok := m.view(ptr, 4)
	if !ok {
		return 0, false
	}
	return binary.LittleEndian.Uint32(b), true
}

func (m memory) putU16(ptr uint32, v uint16) errno {
	b, ok := m.view(ptr, 2)
	if !ok {
		return errFault
	}
	binary.LittleEndian.PutUint16(b, v)
	return success
}

func (m memory) putU32(ptr, v uint32) errno {
	b, ok := m.view(ptr, 4)
	if !ok {
		return errFault
	}
	binary.LittleEndian.PutUint32(b, v)
	return success
}

func (m memory) putU64(ptr uint32, v uint64) errno {
	b, ok := m.view(ptr, 8)
	if !ok {
		return errFault
	}
	binary.LittleEndian.PutUint64(b, v)
	return success
}

// vectors gathers the n buffers of an iovec array into dst, at most maxTransfer
// bytes in all: a caller that asks for more gets a short count and comes again,
// so no single call can hold the host for long.
func (m memory) vectors(dst [][]byte, ptr, n uint32) ([][]byte, errno) {
	if n > maxVectors {
		return nil, errInvalid
	}
	table, ok := m.view(ptr, n*8)
	if !ok {
		return nil, errFault
	}
	room := uint32(maxTransfer)
	for ; len(table) > 0; table = table[8:] {
		b, ok := m.view(binary.LittleEndian.Uint32(table), binary.LittleEndian.Uint32(table[4:]))
		if !ok {
			return nil, errFault
		}
		take := min(uint32(len(b)), room)
		if take > 0 {
			dst = append(dst, b[:take])
			room -= take
		}
	}
	return dst, success
}
