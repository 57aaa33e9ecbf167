package rewrite

// helper is a function that we append to the guest's.
type helper int

const (
	chargeHelper helper = iota // (i64): takes that much from the fuel
	fillHelper                 // (i32 to, i32 value, i32 n): memory.fill
	copyHelper                 // (i32 to, i32 from, i32 n): memory.copy
	deepHelper                 // (): traps
	helperCount
)

var helperNames = [helperCount]string{
	chargeHelper: "charge fuel", fillHelper: "memory.fill", copyHelper: "memory.copy",
	deepHelper: "call stack exhausted",
}

// A bulk operation weighs its bytes shifted by bulkShift. Up to bulkShort bytes
// its opcode's weight covers it; from there on a helper does it, bulkChunk bytes
// at a time.
const (
	bulkShift = 3
	bulkShort = 1 << 10
	bulkChunk = 1 << 20
)

// bulk writes a bulk operation. Its length is the topmost value of all.
func (w *writer) bulk(p point) {
	w.out = appendOp(w.out, opLocalTee, w.length)
	w.out = appendOp(w.out, opLocalGet, w.length)
	original := w.body.code[p.from:p.to]
	switch p.sub {
	case miscMemoryFill, miscMemoryCopy:
		h := fillHelper
		if p.sub == miscMemoryCopy {
			h = copyHelper
		}
		w.out = appendI32Const(w.out, bulkShort)
		w.out = append(w.out, opI32GtU, opIf)
		w.out = appendSigned(w.out, int64(w.m.bulkType()))
		w.out = appendOp(w.out, opCall, w.m.helper(h))
		w.out = append(w.out, opElse)
		w.out = append(w.out, original...)
		w.out = append(w.out, opEnd)
		return
	case miscMemoryInit:
		w.out = append(w.out, opI64ExtendI32U)
		w.out = appendI64Const(w.out, bulkShift)
		w.out = append(w.out, opI64ShrU)
	default: // references of 8 bytes
		w.out = append(w.out, opI64ExtendI32U)
	}
	w.out = appendOp(w.out, opCall, w.m.helper(chargeHelper))
	w.out = append(w.out, original...)
}

// helpers appends the bodies of the helpers to out.
func (m *module) helpers(out []byte) []byte {
	for h := range helperCount {
		var b []byte
		switch h {
		case chargeHelper:
			b = m.chargeBody()
		case fillHelper:
			b = m.bulkBody(m.fills, m.fillSteps)
		case copyHelper:
			b = m.bulkBody(m.copies, m.copySteps)
		case deepHelper:
			b = []byte{0, opUnreachable, opEnd}
		}
		out = appendBytes(out, b)
	}
	return out
}

func (m *module) chargeBody() []byte {
	b := []byte{0}
	b = appendOp(b, opGlobalGet, m.fuel())
	b = append(b, opLocalGet, 0, opI64Sub, opLocalTee, 0)
	b = appendOp(b, opGlobalSet, m.fuel())
	b = append(b, opLocalGet, 0, opI64Const, 0, opI64LtS, opIf, emptyType)
	b = appendOp(b, opCall, m.tick())
	return append(b, opEnd, opEnd)
}

// The locals of the helpers for bulk operations.
const (
	to     = 0
	source = 1 // an address, or the value
	count  = 2
)

// bulkBody frames what fill and copy do step by step.
func (m *module) bulkBody(used bool, steps func([]byte) []byte) []byte {
	b := []byte{0}
	if used {
		b = steps(b)
	}
	return append(b, opEnd)
}

func (m *module) fillSteps(b []byte) []byte {
	fill := []byte{opLocalGet, to, opLocalGet, source, opLocalGet, count, opMisc, miscMemoryFill, 0}
	b = outOfBounds(b, to)
	b = append(b, opIf, emptyType)
	b = append(append(b, fill...), opEnd) // which traps, nothing written
	b = append(b, opLoop, emptyType, opLocalGet, count)
	b = append(appendI32Const(b, bulkChunk), opI32GtU, opIf, emptyType)
	b = m.chargeChunk(b)
	b = appendI32Const(append(b, opLocalGet, to, opLocalGet, source), bulkChunk)
	b = append(b, opMisc, miscMemoryFill, 0)
	b = advance(b, to)
	b = shorten(b)
	b = append(b, opBr, 1, opEnd, opEnd)
	b = m.chargeRest(b)
	return append(b, fill...)
}

// copySteps copies from the front when the target lies before the source, else
// from the back: a chunk never overwrites what a later one reads.
func (m *module) copySteps(b []byte) []byte {
	whole := []byte{opLocalGet, to, opLocalGet, source, opLocalGet, count, opMisc, miscMemoryCopy, 0, 0}
	b = outOfBounds(b, to)
	b = append(b, opIf, emptyType)
	b = append(append(b, whole...), opEnd)
	b = outOfBounds(b, source)
	b = append(b, opIf, emptyType)
	b = append(append(b, whole...), opEnd)
	b = append(b, opLoop, emptyType, opLocalGet, count)
	b = append(appendI32Const(b, bulkChunk), opI32GtU, opIf, emptyType)
	b = m.chargeChunk(b)
	b = shorten(b)
	b = append(b, opLocalGet, to, opLocalGet, source, opI32LeU, opIf, emptyType)
	b = appendI32Const(append(b, opLocalGet, to, opLocalGet, source), bulkChunk)
	b = append(b, opMisc, miscMemoryCopy, 0, 0)
	b = advance(b, to)
	b = advance(b, source)
	b = append(b, opElse)
	b = append(b, opLocalGet, to, opLocalGet, count, opI32Add, opLocalGet, source, opLocalGet, count, opI32Add)
	b = append(appendI32Const(b, bulkChunk), opMisc, miscMemoryCopy, 0, 0)
	b = append(b, opEnd, opBr, 1, opEnd, opEnd)
	b = m.chargeRest(b)
	return append(b, whole...)
}

// outOfBounds leaves whether the count bytes from an address end past memory.
func outOfBounds(b []byte, address byte) []byte {
	const pageShift = 16
	b = append(b, opLocalGet, address, opI64ExtendI32U, opLocalGet, count, opI64ExtendI32U, opI64Add)
	b = append(b, opMemorySize, 0, opI64ExtendI32U)
	return append(appendI64Const(b, pageShift), opI64Shl, opI64GtU)
}

func (m *module) chargeChunk(b []byte) []byte {
	return appendOp(appendI64Const(b, bulkChunk>>bulkShift), opCall, m.helper(chargeHelper))
}

func (m *module) chargeRest(b []byte) []byte {
	b = append(b, opLocalGet, count, opI64ExtendI32U)
	b = append(appendI64Const(b, bulkShift), opI64ShrU)
	return appendOp(b, opCall, m.helper(chargeHelper))
}

func advance(b []byte, local byte) []byte {
	return append(appendI32Const(append(b, opLocalGet, local), bulkChunk), opI32Add, opLocalSet, local)
}

func shorten(b []byte) []byte {
	return append(appendI32Const(append(b, opLocalGet, count), bulkChunk), opI32Sub, opLocalSet, count)
}
