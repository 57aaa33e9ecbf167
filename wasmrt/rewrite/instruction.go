package rewrite

// scanner reads the instructions of one function. It checks every index against
// what the guest's own module has, since the rewritten one has more: a guest
// that could name our global would have all the fuel it wants.
type scanner struct {
	reader
	m      *module
	locals int // of this function, parameters included
	open   int // blocks that are open, the function itself not counted
	branch func(label uint32)

	at     int    // where the instruction begins
	op     byte   // its opcode
	sub    uint32 // the opcode after a prefix
	arg    uint32 // its immediate: an index, or a constant
	arg2   uint32 // its second immediate
	weight int
}

// next reads one instruction.
func (s *scanner) next() {
	s.at = s.pos
	s.op = s.byte()
	code := opcodes[s.op]
	s.weight = int(code.weight)
	switch code.shape {
	case plain:
		if s.op == opThrowRef {
			s.exceptional()
		}
	case local:
		s.arg = s.index("local", s.locals)
	case memarg:
		s.memarg()
	case signed32:
		s.arg = uint32(s.signed(32))
	case global:
		s.arg = s.index("global", s.m.globalCount())
	case blockType:
		s.blockType()
	case label:
		s.arg = s.label()
	case function:
		s.function()
	case signed64:
		s.signed(64)
	case indirect:
		s.arg = s.index("type", len(s.m.types))
		s.arg2 = s.u32()
	case labels:
		s.branchTable()
	case table:
		s.arg = s.u32()
	case zeroByte:
		s.memoryIndex()
	case bytes4:
		s.take(4)
	case bytes8:
		s.take(8)
	case typedSelect:
		s.typedSelect()
	case reference:
		s.m.referenceType(&s.reader)
	case tag:
		s.exceptional()
		s.arg = s.index("tag", s.m.tags)
	case catches:
		s.exceptional()
		s.tryTable()
	case prefix:
		s.prefixed()
	default:
		s.unknown()
	}
}

func (s *scanner) exceptional() {
	if !s.m.limits.Exceptions {
		s.refuse(s.at, exceptions)
	}
}

// unknown names the proposal that an opcode comes from.
func (s *scanner) unknown() {
	switch s.op {
	case 0x06, 0x07, 0x09, 0x18, 0x19:
		s.refuse(s.at, legacyExceptions)
	case 0x14, 0x15, 0xd4, 0xd5, 0xd6:
		s.refuse(s.at, typedReferences)
	case 0xd3, opGC:
		s.refuse(s.at, garbageCollected)
	case opAtomic:
		s.refuse(s.at, threads)
	default:
		s.fail(s.at, "instruction 0x%02x does not exist", s.op)
	}
}

func (s *scanner) label() uint32 {
	l := s.index("label", s.open+1)
	if s.branch != nil {
		s.branch(l)
	}
	return l
}

func (s *scanner) function() {
	s.arg = s.index("function", s.m.functionCount())
	if s.op != opRefFunc && int(s.arg) < len(s.m.imported) {
		s.weight = weightImport
	}
}

// memarg reads an alignment and an offset. Bit 6 of the alignment announces a
// memory in the multi-memory proposal.
func (s *scanner) memarg() {
	at := s.pos
	if align := s.u32(); align >= 64 && align < 128 {
		s.refuse(at, multiMemory)
	} else if align >= 32 {
		s.fail(at, "an alignment of 2^%d", align)
	}
	s.u32()
}

// memoryIndex is read by wazero as a single byte, so it has to be one.
func (s *scanner) memoryIndex() {
	at := s.pos
	if i := s.byte(); i != 0 {
		s.refuse(at, multiMemory)
	}
}

// blockType leaves in arg how many values go in and out.
func (s *scanner) blockType() {
	at := s.pos
	s.arg = 0
	if s.done() {
		s.fail(at, "unexpected end")
		return
	}
	if c := s.b[s.pos]; c == emptyType || c >= 0x60 && c < 0x80 {
		s.pos++
		if c != emptyType {
			s.m.valueType(&s.reader, at, c)
			s.arg = 1
		}
		return
	}
	n := s.signed(33)
	if n < 0 || n >= int64(len(s.m.types)) {
		s.fail(at, "block of type %d of %d", n, len(s.m.types))
		return
	}
	t := s.m.types[n]
	s.arg = uint32(len(t.params) + len(t.results))
}

func (s *scanner) branchTable() {
	n := s.count("targets of a br_table", 1, s.m.limits.BranchTargets)
	for range n + 1 {
		s.label()
	}
	s.weight += n / 64
	s.arg = uint32(n)
}

// typedSelect is read by wazero as two bytes, so it has to be those.
func (s *scanner) typedSelect() {
	at := s.pos
	if n := s.byte(); n != 1 {
		s.fail(at, "a select of %d types", n)
	}
	s.m.valueType(&s.reader, s.pos, s.byte())
}

func (s *scanner) tryTable() {
	const catch, catchRef, catchAll, catchAllRef = 0, 1, 2, 3
	s.blockType()
	for range s.count("catches", 2, s.m.limits.BranchTargets) {
		at := s.pos
		switch kind := s.byte(); kind {
		case catch, catchRef:
			s.index("tag", s.m.tags)
			s.label()
		case catchAll, catchAllRef:
			s.label()
		default:
			s.fail(at, "a catch of kind %d", kind)
		}
		if s.err != nil {
			return
		}
	}
}

func (s *scanner) prefixed() {
	s.sub = s.u32()
	if s.op == opVector {
		s.vector()
		return
	}
	switch s.sub {
	case 0, 1, 2, 3, 4, 5, 6, 7: // saturating truncation
		s.weight = 2
	case miscMemoryInit:
		s.arg = s.index("data segment", s.m.dataCount)
		s.memoryIndex()
	case miscDataDrop:
		s.arg = s.index("data segment", s.m.dataCount)
	case miscMemoryCopy:
		s.memoryIndex()
		s.memoryIndex()
	case miscMemoryFill:
		s.memoryIndex()
	case miscTableInit, miscTableCopy:
		s.arg, s.arg2 = s.u32(), s.u32()
	case miscElemDrop, miscTableGrow, miscTableSize, miscTableFill:
		s.arg = s.u32()
	case 19, 20, 21, 22:
		s.refuse(s.at, wideArithmetic)
	default:
		s.fail(s.at, "instruction 0xfc %d does not exist", s.sub)
	}
	if s.sub >= miscMemoryInit && s.sub != miscTableSize {
		s.weight = weightBulk
	}
}

// vector reads what follows opVector. wazero takes the opcode for a single byte
// and the second byte of a longer one, which is 1 for all that it knows, for a
// nop; so an opcode that is not in its shortest form would mean one thing to us
// and another to wazero.
func (s *scanner) vector() {
	length := s.pos - s.at - 1
	if shortest := 1 + min(s.sub>>7, 1); s.sub <= 0xff && length != int(shortest) {
		s.fail(s.at, "instruction 0xfd %d in %d bytes", s.sub, length)
		return
	}
	memory, lanes, ok := vectorShape(s.sub)
	switch {
	case s.sub > 0xff && s.sub < 0x140:
		s.refuse(s.at, relaxedSIMD)
	case !ok:
		s.fail(s.at, "instruction 0xfd %d does not exist", s.sub)
	}
	if memory {
		s.memarg()
		s.weight = weightLoad
	}
	s.take(lanes)
}
