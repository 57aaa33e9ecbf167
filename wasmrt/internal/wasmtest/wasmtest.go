// Package wasmtest assembles small WebAssembly modules for tests, where a
// compiler would hide what is tested. It knows the binary format and nothing of
// how modules run.
//
//	var m wasmtest.Module
//	exit := m.Import("wasi_snapshot_preview1", "proc_exit", "i", "")
//	m.Memory(1, 1)
//	m.Export("_start", wasmtest.Func, m.Func("", "", wasmtest.I32(3), wasmtest.Call(exit)))
//	code := m.Bytes()
package wasmtest

import (
	"encoding/binary"
	"slices"
)

// Kinds of exports.
const (
	Func   = 0
	Table  = 1
	Memory = 2
	Global = 3
)

// Module collects sections. Imports come before functions: an index that Func
// returned would shift otherwise.
type Module struct {
	types, imports, funcs, exports, codes, globals, datas [][]byte

	memory, table, start []byte
	imported, defined    uint32
}

// types spells value types: i is i32, I is i64, f is f32, F is f64.
func types(letters string) []byte {
	out := leb(nil, uint64(len(letters)))
	for _, c := range letters {
		out = append(out, map[rune]byte{'i': 0x7f, 'I': 0x7e, 'f': 0x7d, 'F': 0x7c}[c])
	}
	return out
}

func (m *Module) signature(params, results string) uint32 {
	t := slices.Concat([]byte{0x60}, types(params), types(results))
	for i, have := range m.types {
		if slices.Equal(have, t) {
			return uint32(i)
		}
	}
	m.types = append(m.types, t)
	return uint32(len(m.types) - 1)
}

// Import adds an imported function and returns its index.
func (m *Module) Import(module, name, params, results string) uint32 {
	if m.defined > 0 {
		panic("wasmtest: an import after a function")
	}
	i := slices.Concat(text(module), text(name), []byte{0}, leb(nil, uint64(m.signature(params, results))))
	m.imports = append(m.imports, i)
	m.imported++
	return m.imported - 1
}

// Func adds a function without locals of its own and returns its index. The
// closing end is added.
func (m *Module) Func(params, results string, code ...[]byte) uint32 {
	return m.FuncWithLocals(params, results, []byte{0}, code...)
}

// FuncWithLocals is Func with the declaration of locals as it stands in the
// binary.
func (m *Module) FuncWithLocals(params, results string, locals []byte, code ...[]byte) uint32 {
	m.funcs = append(m.funcs, leb(nil, uint64(m.signature(params, results))))
	body := slices.Concat(locals, slices.Concat(code...), []byte{0x0b})
	m.codes = append(m.codes, slices.Concat(leb(nil, uint64(len(body))), body))
	m.defined++
	return m.imported + m.defined - 1
}

// Memory gives the module a memory of min to max pages, exported as "memory".
func (m *Module) Memory(min, max uint32) {
	m.memory = slices.Concat([]byte{1, 1}, leb(nil, uint64(min)), leb(nil, uint64(max)))
	m.Export("memory", Memory, 0)
}

// FuncTable gives the module a table of n empty function references.
func (m *Module) FuncTable(n uint32) {
	m.table = slices.Concat([]byte{1, 0x70, 0}, leb(nil, uint64(n)))
}

// MutableI64 adds a global and returns its index.
func (m *Module) MutableI64(value int64) uint32 {
	m.globals = append(m.globals, slices.Concat([]byte{0x7e, 1}, I64(value), []byte{0x0b}))
	return uint32(len(m.globals) - 1)
}

// Export makes something of the module visible.
func (m *Module) Export(name string, kind byte, index uint32) {
	m.exports = append(m.exports, slices.Concat(text(name), []byte{kind}, leb(nil, uint64(index))))
}

// Start makes a function run at instantiation.
func (m *Module) Start(index uint32) { m.start = leb(nil, uint64(index)) }

// Data places bytes in the memory at the start.
func (m *Module) Data(offset int32, b []byte) {
	m.datas = append(m.datas, slices.Concat([]byte{0}, I32(offset), []byte{0x0b}, leb(nil, uint64(len(b))), b))
}

// Bytes is the module in the binary format.
func (m *Module) Bytes() []byte {
	out := []byte("\x00asm\x01\x00\x00\x00")
	section := func(id byte, b []byte) {
		if len(b) > 0 {
			out = slices.Concat(out, []byte{id}, leb(nil, uint64(len(b))), b)
		}
	}
	section(1, vector(m.types))
	section(2, vector(m.imports))
	section(3, vector(m.funcs))
	section(4, m.table)
	section(5, m.memory)
	section(6, vector(m.globals))
	section(7, vector(m.exports))
	section(8, m.start)
	section(10, vector(m.codes))
	section(11, vector(m.datas))
	return out
}

func vector(list [][]byte) []byte {
	if len(list) == 0 {
		return nil
	}
	return slices.Concat(leb(nil, uint64(len(list))), slices.Concat(list...))
}

func text(s string) []byte { return append(leb(nil, uint64(len(s))), s...) }

func leb(b []byte, v uint64) []byte { return binary.AppendUvarint(b, v) }

func sleb(b []byte, v int64) []byte {
	for {
		c := byte(v & 0x7f)
		v >>= 7
		if v == 0 && c&0x40 == 0 || v == -1 && c&0x40 != 0 {
			return append(b, c)
		}
		b = append(b, c|0x80)
	}
}
