package rewrite

// A constant expression initialises a global, or says where a segment goes.
// Source: WebAssembly core specification 2.0, section 3.3.7, and the proposal
// for extended constant expressions.

// constant reads one, and appends it to out with its functions renumbered.
func (m *module) constant(r *reader, out []byte) []byte {
	start := r.pos
	for n := 0; ; n++ {
		if n > m.limits.ConstantLength {
			r.fail(start, "a constant expression of more than %d instructions", m.limits.ConstantLength)
		}
		at := r.pos
		op := r.byte()
		if op == opRefFunc {
			f := r.index("function", m.functionCount())
			m.address(f)
			out = appendOp(out, opRefFunc, m.shift(f))
			continue
		}
		m.constantOp(r, at, op)
		if r.err != nil {
			return out
		}
		out = append(out, r.b[at:r.pos]...)
		if op == opEnd {
			return out
		}
	}
}

func (m *module) constantOp(r *reader, at int, op byte) {
	switch op {
	case opEnd, opI32Add, opI32Sub, 0x6c, opI64Add, opI64Sub, 0x7e:
	case opI32Const:
		r.signed(32)
	case opI64Const:
		r.signed(64)
	case opF32Const:
		r.take(4)
	case opF64Const:
		r.take(8)
	case opGlobalGet:
		r.index("global", m.globalCount())
	case opRefNull:
		m.referenceType(r)
	case opVector:
		if sub := r.byte(); sub != vectorConst {
			r.fail(at, "instruction 0xfd %d in a constant expression", sub)
		}
		r.take(16)
	case opGC:
		r.refuse(at, garbageCollected)
	default:
		r.fail(at, "instruction 0x%02x in a constant expression", op)
	}
}

// i32Constant reports the value of an expression that is a single i32.const.
func i32Constant(expression []byte) (uint32, bool) {
	r := reader{b: expression}
	if r.byte() != opI32Const {
		return 0, false
	}
	v := uint32(r.signed(32))
	return v, r.byte() == opEnd && r.err == nil && r.done()
}

// shift is the number that a function has in the rewritten module: those that
// the guest defines make room for one import.
func (m *module) shift(f uint32) uint32 {
	if int(f) >= len(m.imported) {
		return f + 1
	}
	return f
}

// elements reads the element section, and appends it to out with its functions
// renumbered.
func (m *module) elements(r *reader, out []byte) []byte {
	m.references = 0
	n := r.count("element segments", 2, m.limits.Elements)
	out = appendU32(out, uint32(n))
	for range n {
		out = m.element(r, out)
		if r.err != nil {
			return out
		}
	}
	return out
}

func (m *module) element(r *reader, out []byte) []byte {
	const passive, explicit, expressions = 1, 2, 4
	at := r.pos
	flags := r.u32()
	if flags > passive|explicit|expressions {
		r.fail(at, "an element segment of kind %d", flags)
	}
	out = appendU32(out, flags)
	if flags&passive == 0 {
		if flags&explicit != 0 {
			out = appendU32(out, r.index("table", m.tableCount))
		}
		out = m.constant(r, out)
	}
	if flags&(passive|explicit) != 0 {
		out = append(out, m.elementKind(r, flags&expressions != 0))
	}
	at = r.pos
	count := r.count("references", 1, m.limits.Elements)
	m.references += count
	if m.references > m.limits.Elements {
		r.fail(at, "more than %d references in element segments", m.limits.Elements)
	}
	out = appendU32(out, uint32(count))
	for range count {
		if r.err != nil {
			return out
		}
		if flags&expressions != 0 {
			out = m.constant(r, out)
			continue
		}
		f := r.index("function", m.functionCount())
		m.address(f)
		out = appendU32(out, m.shift(f))
	}
	return out
}

func (m *module) elementKind(r *reader, expressions bool) byte {
	if expressions {
		return m.referenceType(r)
	}
	at := r.pos
	kind := r.byte()
	if kind != 0 {
		r.fail(at, "elements of kind %d", kind)
	}
	return kind
}
