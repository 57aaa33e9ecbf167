package rewrite

import "encoding/binary"

func appendU32(b []byte, v uint32) []byte { return binary.AppendUvarint(b, uint64(v)) }

func appendSigned(b []byte, v int64) []byte {
	for {
		c := byte(v & 0x7f)
		v >>= 7
		if v == 0 && c&0x40 == 0 || v == -1 && c&0x40 != 0 {
			return append(b, c)
		}
		b = append(b, c|0x80)
	}
}

func appendBytes(b, v []byte) []byte { return append(appendU32(b, uint32(len(v))), v...) }

func appendName(b []byte, v string) []byte { return append(appendU32(b, uint32(len(v))), v...) }

func appendSection(b []byte, id byte, body []byte) []byte { return appendBytes(append(b, id), body) }

// appendOp appends an instruction with one unsigned immediate.
func appendOp(b []byte, op byte, immediate uint32) []byte { return appendU32(append(b, op), immediate) }

func appendI32Const(b []byte, v int32) []byte { return appendSigned(append(b, opI32Const), int64(v)) }

func appendI64Const(b []byte, v int64) []byte { return appendSigned(append(b, opI64Const), v) }
