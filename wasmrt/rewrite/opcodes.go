package rewrite

// Instructions that the rewriter knows by name.
// Source: WebAssembly core specification 2.0, section 5.4, and the proposals for
// tail calls and exception handling.
const (
	opUnreachable        = 0x00
	opBlock              = 0x02
	opLoop               = 0x03
	opIf                 = 0x04
	opElse               = 0x05
	opThrow              = 0x08
	opThrowRef           = 0x0a
	opEnd                = 0x0b
	opBr                 = 0x0c
	opBrIf               = 0x0d
	opBrTable            = 0x0e
	opReturn             = 0x0f
	opCall               = 0x10
	opCallIndirect       = 0x11
	opReturnCall         = 0x12
	opReturnCallIndirect = 0x13
	opTryTable           = 0x1f
	opLocalGet           = 0x20
	opLocalSet           = 0x21
	opLocalTee           = 0x22
	opGlobalGet          = 0x23
	opGlobalSet          = 0x24
	opTableSet           = 0x26
	opMemorySize         = 0x3f
	opMemoryGrow         = 0x40
	opI32Const           = 0x41
	opI64Const           = 0x42
	opF32Const           = 0x43
	opF64Const           = 0x44
	opI32LtU             = 0x49
	opI32GtU             = 0x4b
	opI32LeU             = 0x4d
	opI64LtS             = 0x53
	opI64GtS             = 0x55
	opI64GtU             = 0x56
	opI32Add             = 0x6a
	opI32Sub             = 0x6b
	opI64Add             = 0x7c
	opI64Sub             = 0x7d
	opI64Shl             = 0x86
	opI64ShrU            = 0x88
	opI64ExtendI32U      = 0xad
	opRefNull            = 0xd0
	opRefFunc            = 0xd2
	opGC                 = 0xfb
	opMisc               = 0xfc
	opVector             = 0xfd
	opAtomic             = 0xfe

	miscMemoryInit = 8
	miscDataDrop   = 9
	miscMemoryCopy = 10
	miscMemoryFill = 11
	miscTableInit  = 12
	miscElemDrop   = 13
	miscTableCopy  = 14
	miscTableGrow  = 15
	miscTableSize  = 16
	miscTableFill  = 17

	vectorConst   = 12
	vectorShuffle = 13
)

// shape is what follows an opcode.
type shape uint8

const (
	undefined shape = iota
	plain           // nothing
	blockType
	label
	labels // br_table
	function
	indirect // a type and a table
	typedSelect
	local
	global
	table
	memarg
	zeroByte // a memory, of which there is one
	signed32
	signed64
	bytes4
	bytes8
	reference
	tag
	catches // try_table
	prefix  // another opcode
)

// Value types.
const (
	typeI32       = 0x7f
	typeI64       = 0x7e
	typeF32       = 0x7d
	typeF64       = 0x7c
	typeV128      = 0x7b
	typeFuncref   = 0x70
	typeExternref = 0x6f
	typeExnref    = 0x69
	emptyType     = 0x40
	functionForm  = 0x60
)

// An instruction weighs about what it costs, in units of which a core does some
// three thousand million a second. None weighs less than one, so that a bound
// on the weight is one on the instructions.
const (
	weightLoad     = 2
	weightDivide   = 8
	weightRoot     = 6
	weightCall     = 6
	weightIndirect = 16
	weightImport   = 60
	weightGrow     = 2_000
	weightThrow    = 1_000
	weightTry      = 2_000 // wazero copies the stack
	weightBulk     = 64    // and by its length on top
	weightRefFunc  = 60    // wazero leaves the guest for it
)

type opcode struct {
	shape  shape
	weight uint16
}

// opcodes are all instructions of one byte.
var opcodes = func() (t [256]opcode) {
	set := func(from, to int, s shape, weight uint16) {
		for i := from; i <= to; i++ {
			t[i] = opcode{s, weight}
		}
	}
	set(0x00, 0x01, plain, 1)
	set(0x02, 0x04, blockType, 1)
	set(0x05, 0x05, plain, 1)
	set(opThrow, opThrow, tag, weightThrow)
	set(opThrowRef, opThrowRef, plain, weightThrow)
	set(opEnd, opEnd, plain, 1)
	set(opBr, opBrIf, label, 1)
	set(opBrTable, opBrTable, labels, 4)
	set(opReturn, opReturn, plain, 1)
	set(opCall, opCall, function, weightCall)
	set(opCallIndirect, opCallIndirect, indirect, weightIndirect)
	set(opReturnCall, opReturnCall, function, weightCall)
	set(opReturnCallIndirect, opReturnCallIndirect, indirect, weightIndirect)
	set(0x1a, 0x1b, plain, 1)
	set(0x1c, 0x1c, typedSelect, 1)
	set(opTryTable, opTryTable, catches, weightTry)
	set(0x20, 0x22, local, 1)
	set(0x23, 0x24, global, 1)
	set(0x25, opTableSet, table, weightLoad)
	set(0x28, 0x3e, memarg, weightLoad)
	set(opMemorySize, opMemorySize, zeroByte, 1)
	set(opMemoryGrow, opMemoryGrow, zeroByte, weightGrow)
	set(opI32Const, opI32Const, signed32, 1)
	set(opI64Const, opI64Const, signed64, 1)
	set(opF32Const, opF32Const, bytes4, 1)
	set(opF64Const, opF64Const, bytes8, 1)
	set(0x45, 0xc4, plain, 1)
	set(0x6d, 0x70, plain, weightDivide) // i32
	set(0x7f, 0x82, plain, weightDivide) // i64
	set(0x91, 0x91, plain, weightRoot)   // f32.sqrt
	set(0x95, 0x95, plain, weightRoot)   // f32.div
	set(0x9f, 0x9f, plain, weightRoot)   // f64.sqrt
	set(0xa3, 0xa3, plain, weightRoot)   // f64.div
	set(opRefNull, opRefNull, reference, 1)
	set(0xd1, 0xd1, plain, 1)
	set(opRefFunc, opRefFunc, function, weightRefFunc)
	set(opMisc, opVector, prefix, 1)
	return t
}()

// vectors are the instructions after opVector, by the memory access and the
// lanes that follow them; what is not here does not exist.
func vectorShape(op uint32) (memory bool, lanes int, ok bool) {
	switch {
	case op <= 11, op == 92, op == 93:
		return true, 0, true
	case op == vectorConst, op == vectorShuffle:
		return false, 16, true
	case op >= 21 && op <= 34:
		return false, 1, true
	case op >= 84 && op <= 91:
		return true, 1, true
	}
	switch op {
	case 0x9a, 0xa2, 0xa5, 0xa6, 0xaf, 0xb0, 0xb2, 0xb3, 0xb4, 0xbb, 0xc2, 0xc5, 0xc6,
		0xcf, 0xd0, 0xd2, 0xd3, 0xd4, 0xe2, 0xee:
		return false, 0, false
	}
	return false, 0, op <= 0xff
}
