package wasmtest

// Instructions without operands.
var (
	Unreachable = []byte{0x00}
	Return      = []byte{0x0f}
	Drop        = []byte{0x1a}
	End         = []byte{0x0b}
	I32Add      = []byte{0x6a}
	I32DivU     = []byte{0x6e}
	I64Sub      = []byte{0x7d}
	I64LtS      = []byte{0x53}
	Loop        = []byte{0x03, 0x40} // without results
	Block       = []byte{0x02, 0x40}
	If          = []byte{0x04, 0x40}
	MemoryGrow  = []byte{0x40, 0x00}
	MemorySize  = []byte{0x3f, 0x00}
	I32Load     = []byte{0x28, 0x02, 0x00}
	I32Store    = []byte{0x36, 0x02, 0x00}
)

// I32 pushes a constant.
func I32(v int32) []byte { return sleb([]byte{0x41}, int64(v)) }

// I64 pushes a constant.
func I64(v int64) []byte { return sleb([]byte{0x42}, v) }

// Call calls a function.
func Call(index uint32) []byte { return leb([]byte{0x10}, uint64(index)) }

// LocalGet pushes a parameter or local.
func LocalGet(index uint32) []byte { return leb([]byte{0x20}, uint64(index)) }

// GlobalGet pushes a global.
func GlobalGet(index uint32) []byte { return leb([]byte{0x23}, uint64(index)) }

// GlobalSet pops into a global.
func GlobalSet(index uint32) []byte { return leb([]byte{0x24}, uint64(index)) }

// Br jumps to the depth-th enclosing block.
func Br(depth uint32) []byte { return leb([]byte{0x0c}, uint64(depth)) }
